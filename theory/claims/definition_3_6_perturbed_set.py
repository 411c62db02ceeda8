"""Definition 3.6, the set of perturbed distributions, Eq. (14): a set of densities while Delta |W|_op < m.

Printed: P(x; p, Delta) = the set of p*exp(-I(x, delta)) with |delta| <= Delta and delta*W^T = W*delta^T

Holds: Delta*|W|_op < m implies max over p_hat in P(x; p, Delta) of KL(p || p_hat) <= d*(-log(1 - Delta*|W|_op/m) - Delta*|W|_op/m)/2 + Delta^2*|b|^2/(2*m^2*(1 - Delta*|W|_op/m))

From Delta |W|_op = m on, the set holds functions that are no densities, and before those it holds densities of any
divergence: along delta = -t (m / |W|) u_1 v_1^T the divergence is at least -(t + log(1 - t))/2, which has no bound as
t rises to 1. So the maximum in (17) exists only below; there it is at most the bound given, for either norm of delta
(Theorem T2 has its exact value).
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

import numpy as np
import sympy

from theory.claims.theorem_3_3_normalisable import CONDITION, INSIDE, OUTSIDE, POTENTIAL_OF, SYMMETRIC, InBall, in_ball
from theory.model import perturbations
from theory.model.divergences import DIVERGENCES, TAU
from theory.proof import notation
from theory.proof.notation import (
    KL,
    A,
    Both,
    Delta,
    Implies,
    Maximum,
    Norm,
    SpectralNorm,
    SquaredNorm,
    W,
    b,
    d,
    delta,
    identity,
    m,
    numeric,
    p,
    p_hat,
)
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

PerturbedSet = notation.operator("PerturbedSet", r"\hat{{\mathcal{{P}}}}(x; {0}, {1})", "P(x; {0}, {1})")
SetOf = notation.operator("SetOf", r"\left\{{ {0} \;:\; {1} \right\}}", "the set of {0} with {1}")
Member = notation.operator("Member", r"{0} \in {1}", "{0} in {1}")

_ratio = sympy.Symbol("r", positive=True)
_TERM, _WEIGHT = DIVERGENCES["kl"].term_formula, DIVERGENCES["kl"].weight_formula
EDGE_TERM = _TERM.subs(TAU, -_ratio)
"""h(r) = -r - log(1 - r): twice the divergence of one eigenvalue -r."""
_RATIO = Delta * SpectralNorm(W) / m
BOUND = (d * EDGE_TERM.subs(_ratio, _RATIO) + _WEIGHT.subs(TAU, -_RATIO) * Delta**2 * SquaredNorm(b) / m**2) / 2
"""What KL(p || p_hat) stays below on the whole set, for the Frobenius and the operator norm."""


def _the_edge_is_no_density() -> Iterable[Comparison]:
    """Rational W and delta in the ball, I + A singular where Delta |W| = m."""
    for frozen, shift in (([[1]], [[-1]]), ([[2, 0], [0, 1]], [[-1, 0], [0, 0]])):
        rows: list[list[object]] = [list(row) for row in shift]
        determinant = sympy.Matrix(notation.at(identity + A, {W: frozen, delta: rows})).det()
        yield equal(f"det(I + A) for W = {frozen}, delta = {shift}", determinant, sympy.Integer(0))


def _divergence_has_no_bound() -> Iterable[Comparison]:
    """At t = 1 - e^(-2K - 1) the divergence exceeds K, whatever K is; d = m = W = 1, b = 0, delta = -t."""
    bound = sympy.Symbol("K", positive=True)
    moved = notation.at(A, {W: [[1]], delta: [[-_ratio]]})[0]
    yield equal("A", moved, -_ratio)
    divergence = _TERM.subs(TAU, moved) / 2
    excess = sympy.simplify(divergence.subs(_ratio, 1 - sympy.exp(-2 * bound - 1)) - bound)
    yield equal("KL - K at t = 1 - e^(-2K - 1)", excess, sympy.exp(-2 * bound - 1) / 2)
    near = divergence.subs(_ratio, 1 - sympy.Rational(1, 2**60))
    yield less("20 nats against KL at 1 - t = 2^-60", sympy.Integer(20), near)
    # A mean part adds c^2 / (2 (1 - t)): positive, so the divergence is at least that of b = 0.
    yield equal("what c adds is positive", sympy.sympify(_WEIGHT.subs(TAU, 1 / _ratio - 1).is_positive), sympy.true)


def _bound_is_derived() -> Iterable[Comparison]:
    """|tau_i| <= r for each eigenvalue of A, |c| <= Delta |b| / m; the worst of each is at tau = -r."""
    inside = 1 / (1 + _ratio)  # every number in (0, 1), as r runs over the positive ones
    slope = sympy.simplify(sympy.diff(EDGE_TERM, _ratio).subs(_ratio, inside))
    yield equal("h rises on (0, 1): its derivative is positive", sympy.sympify(slope.is_positive), sympy.true)
    difference = EDGE_TERM - _TERM.subs(TAU, _ratio)
    yield equal("h(r) minus the term of +r, at r = 0", difference.subs(_ratio, 0), sympy.Integer(0))
    slope = sympy.factor(sympy.simplify(sympy.diff(difference, _ratio).subs(_ratio, inside)))
    yield equal("and its derivative on (0, 1) is positive", sympy.sympify(slope.is_positive), sympy.true)
    slope = sympy.diff(_WEIGHT, TAU).subs(TAU, _ratio - 1)
    yield equal("the weight falls where 1 + tau > 0", sympy.sympify(slope.is_negative), sympy.true)


@cache
def _numeric(bound: sympy.Expr) -> Callable[..., float]:
    norm, squared = sympy.symbols("norm squared")
    formula = bound.subs({SpectralNorm(W): norm, SquaredNorm(b): squared})
    return numeric(formula, Delta, norm, squared, d, m)


def bound_at(instance: InBall) -> float:
    """BOUND at a model and a radius."""
    squared = float(instance.b @ instance.b)
    return float(_numeric(BOUND)(instance.radius, instance.norm, squared, instance.d, instance.m))


def check_member(instance: InBall) -> Iterable[Comparison]:
    """A member of the set is a density, and its divergence from p is at most the bound."""
    product = instance.delta @ instance.W.T / instance.m
    least = float(np.linalg.eigvalsh(np.eye(instance.d) + (product + product.T) / 2)[0])
    yield less("0 against the least eigenvalue of I + A", 0.0, least)
    if least > 0 and instance.radius * instance.norm < instance.m:
        kl = perturbations.perturbation_divergence(instance.delta, instance.W, instance.b)
        value = bound_at(instance)
        # near the edge a relative error of 1e-16 in rho is one of 1e-12 in 1 - rho
        yield at_most("KL(p || p_hat)", kl, value, relative(value, 1e-10), "rounding of 1 - Delta |W|/m, down to 1e-4")


def check_growth(instance: InBall) -> Iterable[Comparison]:
    """Along delta = -t (m / |W|) u_1 v_1^T, for any W and b, the divergence is at least h(t) / 2."""
    ratio = instance.radius * instance.norm / instance.m
    kl = perturbations.perturbation_divergence(instance.delta, instance.W, instance.b)
    least = float(numeric(EDGE_TERM, _ratio)(ratio)) / 2
    # h(t) is a difference of numbers of order t, and near the edge 1 - t has a relative error of 1e-12
    yield at_most("h(t)/2 against KL(p || p_hat)", least, kl, 1e-15 + 1e-11 * kl, "rounding of h(t) and of 1 - t")


_members = SetOf(sympy.exp(-POTENTIAL_OF(delta)) * p, Both(sympy.Le(Norm(delta), Delta), SYMMETRIC))
_set = PerturbedSet(p, Delta)

STATEMENT = Statement(
    label="definition-3.6",
    title="the set of perturbed distributions",
    source="Definition 3.6, Eq. (14)",
    verdict=Verdict.CONDITIONAL,
    fault=Fault.CONSEQUENCE,
    reason=(
        "From Delta times the operator norm of W equal to m on, the set holds functions that are no densities, and on "
        "the way there densities of unbounded divergence, so that the maximum in (17) does not exist. Below, every "
        "member is a density and the divergence is bounded."
    ),
    printed=sympy.Eq(_set, _members),
    holds=Implies(CONDITION, sympy.Le(Maximum(Member(p_hat, _set), KL(p, p_hat)), BOUND)),
    conditions=("p = N(0, I)", "linear activation", "Delta |W|_op < m"),
    evidence=(
        counterexample("at Delta |W| = m a member is no density", _the_edge_is_no_density),
        counterexample("towards it the divergence exceeds every bound", _divergence_has_no_bound),
        holds_for_all(
            "it does so along u_1 v_1^T for any W and b",
            in_ball(INSIDE, extremal=True).filter(lambda instance: instance.norm > 0),
            check_growth,
        ),
        symbolic("the bound: eigenvalues in [-r, r], the worst at -r", _bound_is_derived),
        holds_for_all("every member is a density of divergence at most the bound", in_ball(INSIDE), check_member),
        fails_without("Delta |W|_op < m", in_ball(OUTSIDE), check_member),
    ),
    paper_labels=("Definition 3.6", "Eq. (14)"),
)
