"""The chains beside the exact noise's, where their laws are known, and what is taken from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from findings.documents import read_document
from findings.provenance import ROOT
from theory import ode_law, sde_law
from toy import sampling_theorems as theorems
from toy.data import gaussian
from toy.models import ScoreModels, random_models
from toy.process import cosine_process
from toy.sampling_theorems import Setting, chain_steps, jacobians, of_t10, path_norms, walk

SETTING = Setting(seeds=1, points=4096, sampling_steps=200)
NORMAL = gaussian(torch.eye(2, dtype=torch.float64))


def linear(error: float) -> ScoreModels:
    """s(x) = (error - 1) x as max(x, 0) - max(-x, 0): for N(0, I) the exact score, but for the error."""
    identity = torch.eye(2, dtype=torch.float64)[None]
    W = torch.cat([identity, -identity], dim=2)
    return ScoreModels(
        (error - 1) * W, W, torch.zeros(1, 2, 4, dtype=torch.float64), cosine_process(), "relu", "score", divisor=1.0
    )


def length(setting: Setting) -> float:
    process = cosine_process()
    return float(-process.alphas_cumprod[chain_steps(process, setting)[-1]].log())


@pytest.mark.parametrize("sampler", theorems.SAMPLERS)
def test_exact_models_stay_with_the_exact_chain(sampler: str) -> None:
    walked = walk(linear(0.0), NORMAL, [0], sampler, SETTING)
    assert walked.apart.max() < 1e-10
    assert walked.errors.max() < 1e-12
    assert walked.gaps.max() < 1e-10


@pytest.mark.parametrize(("sampler", "law"), [("ancestral", sde_law), ("ddim", ode_law)])
def test_a_score_that_is_off_gives_the_law_of_theorem_t11(sampler: str, law: object) -> None:
    error = 0.15
    walked = walk(linear(error), NORMAL, [0], sampler, SETTING)
    expected = law(np.eye(1) * error, np.eye(1), np.zeros(1), length(SETTING))  # type: ignore[operator]
    variance = float(expected.covariance[0, 0])
    # 8,192 coordinates' variance has the relative error .016; the steps' is of the order of 1/200
    assert float(walked.samples.var()) == pytest.approx(variance, rel=0.06)
    other = {"ancestral": ode_law, "ddim": sde_law}[sampler](np.eye(1) * error, np.eye(1), np.zeros(1), length(SETTING))
    assert abs(float(walked.samples.var()) / float(other.covariance[0, 0]) - 1) > 0.2


@pytest.mark.parametrize("sampler", theorems.SAMPLERS)
def test_the_bound_is_never_exceeded_where_slopes_are_exact(sampler: str) -> None:
    """A linear network has one slope; the error grows in proportion to the points, so that steps are tight."""
    walked = walk(linear(0.3), NORMAL, [0], sampler, SETTING)
    norm = path_norms(linear(0.3)).numpy()
    numbers = of_t10(walked, norm)
    assert (numbers["tightness"] <= 1 + 1e-9).all()
    assert (numbers["tightness"] > 0.5).all()
    assert (numbers["bound over distance"] >= 1 - 1e-9).all()
    assert (10 ** numbers["decades by path norm"] >= numbers["bound over distance"] * (1 - 1e-9)).all()
    assert (numbers["gap over bound"] <= 1 + 1e-9).all()
    smaller = walked._replace(slopes=walked.slopes / 2)
    assert (of_t10(smaller, norm)["tightness"] > 1).all(), "half the slope is too little"


def test_slopes_by_differences() -> None:
    models = random_models(2, 2, 16, cosine_process(), divisor=1.0, dtype=torch.float64)
    x, step = torch.randn(2, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), 1e-6
    slopes = jacobians(models, x, 300)
    for axis in range(2):
        moved = x.clone()
        moved[..., axis] += step
        expected = (models.epsilon(moved, 300) - models.epsilon(x, 300)) / step
        torch.testing.assert_close(slopes[..., axis], expected, rtol=1e-4, atol=1e-6)
    assert (torch.linalg.matrix_norm(slopes, 2).amax(1) <= path_norms(models)).all()
    with pytest.raises(ValueError, match=r"models\.activation is 'tanh'"):
        jacobians(replace(models, activation="tanh"), x, 300)


def test_everything_runs_and_is_written_with_its_checksum(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    assert theorems.main(["--quick", "--out", str(out)]) == 0
    document = read_document(out)
    assert document["quick"]
    assert set(document["rows"]) == {f"{m}, {a}" for m in ("adm", "sam 0.0156", "sam 0.1") for a in ("raw", "ema")}
    ratio = document["comparisons"]["adm, raw: 4 bits, laws, DDIM over ancestral"]
    assert ratio["low"] < ratio["mean"] < ratio["high"]


def test_the_theorems_pages_say_what_was_measured() -> None:
    document = read_document(theorems.DEFAULT_OUT)
    assert not document["quick"]
    assert document["configuration"]["seeds"] == Setting().seeds
    page = " ".join((ROOT / "docs" / "theory" / "what_flatness_buys.md").read_text().split())
    for theorem, sentence in theorems.sentences(document).items():
        assert sentence in page, f"{theorem}: {sentence}"
