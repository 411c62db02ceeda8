"""Theorem 3.3, "positive outputs of the activation": the step of its proof that drops the activation.

Printed: positive outputs of the activation implies 1/m*delta*sigma(W^T*x + b) = 1/m*delta*(W^T*x + b)

Holds: linear activation implies 1/m*delta*sigma(W^T*x + b) = 1/m*delta*(W^T*x + b)

Eq. (26) and (29) write W^T x + b for sigma(W^T x + b). For ReLU that is so at the x with W^T x + b >= 0 alone, and
these are all of R^d, where p has full support, for W = 0 only; for an activation whose values are positive it is not so
at all. With the quadratic I that follows, Eq. (11) fails, and the divergence it gives is not the true one: for
d = m = W = delta = 1, b = 0, p = N(0, 1) and ReLU KL(p || p_hat) is 1/4 + log((1 + 2^(-1/2))/2) = 0.09165, where the
linear formula has (1 - log 2)/2 = 0.15343. What holds for any activation is Theorem T1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import sympy
from hypothesis import strategies as st

from theory.claims.equation_9_random_feature_score import POINTWISE_LOSS, Activated, g, phi, score_model
from theory.claims.theorem_3_3_perturbed_density import LINEAR_FEATURES, POTENTIAL, AtPoint, at_points, gradient
from theory.claims.theorem_t1_any_activation import Phi, potential_at
from theory.model.divergences import DIVERGENCES, TAU
from theory.model.perturbed_density import perturbed_density
from theory.model.random_features import ACTIVATIONS
from theory.proof import notation, strategies
from theory.proof.notation import Implies, W, b, delta, generic, m, numeric, theta, words, x
from theory.proof.statement import (
    Comparison,
    Fault,
    Statement,
    Verdict,
    counterexample,
    different,
    equal,
    fails_without,
    holds_for_all,
    less,
    quadrature,
    symbolic,
)

TRUE_FIELD = delta * phi / m
"""What delta adds to the score, Eq. (25)."""
PRINTED_FIELD = TRUE_FIELD.subs(phi, LINEAR_FEATURES)
"""What Eq. (26), (27) and (29) have in its place."""


def sides(values: Mapping[sympy.MatrixSymbol, Sequence[Sequence[object]]]) -> tuple[sympy.Expr, sympy.Expr]:
    """Both sides of Eq. (11) with the paper's quadratic I, exactly, at given theta, delta, W, b, x, g and phi."""
    perturbed = POINTWISE_LOSS.subs(theta, theta + delta)
    moved = POINTWISE_LOSS.subs(g, g - gradient(POTENTIAL))
    return notation.at(perturbed, values)[0], notation.at(moved, values)[0]


def _unit(point: int, feature: object) -> dict[sympy.MatrixSymbol, Sequence[Sequence[object]]]:
    """d = m = W = delta = 1, b = theta = 0, p = N(0, 1), at a point with a given feature."""
    return {W: [[1]], delta: [[1]], b: [[0]], theta: [[0]], x: [[point]], g: [[-point]], phi: [[feature]]}


def _sides_differ() -> Iterable[Comparison]:
    left, right = sides(_unit(-1, sympy.Max(-1, 0)))
    yield equal("ReLU at x = -1: loss of theta + delta against p", left, 1)
    yield equal("ReLU at x = -1: loss of theta against p_hat", right, 4)
    yield different("the two sides of (11), ReLU", left, right)
    # an activation with positive values: the sigmoid, 1/2 at 0
    left, right = sides(_unit(0, sympy.Rational(1, 2)))
    yield equal("sigmoid at x = 0: loss of theta + delta against p", left, sympy.Rational(1, 4))
    yield equal("sigmoid at x = 0: loss of theta against p_hat", right, 0)


def _full_support_forces_zero() -> Iterable[Comparison]:
    """At x = -(b_j + 1) w_j / |w_j|^2 a pre-activation is -1, whatever w_j not 0 and b_j are."""
    for rows in (1, 2, 3):
        column, bias = sympy.Matrix(generic(W, rows, 1)), sympy.Symbol("b_j", real=True)
        point = -(bias + 1) * column / (column.T * column)[0]
        values = {W: column.tolist(), b: [[bias]], x: point.tolist()}
        pre_activation = sympy.cancel(notation.at(LINEAR_FEATURES, values)[0])
        yield equal(f"pre-activation there, d={rows}", pre_activation, sympy.Integer(-1))


