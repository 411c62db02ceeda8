import numpy as np
import pytest
import sympy

from theory.claims import definition_3_6_perturbed_set as module
from theory.claims.definition_3_6_perturbed_set import BOUND, EDGE_TERM, STATEMENT, bound_at, check_member
from theory.claims.theorem_3_3_normalisable import INSIDE, InBall, in_ball
from theory.model.perturbations import perturbation_divergence
from theory.proof.notation import Delta, SquaredNorm, b, d
from theory.proof.statement import Evidence, fails_without
from theory.proof.testing import every_evidence, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def _instance(delta: float, bias: float) -> InBall:
    one = np.ones((1, 1))
    return InBall(one, np.array([bias]), delta * one, abs(delta))


def test_bound_at_a_point() -> None:
    # r = 1/2: h = log 2 - 1/2, and b = 1 adds (1/4)/(1/2): together log 2, halved.
    assert bound_at(_instance(-0.5, bias=1.0)) == pytest.approx(np.log(2) / 2, rel=1e-14)  # a few roundings


def test_bound_is_attained_in_one_dimension() -> None:
    instance = _instance(-0.9, bias=2.0)
    kl = perturbation_divergence(instance.delta, instance.W, instance.b)
    assert kl == pytest.approx(bound_at(instance), rel=1e-12)  # rounding of 1 - r


@pytest.mark.parametrize("nats", [1, 5, 12])
def test_divergence_exceeds_any_number_towards_the_edge(nats: int) -> None:
    near = -float(-np.expm1(-2 * nats - 1))
    assert perturbation_divergence(np.array([[near]]), np.ones((1, 1)), np.zeros(1)) > nats


@pytest.mark.parametrize(
    "mutant",
    [
        BOUND.subs(SquaredNorm(b), 0),
        BOUND.subs(Delta, -Delta),
        BOUND.subs(Delta, Delta / 2),
    ],
    ids=["without b", "sign flipped", "half as far"],
)
def test_the_check_kills_a_wrong_bound(monkeypatch: pytest.MonkeyPatch, mutant: sympy.Expr) -> None:
    monkeypatch.setattr(module, "BOUND", mutant)
    assert fails_without("the bound", in_ball(INSIDE), check_member).run().holds


def test_the_check_kills_a_bound_of_one_eigenvalue_only(monkeypatch: pytest.MonkeyPatch) -> None:
    # W = I_3, delta = -2.7 I_3 lies in the operator norm's ball of radius 2.7 and has A = -0.9 I_3.
    instance = InBall(np.eye(3), np.zeros(3), -2.7 * np.eye(3), 2.7)
    assert all(comparison.holds() for comparison in check_member(instance))
    monkeypatch.setattr(module, "BOUND", BOUND - (d - 1) * EDGE_TERM.subs(module._ratio, module._RATIO) / 2)
    assert not all(comparison.holds() for comparison in check_member(instance))


def test_the_check_of_the_growth_kills_a_wrong_term(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EDGE_TERM", 2 * EDGE_TERM)
    assert fails_without("the term", in_ball(INSIDE, extremal=True), module.check_growth).run().holds
