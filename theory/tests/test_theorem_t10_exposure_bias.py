from typing import Any

import numpy as np
import pytest
import sympy

from theory.claims import theorem_t10_exposure_bias as module
from theory.claims.theorem_t10_exposure_bias import NORM_GAP, SLOPE, STATEMENT, STEP, chains, check_steps, wasserstein
from theory.model import sampling
from theory.proof.statement import Evidence
from theory.proof.testing import every_evidence, finds_violation, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_the_best_assignment_is_sorting_on_the_line() -> None:
    one, other = np.random.default_rng(0).standard_normal((2, 9, 1))
    expected = np.sqrt(((np.sort(one[:, 0]) - np.sort(other[:, 0])) ** 2).mean())
    assert wasserstein(one, other) == pytest.approx(expected, rel=1e-12)
    assert wasserstein(one, one[::-1]) == 0


def test_the_steps_are_the_samplers_own() -> None:
    """At the exact noise of a point mass at c: DDIM stays on sqrt(bar) c + sqrt(1 - bar) e for ever."""
    bars = np.cos(np.linspace(0.1, 1.5, 20)) ** 2
    a, k = sampling.sampler_steps(bars, "ddim")
    c, e = 0.7, -1.3
    before = np.concatenate([[1.0], bars[:-1]])
    x = np.sqrt(bars) * c + np.sqrt(1 - bars) * e
    assert np.allclose(a * x - k * e, np.sqrt(before) * c + np.sqrt(1 - before) * e, rtol=1e-12)
    ancestral = sampling.sampler_steps(bars)
    assert np.allclose(ancestral.a, a)
    assert (ancestral.k > k)[1:].all()
    assert ancestral.k[0] == pytest.approx(k[0])  # the last step removes all noise in both


def test_the_recursion_by_hand() -> None:
    bounds = sampling.exposure_bound([2.0, 3.0], [1.0, 0.5], [0.1, 4.0], [0.0, 1.0], 0.2)  # type: ignore[arg-type]
    assert bounds == pytest.approx([2 * 3.6 + 0.1, 3 * 0.2 + 2 + 1, 0.2])
    assert sampling.norm_gap_bound(np.array(2.0), bounds) == pytest.approx(2 * bounds)


@pytest.mark.parametrize(
    ("name", "mutant"),
    [
        ("STEP", STEP - module.gain[module.t] * module.error[module.t]),
        ("STEP", STEP - module.drift[module.t]),
        ("SLOPE", SLOPE / 4),
        ("NORM_GAP", -NORM_GAP),
        ("NORM_GAP", NORM_GAP / 10),
    ],
)
def test_the_checks_kill_wrong_formulas(name: str, mutant: sympy.Expr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, name, mutant)
    assert finds_violation(chains(), check_steps)


EXPOSURE: Any = sampling


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: EXPOSURE.exposure_bound([1.0], [-1.0], [1.0]), "k has the entry -1"),
        (lambda: EXPOSURE.exposure_bound([1.0, 1.0], [1.0], [1.0]), "k has shape"),
        (lambda: EXPOSURE.exposure_bound([1e60] * 9, [1.0] * 9, [1.0] * 9), "slopes multiply the bound beyond"),
        (lambda: EXPOSURE.sampler_steps([0.5, 0.6]), "alpha_bar is"),
        (lambda: EXPOSURE.sampler_steps([0.6, 0.5], "euler"), "sampler is 'euler'"),
    ],
)
def test_what_has_no_bound_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
@pytest.mark.parametrize("last", [1e-15, 1e-17, 3.6e-78, 5e-324])
def test_steps_where_beta_is_rounded_to_one(last: float, sampler: str) -> None:
    steps = sampling.sampler_steps(np.array([0.5, last]), sampler)
    assert steps.a[1] == pytest.approx(0.5**0.5 / last**0.5)
    assert np.isfinite(steps.k).all()
