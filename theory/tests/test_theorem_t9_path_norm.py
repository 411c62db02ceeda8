from typing import Any

import numpy as np
import pytest
import sympy

from theory.claims import theorem_t9_path_norm as module
from theory.claims.theorem_t9_path_norm import (
    FROM_FLATNESS,
    PATH_FLATNESS,
    PATH_NORM,
    STATEMENT,
    TRACE,
    check_flatness,
    check_smoothness,
    networks,
)
from theory.model import path_norm
from theory.proof.statement import Evidence, InstanceCheck
from theory.proof.testing import every_evidence, finds_violation, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def _network(seed: int, d: int = 3, m: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((d, m)), rng.standard_normal((d, m)), rng.standard_normal(m)


def test_exact_moments_are_those_of_many_points() -> None:
    theta, W, b = _network(0)
    W[:, 0], b[0], b[1] = 0.0, 0.7, -1.0
    x = np.random.default_rng(1).standard_normal((200_000, 3))
    for extra in (0.0, 2.0):
        exact, sampled = path_norm.relu_moments(W, b, extra=extra), path_norm.relu_moments(W, b, x, extra)
        assert np.allclose(exact.energy, sampled.energy, rtol=0.03)  # 200,000 draws of fourth moments of order 10
        assert np.allclose(exact.reach, sampled.reach, rtol=0.03)
    assert exact.energy[0] == pytest.approx(0.49, rel=1e-12)
    trace = path_norm.gauss_newton_trace(theta, W, b)
    assert trace == pytest.approx(path_norm.gauss_newton_trace(theta, W, b, x), rel=0.03)


def test_columns_longer_than_a_number_may_be_have_moments() -> None:
    """Entries are allowed up to 1e60; the norm of a column of such is beyond."""
    W = np.full((2, 3), 1e60)
    energy, _ = path_norm.relu_moments(W, np.array([0.3, -1.0, 2.0]))
    assert energy == pytest.approx([1e120] * 3, rel=1e-12)  # |w|^2 / 2: the biases are nothing beside it


def test_rescaling_moves_the_trace_and_not_the_path_flatness() -> None:
    theta, W, b = _network(2)
    a = np.array([0.05, 1.0, 20.0, 3.0, 0.3])
    before, after = (theta, W, b), (theta / a, W * a, b * a)
    traces, floors = (
        [f(*net) for net in (before, after)] for f in (path_norm.gauss_newton_trace, path_norm.path_flatness)
    )
    assert traces[1] > 10 * traces[0]
    assert floors[1] == pytest.approx(floors[0], rel=1e-12)
    assert path_norm.gauss_newton_trace(*path_norm.balanced(*after)) == pytest.approx(floors[0], rel=1e-12)


def test_a_search_over_scales_finds_no_less() -> None:
    theta, W, b = _network(3, 2, 2)
    grid = np.exp(np.linspace(-3, 3, 121))
    least = min(
        path_norm.gauss_newton_trace(theta / a, W * a, b * a)
        for a in (np.array([p, q]) for p in grid for q in grid[::4])
    )
    floor = path_norm.path_flatness(theta, W, b)
    assert floor <= least < 1.02 * floor  # the grid's step, squared


def test_the_half_trace_is_the_rise_under_little_noise() -> None:
    """At targets with the network for their mean, by noise drawn on every weight."""
    theta, W, b = _network(4)
    rng = np.random.default_rng(5)
    x = rng.standard_normal((50, 3))
    clean = np.maximum(x @ W + b, 0) @ theta.T / 5
    rises = []
    for _ in range(4000):
        moved = [part + 1e-3 * rng.standard_normal(part.shape) for part in (theta, W)]
        rises.append(((np.maximum(x @ moved[1] + b, 0) @ moved[0].T / 5 - clean) ** 2).sum(axis=1).mean())
    expected = path_norm.gauss_newton_trace(theta, W, b, x) / 2 * 1e-6
    error = np.std(rises) / np.sqrt(len(rises))
    assert np.mean(rises) == pytest.approx(expected, abs=4 * error)


@pytest.mark.parametrize(
    ("name", "mutant", "check"),
    [
        ("TRACE", TRACE / 2, check_flatness),
        ("TRACE", -TRACE, check_flatness),
        ("PATH_FLATNESS", 2 * PATH_FLATNESS, check_flatness),
        ("PATH_NORM", PATH_NORM / module.m, check_smoothness),
        ("FROM_FLATNESS", FROM_FLATNESS / 2, check_smoothness),
    ],
)
def test_the_checks_kill_wrong_formulas(
    name: str, mutant: sympy.Expr, check: InstanceCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, mutant)
    assert finds_violation(networks(), check)


NORMS: Any = path_norm


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NORMS.path_norm(np.ones((2, 3)), np.ones((3, 2))), "theta has shape"),
        (lambda: NORMS.relu_moments(np.ones((2, 3)), np.ones(3), np.ones((4, 3))), "x has shape"),
        (lambda: NORMS.relu_moments(np.ones((2, 3)), np.ones(3), extra=-1.0), "extra is -1"),
    ],
)
def test_bad_shapes_are_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
