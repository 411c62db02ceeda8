"""Theorem 3.3, Eq. (11) and (12): the density that a perturbation of theta turns p into.

Printed: delta*W^T = W*delta^T and p_hat = p*exp(-x^T*delta*b - (1/2)*x^T*delta*W^T*x - C) implies L(x; delta + theta, p) = L(x; theta, p_hat)

Holds: delta*W^T = W*delta^T and 1/m*delta*W^T + I positive definite and p_hat = p*exp((-1/m)*(x^T*delta*b + (1/2)*x^T*delta*W^T*x) - C) implies L(x; delta + theta, p) = L(x; theta, p_hat)

b = U^T e; C normalises. What the residual needs is grad I = delta phi / m, and the printed potential has m times that:
it is the potential of m delta. The Appendix drops the factor 1/m in Eq. (28) and has it again in Eq. (34). With it, the
gradient of I differs from delta phi / m by the skew part of delta W^T / m alone, so (11) holds at every x and for every
p where delta W^T is symmetric and the activation linear; e^-I p is a density for p = N(0, I) where I + delta W^T / m is
positive definite.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
import sympy
from hypothesis import strategies as st
from numpy import ndarray

from theory.claims.equation_9_random_feature_score import POINTWISE_LOSS, g, phi
from theory.model import perturbations
from theory.model.random_features import RandomFeatureScore
from theory.proof import notation, strategies
from theory.proof.notation import (
    A,
    Both,
    Implies,
    Loss,
    PositiveDefinite,
    W,
    b,
    delta,
    generic,
    identity,
    m,
    numeric,
    p,
    p_hat,
    theta,
    x,
)
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
    symbolic,
)

C = sympy.MatrixSymbol("C", 1, 1)
_SHAPE = x.T * delta * W.T * x / 2 + x.T * delta * b
PRINTED_POTENTIAL = _SHAPE + C
"""I(x, delta) as Eq. (12) prints it, a 1 x 1 matrix."""
POTENTIAL = _SHAPE / m + C
"""I(x, delta) as it must be, and as Appendix Eq. (34) has it."""
PRINTED_DENSITY = sympy.exp(-PRINTED_POTENTIAL) * p
DENSITY = sympy.exp(-POTENTIAL) * p
"""p_hat, Eq. (12), with either potential."""
LINEAR_FEATURES = W.T * x + b
"""phi of a linear activation, (m, 1)."""
RESIDUAL_SHIFT = delta * LINEAR_FEATURES / m
"""delta phi / m, what perturbing theta adds to the residual: the gradient that I is to have, (d, 1)."""
SYMMETRIC = sympy.Eq(delta * W.T, W * delta.T)


@cache
def gradient(potential: sympy.MatrixExpr) -> sympy.MatrixExpr:
    """grad I in x, (d, 1), for matrices of any size."""
    return potential.diff(x)


def losses(potential: sympy.MatrixExpr) -> tuple[sympy.MatrixExpr, sympy.MatrixExpr]:
    """Both sides of Eq. (11), as 1 x 1 matrices of theta, delta, W, b, x and g = grad log p(x)."""
    perturbed = POINTWISE_LOSS.subs(theta, theta + delta)
    moved = POINTWISE_LOSS.subs(g, g - gradient(potential))
    return perturbed.subs(phi, LINEAR_FEATURES), moved.subs(phi, LINEAR_FEATURES)


def _printed_sides_differ() -> Iterable[Comparison]:
    """d = 1, m = 2, W = delta = (1, 1), b = theta = 0, p = N(0, 1)."""
    point = sympy.Symbol("x", real=True)
    values = {x: [[point]], g: [[-point]], delta: [[1, 1]], W: [[1, 1]], b: [[0], [0]], theta: [[0, 0]]}
    left, printed = (notation.at(side, values)[0] for side in losses(PRINTED_POTENTIAL))
    _, corrected = (notation.at(side, values)[0] for side in losses(POTENTIAL))
    yield equal("loss of theta + delta against p", left, 4 * point**2)
    yield equal("loss of theta against the printed p_hat", printed, 9 * point**2)
    yield different("the two sides of (11)", left, printed)
    yield equal("loss of theta against p_hat with the factor 1/m", corrected, left)


def _gradient_for_all_sizes() -> Iterable[Comparison]:
    """grad I - delta phi / m is the skew part of A^T at x; the printed I has m times that gradient."""
    slope = RESIDUAL_SHIFT + (A.T - A) * x / 2
    for name, potential, expected in (
        ("grad I - delta phi/m, minus (A^T - A) x/2", POTENTIAL, slope),
        ("the printed grad I, minus m times the same", PRINTED_POTENTIAL, m * slope),
    ):
        difference = (gradient(potential) - expected).doit().expand().doit()
        yield equal(f"{name}, for all d and m", difference, sympy.ZeroMatrix(*difference.shape))


def _admissible_entries(rows: int, columns: int) -> dict[sympy.MatrixSymbol, list[list[sympy.Expr]]]:
    """Generic W, and a delta with delta W^T symmetric, its entries below the diagonal solved for."""
    entries, frozen = generic(delta, rows, columns), generic(W, rows, columns)
    product = sympy.Matrix(entries) * sympy.Matrix(frozen).T
    pairs = [(i, j) for i in range(rows) for j in range(i)]
    unknown = [entries[i][j] for i, j in pairs]
    solution = sympy.solve([product[i, j] - product[j, i] for i, j in pairs], unknown, dict=True) if pairs else [{}]
    return {delta: sympy.Matrix(entries).subs(solution[0]).tolist(), W: frozen}


def _both_sides_agree() -> Iterable[Comparison]:
    for rows, columns in ((1, 3), (2, 2), (2, 3), (3, 2)):
        values = _admissible_entries(rows, columns) | {x: generic(x, rows, 1), b: generic(b, columns, 1)}
        symmetric = notation.at(A - A.T, values).applyfunc(sympy.cancel)
        yield equal(f"skew entries of A, d={rows}, m={columns}", sum(entry != 0 for entry in symmetric), 0)
        field = notation.at(RESIDUAL_SHIFT, values)
        potential = notation.at(POTENTIAL, values | {C: generic(C, 1, 1)})[0]
        slope = [sympy.diff(potential, entry[0]) for entry in values[x]]
        wrong = sum(sympy.cancel(left - right) != 0 for left, right in zip(slope, field, strict=True))
        yield equal("entries of grad I, differentiated, that differ from delta phi/m", wrong, 0)


def _log_gradient_of_the_density() -> Iterable[Comparison]:
    """grad log p_hat = grad log p - grad I for any p: with that, the residual, so the loss, is the same in (11)."""
    point = generic(x, 2, 1)
    base = sympy.Function("p", positive=True)(*(entry[0] for entry in point))
    values = {x: point, C: generic(C, 1, 1), b: generic(b, 2, 1), delta: generic(delta, 2, 2), W: generic(W, 2, 2)}
    log_density = sympy.expand_log(sympy.log(notation.at(DENSITY, values)[0].subs(p, base)), force=True)
    slope = notation.at(gradient(POTENTIAL), values)
    for index, (entry,) in enumerate(point):
        difference = sympy.expand(sympy.diff(log_density, entry) - sympy.diff(base, entry) / base + slope[index])
        yield equal(f"coordinate {index + 1} of grad log p_hat - grad log p + grad I", difference, sympy.Integer(0))


@dataclass(frozen=True)
class AtPoint(strategies.Perturbed):
    """A model with theta and delta, a point x (d,), and g = grad log p(x) of some p (d,)."""

    theta: ndarray
    x: ndarray
    g: ndarray


@st.composite
def at_points(draw: st.DrawFn, perturbed: st.SearchStrategy[strategies.Perturbed]) -> AtPoint:
    """A perturbed model at a random theta, point and score of p."""
    instance = draw(perturbed)
    rng = np.random.default_rng(draw(strategies.seeds))
    theta_value = rng.standard_normal(instance.W.shape)
    point, score = rng.standard_normal((2, instance.d)) * draw(st.sampled_from([1.0, 10.0]))
    return AtPoint(instance.W, instance.b, instance.delta, theta_value, point, score)


def _arguments(instance: AtPoint) -> tuple[ndarray, ...]:
    return instance.x[:, None], instance.delta, instance.W, instance.b[:, None]


def _check_losses(instance: AtPoint, potential: sympy.MatrixExpr) -> Iterable[Comparison]:
    slope = numeric(gradient(potential), x, delta, W, b, m)(*_arguments(instance), instance.m)[:, 0]
    frozen, one = (instance.W, instance.b[None, :], "linear"), np.ones(1)
    left = RandomFeatureScore(instance.theta + instance.delta, *frozen)(instance.x, one) - instance.g
    right = RandomFeatureScore(instance.theta, *frozen)(instance.x, one) - (instance.g - slope)
    features = np.abs(instance.W).T @ np.abs(instance.x) + np.abs(instance.b)
    weights = np.linalg.norm(instance.theta) + np.linalg.norm(instance.delta)
    size = weights * np.linalg.norm(features) / instance.m + np.linalg.norm(instance.g)
    because = "rounding of delta W^T's symmetry and of sums of d m terms, squared"
    yield equal("both sides of (11)", left @ left, right @ right, 1e-12 * float(size) ** 2, because)


def check_losses(instance: AtPoint) -> Iterable[Comparison]:
    """Both sides of (11) at x with the factor 1/m, for linear features."""
    yield from _check_losses(instance, POTENTIAL)


def check_printed_losses(instance: AtPoint) -> Iterable[Comparison]:
    """Both sides of (11) at x with the potential that Eq. (12) prints."""
    yield from _check_losses(instance, PRINTED_POTENTIAL)


def check_density(instance: AtPoint) -> Iterable[Comparison]:
    """For p = N(0, I), log p_hat(x) - log p_hat(0) against the Gaussian that the perturbation makes of p."""
    gaussian = perturbations.perturbed_noise(instance.delta, instance.W, instance.b)
    ends = np.stack([instance.x, np.zeros(instance.d)])
    log_density = gaussian.log_density(ends)
    _, *matrices = _arguments(instance)
    potential = [
        numeric(POTENTIAL, x, delta, W, b, m, C)(end[:, None], *matrices, instance.m, np.zeros((1, 1)))[0, 0]
        for end in ends
    ]
    claimed = -(potential[0] + instance.x @ instance.x / 2) + potential[1]
    spread = float((gaussian.whiten(np.stack([instance.x, gaussian.mean])) ** 2).sum())
    yield equal(
        "log p_hat(x) - log p_hat(0)",
        log_density[0] - log_density[1],
        claimed,
        1e-11 * (1 + spread),
        "rounding of quadratic forms in a covariance of condition number up to 1e4",
    )


EQUALITY = sympy.Eq(Loss(theta + delta, p), Loss(theta, p_hat))
"""Eq. (11), at every x."""

STATEMENT = Statement(
    label="theorem-3.3",
    title="the perturbed density",
    source="Theorem 3.3, Eq. (11) and (12); Appendix Theorem 1, Eq. (28) and (34)",
    verdict=Verdict.FALSE,
    fault=Fault.SLIP,
    reason=(
        "I lacks the factor 1/m in the main text and in Eq. (28); Eq. (34) has it. For m >= 2 the printed density "
        "belongs to m delta. With the factor, a linear activation and delta W^T symmetric, (11) holds at every x."
    ),
    printed=Implies(Both(SYMMETRIC, sympy.Eq(p_hat, PRINTED_DENSITY)), EQUALITY),
    holds=Implies(Both(Both(SYMMETRIC, PositiveDefinite(identity + A)), sympy.Eq(p_hat, DENSITY)), EQUALITY),
    evidence=(
        counterexample("the printed density gives 9 x^2 for 4 x^2 at d = 1, m = 2", _printed_sides_differ),
        symbolic("grad I is delta phi/m up to the skew part of A; printed, m times that", _gradient_for_all_sizes),
        symbolic("grad I = delta phi/m, differentiated entry by entry for symmetric A", _both_sides_agree),
        symbolic("grad log p_hat = grad log p - grad I, for any p", _log_gradient_of_the_density),
        holds_for_all("(11) holds at every x, for any p", at_points(strategies.admissible()), check_losses),
        holds_for_all("e^-I N(0, I) is the perturbed Gaussian", at_points(strategies.admissible()), check_density),
        fails_without("delta W^T is symmetric", at_points(strategies.inadmissible()), check_losses),
        fails_without("the factor 1/m", at_points(strategies.admissible()), check_printed_losses),
    ),
    paper_labels=("Theorem 3.3", "Eq. (11)", "Eq. (12)", "Theorem 1", "Eq. (28)", "Eq. (34)"),
)