TRUE_KL = sympy.Rational(1, 4) + sympy.log((1 + 1 / sympy.sqrt(2)) / 2)
"""KL(p || p_hat) for d = m = W = delta = 1, b = 0, p = N(0, 1) and ReLU."""
LINEAR_KL = (DIVERGENCES["kl"].term_formula / 2).subs(TAU, 1)
"""The same for a linear activation: what the paper's formula gives."""


def _exact_divergences() -> Iterable[Comparison]:
    """E_p[I] + log E_p[e^-I], integrated over either half line, where I = Phi(x) of Theorem T1 is a polynomial."""
    point = sympy.Symbol("x", real=True)
    density = sympy.exp(-(point**2) / 2) / sympy.sqrt(2 * sympy.pi)
    right = potential_at([point], [sympy.Integer(1)]).replace(Phi, lambda value: value**2 / 2)
    halves = [((point, -sympy.oo, 0), sympy.Integer(0)), ((point, 0, sympy.oo), right)]
    mean = sum(sympy.integrate(potential * density, limits) for limits, potential in halves)
    mass = sum(sympy.integrate(sympy.exp(-potential) * density, limits) for limits, potential in halves)
    yield equal("E_p[I]", mean, sympy.Rational(1, 4))
    yield equal("KL(p || p_hat), ReLU", mean + sympy.log(mass), TRUE_KL)
    yield equal("the linear formula", LINEAR_KL, (1 - sympy.log(2)) / 2)
    yield less("the truth, below the linear formula", TRUE_KL, LINEAR_KL)


def _divergences_by_quadrature() -> Iterable[Comparison]:
    one = np.ones((1, 1))
    for name, truth in (("relu", TRUE_KL), ("linear", LINEAR_KL)):
        integral = perturbed_density(one, one, np.zeros(1), name).kl
        because = "the quadrature's estimated error"
        yield equal(f"KL(p || p_hat), {name}", integral.value, float(truth), integral.error, because)


@dataclass(frozen=True)
class WithActivation(AtPoint):
    """A model with theta and delta, a point and the score of some p there, and an activation by name."""

    activation: str


@st.composite
def activated(draw: st.DrawFn, names: tuple[str, ...]) -> WithActivation:
    """Admissible perturbations at a point, under one of the named activations."""
    at = draw(at_points(strategies.admissible()))
    return WithActivation(at.W, at.b, at.delta, at.theta, at.x, at.g, draw(st.sampled_from(names)))


def check_step(instance: WithActivation) -> Iterable[Comparison]:
    """What delta adds to the score, by the model itself, against the field that the paper puts in its place."""
    at, one = instance, np.ones(1)
    scores = [score_model(at, weights, at.W, at.activation)(at.x, one) for weights in (at.theta + at.delta, at.theta)]
    field = numeric(PRINTED_FIELD, delta, W, x, b, m)(at.delta, at.W, at.x[:, None], at.b[:, None], at.m)[:, 0]
    features = np.linalg.norm(np.abs(at.W).T @ np.abs(at.x) + np.abs(at.b))
    size = (np.linalg.norm(at.theta) + np.linalg.norm(at.delta)) * features / at.m
    because = "rounding of sums of d m terms"
    yield equal("what delta adds to the score", scores[0] - scores[1], field, 1e-13 * float(size), because)


_dropped = sympy.Eq(TRUE_FIELD.subs(phi, Activated(LINEAR_FEATURES)), PRINTED_FIELD, evaluate=False)

STATEMENT = Statement(
    label="theorem-3.3-activation",
    title="positive outputs of the activation",
    source="Theorem 3.3; Appendix proof of Theorem 1, Eq. (26) and (29)",
    verdict=Verdict.CONDITIONAL,
    fault=Fault.FLAW,
    reason=(
        "It holds for linear sigma only. For ReLU with full-support p it would force W = 0, and activations with "
        "positive values do not have it either; the quadratic I then breaks (11), and its divergence is wrong."
    ),
    printed=Implies(words("positive outputs of the activation"), _dropped),
    holds=Implies(words("linear activation"), _dropped),
    conditions=("the activation is linear, or linear on every pre-activation that p reaches",),
    evidence=(
        counterexample("the two sides of (11) are 1 and 4 for ReLU, 1/4 and 0 for the sigmoid", _sides_differ),
        symbolic("positive pre-activations on all of R^d force W = 0", _full_support_forces_zero),
        symbolic("KL(p || p_hat) for ReLU by exact integration, below the linear formula", _exact_divergences),
        quadrature("both divergences by quadrature", _divergences_by_quadrature),
        holds_for_all("the step holds for linear sigma", activated(("linear",)), check_step),
        fails_without("sigma is linear", activated(tuple(ACTIVATIONS)), check_step),
    ),
    paper_labels=("Eq. (26)", "Eq. (29)"),
)
