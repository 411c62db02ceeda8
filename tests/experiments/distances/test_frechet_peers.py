"""The Frechet distance and Inception's features against torchmetrics' and torch-fidelity's own, on the same input."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.distances.frechet import Moments, frechet_distance

ROOT = Path(__file__).parents[3]
FILES = ("cases.npz", "found.json")
SHAPES = ((300, 200, 12), (500, 500, 64), (30, 40, 64))
"""Numbers and width; the last of lower rank than width."""


@pytest.fixture(scope="module")
def cases() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        (rng.standard_normal((n, width)) @ rng.standard_normal((width, width)), rng.gamma(2, 1, (m, width)))
        for n, m, width in SHAPES
    ]


@pytest.fixture(scope="module")
def peers(cases: list[tuple[np.ndarray, np.ndarray]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if importlib.util.find_spec("torchmetrics") is None:
        pytest.skip("torchmetrics is not installed")
    folder = tmp_path_factory.mktemp("peers")
    arrays: dict[str, Any] = {f"{side}{i}": pair["ab".index(side)] for i, pair in enumerate(cases) for side in "ab"}
    np.savez(folder / FILES[0], **arrays)
    # by its path: torch-fidelity installs a package named tests, which would take the place of this one
    command = [sys.executable, str(Path(__file__).with_name("peers.py")), *(str(folder / n) for n in FILES)]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / FILES[1]).read_text(encoding="utf-8"))


def _moments_of(features: np.ndarray) -> Moments:
    moments = Moments(features.shape[1])
    moments.update(torch.from_numpy(features))
    return moments


def _check(cases: list[tuple[np.ndarray, np.ndarray]], theirs: list[float]) -> None:
    for (a, b), known in zip(cases, theirs, strict=True):
        ours = frechet_distance(*map(_moments_of, (a, b)))
        # theirs takes roots of the product's eigenvalues, so where those are 0 it errs by sqrt(eps) for each of up to
        # 64, in units of the geometric mean of the traces; else by the product's condition number, up to 1e7, times eps
        size = (a.var(0).sum() * b.var(0).sum()) ** 0.5
        tolerance = 64 * 1.5e-8 * size if min(len(a), len(b)) <= a.shape[1] else 1e-8 * size
        assert ours == pytest.approx(known, rel=0, abs=tolerance)


def test_torchmetrics_agrees(peers: dict[str, Any], cases: list[tuple[np.ndarray, np.ndarray]]) -> None:
    _check(cases, peers["torchmetrics"])


def test_torch_fidelity_agrees(peers: dict[str, Any], cases: list[tuple[np.ndarray, np.ndarray]]) -> None:
    if "torch-fidelity" not in peers:
        pytest.skip("torch-fidelity is not installed: it belongs to the optional extra for FID")
    _check(cases, peers["torch-fidelity"])


def test_inception_is_torch_fidelitys(peers: dict[str, Any]) -> None:
    """By way of torchmetrics, grey images repeated over the channels, resizing as TensorFlow 1 does."""
    if "inception" not in peers:
        pytest.skip("torch-fidelity is not installed: it belongs to the optional extra for FID")
    ours, theirs = np.array(peers["inception"]["ours"]), np.array(peers["inception"]["theirs"])
    assert np.abs(theirs).max() > 0
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6 * np.abs(theirs).max())  # float32, 94 convolutions
