import numpy as np
import pytest
import sympy

from theory.claims import theorem_t2_exact_worst_case as module
from theory.claims.corollary_3_9_gaussian_gap import check_corrected
from theory.claims.theorem_t2_exact_worst_case import STATEMENT, balls, check_not_exceeded, ray_coefficients
from theory.model import worst_case
from theory.model.divergences import DIVERGENCES, TAU
from theory.model.worst_case import WorstCase, curve_maximum, worst_case_divergence
from theory.proof import strategies
from theory.proof.notation import t
from theory.proof.statement import Evidence
from theory.proof.testing import every_evidence, finds_violation, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
def test_general_coefficients_are_those_of_the_series(name: str) -> None:
    coefficient, j = ray_coefficients()[name]
    series = sympy.series(DIVERGENCES[name].term_formula.subs(TAU, -t), t, 0, 9).removeO()
    assert [series.coeff(t, n) - coefficient.subs(j, n) for n in range(2, 9)] == [0] * 7
    assert (series.coeff(t, 0), series.coeff(t, 1)) == (0, 0)


@pytest.mark.parametrize(
    ("W", "b", "radius", "norm", "expected"),
    [
        ([[1.0]], [1.0], 0.5, "frobenius", 0.34657),  # (log 2) / 2
        (np.eye(2), [2.0, 0.0], 1.0, "frobenius", 1.0966),
        (np.eye(2), [2.0, 0.0], 1.0, "spectral", 1.1931),
        (np.eye(2), [0.0, 0.0], 1.0, "frobenius", 0.0966),
        (np.eye(2), [0.0, 0.0], 1.0, "spectral", 0.1931),
    ],
)
def test_values_known_in_closed_form(W: list, b: list, radius: float, norm: str, expected: float) -> None:
    worst = worst_case_divergence(np.array(W), np.array(b), radius, norm=norm)
    assert worst.exact
    assert worst.value == pytest.approx(expected, abs=5e-5)  # four digits are given


def test_a_search_along_b_and_v1_alone_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant that looks only at both ends of the curve must be exceeded by some admissible delta."""

    def ends_only(s: np.ndarray, beta: np.ndarray, divergence: object) -> tuple[float, np.ndarray]:
        top = np.eye(s.size)[np.argmax(s)]
        along_b = beta / np.linalg.norm(beta) if np.any(beta) else top
        rows = np.array([top, along_b])
        best = worst_case._objective(rows**2 @ s**2, (rows @ beta) ** 2, divergence)  # type: ignore[arg-type]
        return float(best.max()), rows[int(best.argmax())]

    model = strategies.Model(np.diag([2.0, 1.0, 0.5]), np.array([0.3, 2.0, -1.0]))
    exact = worst_case_divergence(model.W, model.b, 0.9).value
    monkeypatch.setattr(worst_case, "_curve_maximum", ends_only)
    assert worst_case_divergence(model.W, model.b, 0.9).value < exact * (1 - 1e-6)
    assert finds_violation(balls(), check_not_exceeded)


def test_a_worst_case_with_the_wrong_divergence_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = worst_case_divergence

    def reversed_direction(W: np.ndarray, b: np.ndarray, radius: float, divergence: str = "kl") -> WorstCase:
        return honest(W, b, radius, {"kl": "reverse_kl", "reverse_kl": "kl"}.get(divergence, divergence))

    monkeypatch.setattr(module, "worst_case_divergence", reversed_direction)
    assert finds_violation(balls(), check_not_exceeded)


def test_the_top_direction_is_reached_when_b_hardly_sees_it() -> None:
    """b orthogonal to v_1 up to 1e-5, 1e-12 or exactly: the same worst case, continuous in b."""
    s, kl = np.array([0.9, 0.3, 0.1]), DIVERGENCES["kl"]
    values = [curve_maximum(s, np.array([tiny, 0.2, 0.1]), kl)[0] for tiny in (0.0, 1e-200, 1e-12, 1e-5)]
    assert values == pytest.approx([values[0]] * 4, rel=1e-4)  # moves by about tiny / b
    assert values[1] == pytest.approx(values[0], rel=1e-13)  # by rounding alone


def test_the_corrected_corollary_is_never_below_it() -> None:
    """Cor. 3.9 as corrected, evaluated at the worst perturbation, bounds its divergence from above."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        W, b = rng.standard_normal((3, 5)), rng.standard_normal(5)
        worst = worst_case_divergence(W, b, 0.9 * 5 / float(np.linalg.norm(W, 2)))
        (comparison,) = check_corrected(strategies.Perturbed(W, b, worst.perturbation))
        assert comparison.holds()
