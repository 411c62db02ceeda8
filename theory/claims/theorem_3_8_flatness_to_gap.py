"""Theorem 3.8: a Delta-flat minimum is E-gap robust, with E at most the largest divergence within the set.

Printed: E <= max over p_hat in P(x; p, Delta) of KL(p || p_hat)

Holds: for all E: there is p_hat: KL(p || p_hat) <= E and L(x; theta^*, p_hat) > ell

Vacuous, since no minimum is Delta-flat (Def. 3.1) and none E-gap robust (Def. 3.2): moving p by sqrt(2 E) against the
residual costs KL = E and raises the loss at every x. Nor does the first clause of Def. 3.1 alone give any robustness:
for ReLU with W = 0 and b = -1 the score is 0 and every theta is flat for every Delta, yet the loss under N(a, 1) is
(x - a)^2. There delta phi = 0, so the only density with the loss of theta + delta is p, and the right side of (17) is
0, which no E > 0 meets. And an upper bound on E promises nothing: at an exact score nothing is tolerated, while the
right side grows from 0 without bound as Delta |W| goes to m.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import sympy
from hypothesis import strategies as st
from jaxtyping import Float
from numpy import ndarray

from theory.claims.corollary_3_9_first_line import expected_under_noise
from theory.claims.definition_3_6_perturbed_set import Member, PerturbedSet
from theory.claims.equation_9_random_feature_score import POINTWISE_LOSS, SCORE, g, phi
from theory.model.divergences import DIVERGENCES, TAU
from theory.model.gaussians import Gaussian, kl_divergence, standard_normal
from theory.model.random_features import ACTIVATIONS, RandomFeatureScore
from theory.proof import notation, strategies
from theory.proof.notation import KL, Both, Delta, Exists, ForAll, Loss, Maximum, a, ell, gap, p, p_hat, rho, theta, x1
from theory.proof.notation import theta_star as minimum
from theory.proof.statement import (
    Comparison,
    Fault,
    Statement,
    Verdict,
    at_most,
    counterexample,
    equal,
    fails_without,
    holds_for_all,
    less,
    relative,
    symbolic,
)

_SHIFTED_SCORE = a - x1
"""grad log N(a, 1) at x_1."""


def _shift_divergence() -> sympy.Expr:
    """KL(N(0, 1) || N(a, 1))."""
    return expected_under_noise(sympy.expand(((x1 - a) ** 2 - x1**2) / 2), (x1,))


def loss_at(theta_value: sympy.Expr, feature: sympy.Expr, target: sympy.Expr) -> sympy.Expr:
    """Eq. (10) for d = m = 1."""
    return notation.at(POINTWISE_LOSS, {theta: [[theta_value]], phi: [[feature]], g: [[target]]})[0]


def _first_clause_is_not_enough() -> Iterable[Comparison]:
    """ReLU, d = m = 1, W = 0, b = -1: phi = max(-1, 0) = 0."""
    weight, change = sympy.symbols("theta_1 delta_1", real=True)
    feature = sympy.Max(0 * x1 - 1, 0)
    flat = loss_at(weight + change, feature, -x1)
    yield equal("loss at theta + delta, for every delta", flat, loss_at(weight, feature, -x1))
    yield equal("KL(p || N(a, 1))", _shift_divergence(), a**2 / 2)
    moved = loss_at(weight, feature, _SHIFTED_SCORE)
    yield equal("loss under N(a, 1)", moved, (x1 - a) ** 2)
    for size in (sympy.Rational(1, 10**6), sympy.Integer(1)):
        against = {a: -sympy.sqrt(2 * size), x1: sympy.Integer(3)}
        yield at_most(f"KL at E = {size}", _shift_divergence().subs(against), size)
        yield less("l* at x = 3 against the loss there", flat.subs(against), moved.subs(against))


def _its_bound_is_zero() -> Iterable[Comparison]:
    """There grad I = delta phi / m = 0, so that p_hat is p whatever delta is, and the set of (14) is {p}."""
    change = sympy.Symbol("delta_1", real=True)
    gradient = notation.at(SCORE, {theta: [[change]], phi: [[sympy.Max(-1, 0)]]})[0]
    yield equal("grad I", gradient, sympy.Integer(0))
    yield less("KL(p || p) against E = 10^-9", _shift_divergence().subs(a, 0), sympy.Rational(1, 10**9))


def _bound_grows_where_nothing_is_tolerated() -> Iterable[Comparison]:
    """d = m = W = 1, b = 0, theta* = -1, the exact score; the set holds the p_hat of delta = -Delta, Delta < 1."""
    loss = loss_at(sympy.Integer(-1), x1, _SHIFTED_SCORE)
    yield equal("loss under N(a, 1), above l* = 0 for every a but 0", loss, a**2)
    reached = DIVERGENCES["kl"].term_formula.subs(TAU, -rho) / 2
    yield equal(
        "right side of (17), at least, as Delta = rho -> 0", sympy.limit(reached, rho, 0, "+"), sympy.Integer(0)
    )
    yield equal("its inverse as rho -> 1", sympy.limit(1 / reached, rho, 1, "-"), sympy.Integer(0))
    inside = 1 / (1 + sympy.Symbol("u", positive=True))  # every number of (0, 1)
    slope = sympy.simplify(sympy.diff(reached, rho).subs(rho, inside))
    yield equal("it rises in between: its derivative is positive", sympy.sympify(slope.is_positive), sympy.true)


@dataclass(frozen=True)
class Shifted(strategies.Model):
    """A model with theta and an activation, a point x, a budget E and the unit direction in which p is moved."""

    theta: Float[ndarray, "d m"]
    activation: str
    x: Float[ndarray, " d"]
    budget: float
    direction: Float[ndarray, " d"]

    @property
    def residual(self) -> Float[ndarray, " d"]:
        """s(x) - grad log p(x) for p = N(0, I)."""
        return RandomFeatureScore(self.theta, self.W, self.b[None, :], self.activation)(self.x, np.ones(1)) + self.x


@st.composite
def shifted(draw: st.DrawFn, against_residual: bool = True) -> Shifted:
    """Any model, theta and x; the direction is opposite to the residual, or any."""
    model = draw(strategies.models())
    rng = np.random.default_rng(draw(strategies.seeds))
    theta_value, point = rng.standard_normal(model.W.shape), rng.standard_normal(model.d)
    name, budget = draw(st.sampled_from(sorted(ACTIVATIONS))), draw(st.sampled_from([1e-6, 1e-3, 0.1, 1.0, 20.0]))
    instance = Shifted(model.W, model.b, theta_value, name, point, budget, draw(strategies.unit_vectors(model.d)))
    residual = instance.residual
    if against_residual and residual.any():
        return dataclasses.replace(instance, direction=-residual / np.linalg.norm(residual))
    return instance


def shift_of(instance: Shifted) -> Float[ndarray, " d"]:
    """The mean a of the density N(a, I) whose divergence from N(0, I) is the budget."""
    return np.sqrt(2 * instance.budget) * instance.direction


def check_shift(instance: Shifted) -> Iterable[Comparison]:
    """N(a, I), a = sqrt(2 E) times the direction: KL = E, and the loss at x rises by at least 2 E."""
    moved = Gaussian(shift_of(instance), np.eye(instance.d))
    divergence = kl_divergence(standard_normal(instance.d), moved)
    tolerance = relative(instance.budget, 1e-12, floor=0.0)
    yield at_most("KL(p || p_hat)", divergence, instance.budget, tolerance, "rounding of |a|^2/2")
    residual = instance.residual
    # grad log N(a, I) is a - x, so the residual against it is s + x - a
    before, after = (float(((residual - shift) ** 2).sum()) for shift in (0 * moved.mean, moved.mean))
    yield less("l* against the loss under p_hat", before, after)
    size = 1e-14 * (before + after)
    yield at_most("2 E against the rise", 2 * instance.budget, after - before, size, "rounding of sums")


STATEMENT = Statement(
    label="theorem-3.8",
    title="flatness bounds the tolerated gap",
    source="Theorem 3.8, Eq. (17); Appendix Theorem 2, Eq. (46)",
    verdict=Verdict.VACUOUS,
    fault=Fault.FLAW,
    reason=(
        "No minimum is Delta-flat and none E-gap robust: for every E > 0 a shift of p within divergence E raises the "
        "loss. Without the second clause of Definition 3.1 it is false, and an upper bound on E promises no robustness."
    ),
    rescue=(
        "Its right side is the worst divergence of a learned density over the ball of weights, at an exact score "
        "(introduction-learned-density); and T4 has the divergence that costs a loss of kappa."
    ),
    printed=sympy.Le(gap, Maximum(Member(p_hat, PerturbedSet(p, Delta)), KL(p, p_hat))),
    holds=ForAll(gap, Exists(p_hat, Both(sympy.Le(KL(p, p_hat), gap), sympy.Gt(Loss(minimum, p_hat), ell)))),
    evidence=(
        counterexample("ReLU, W = 0, b = -1: flat for every Delta, robust for no E", _first_clause_is_not_enough),
        counterexample("there the right side of (17) is 0, for every Delta", _its_bound_is_zero),
        symbolic("at an exact score nothing is tolerated, whatever the bound", _bound_grows_where_nothing_is_tolerated),
        holds_for_all("for every E some p_hat within E raises the loss at x", shifted(), check_shift),
        fails_without("the shift is against the residual", shifted(against_residual=False), check_shift),
    ),
    paper_labels=("Theorem 3.8", "Eq. (17)", "Theorem 2", "Eq. (46)"),
)
