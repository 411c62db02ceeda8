"""Theorem 3.3, the normalising constant C: e^-I p is not always a density.

Printed: there is C: integral over R^d of [p*exp(-I(x, delta))] = 1

Holds: Delta*|W|_op < m iff for all |delta| <= Delta and delta*W^T = W*delta^T: 1/m*delta*W^T + I positive definite

For p = N(0, I) and a linear activation e^-I p has a finite integral where I + A is positive definite, with
A = delta W^T / m, and nowhere else. All admissible delta with |delta| <= Delta have that just when Delta |W|_op < m,
whether |delta| is the Frobenius or the operator norm: |A| <= |delta| |W| / m, and delta = -Delta u_1 v_1^T, of norm
Delta in both, attains it (u_1, v_1: W's top singular pair).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import sympy
from hypothesis import strategies as st

from theory.claims.theorem_3_3_perturbed_density import POTENTIAL, SYMMETRIC, C
from theory.model import perturbations
from theory.proof import notation, strategies
from theory.proof.notation import (
    A,
    Both,
    Delta,
    Exists,
    ForAll,
    Iff,
    Norm,
    PositiveDefinite,
    SpectralNorm,
    W,
    b,
    delta,
    identity,
    m,
    numeric,
    p,
    x,
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
    symbolic,
)

Integral = notation.operator("Integral", r"\int_{{\mathbb{{R}}^d}} {0} \,\mathrm{{d}}x", "integral over R^d of {0}")
POTENTIAL_OF = notation.operator("Potential", r"I(x, {0})", "I(x, {0})")

LEAST_EIGENVALUE = 1 - Delta * SpectralNorm(W) / m
"""The least eigenvalue of I + A over the admissible delta with |delta| <= Delta, in either norm."""
CONDITION = sympy.Lt(Delta * SpectralNorm(W), m)

_point = sympy.Symbol("x", real=True)
_half_line = sympy.Symbol("y", nonnegative=True)
Rows = Sequence[Sequence[object]]


@cache
def _numeric(formula: sympy.Expr) -> Callable[..., float]:
    norm = sympy.Symbol("norm")
    return numeric(formula.subs(SpectralNorm(W), norm), Delta, norm, m)


def least_eigenvalue(radius: float, norm: float, width: int) -> float:
    """LEAST_EIGENVALUE at Delta, |W|_op and m."""
    return float(_numeric(LEAST_EIGENVALUE)(radius, norm, width))


def _exponent(tau: sympy.Expr, mean: sympy.Expr) -> sympy.Expr:
    """log of e^-I p up to a constant for p = N(0, 1), d = 1, A = tau and c = mean (from m = 2)."""
    values = {x: [[_point]], delta: [[2 * tau, 2 * mean]], W: [[1, 0]], b: [[0], [1]], C: [[0]]}
    return sympy.expand(-notation.at(POTENTIAL, values)[0] - _point**2 / 2)


def _integral_is_finite_where_positive() -> Iterable[Comparison]:
    """One eigenvalue 1 + tau of I + A at a time: in A's eigenbasis e^-I p is a product."""
    positive, mean = sympy.Symbol("s", positive=True), sympy.Symbol("c", real=True)
    exponent = _exponent(positive - 1, mean)
    square = -positive * (_point + mean / positive) ** 2 / 2 + mean**2 / (2 * positive)
    yield equal("1 + tau > 0: the exponent is a square and a constant", exponent, square)
    finite = sympy.integrate(sympy.exp(-positive * _point**2 / 2), (_point, -sympy.oo, sympy.oo))
    yield equal("the square integrates to", finite, sympy.sqrt(2 * sympy.pi / positive))
    downwards, size = sympy.symbols("q c", nonnegative=True)
    for sign in (1, -1):
        along = sympy.expand(_exponent(-1 - downwards, sign * size).subs(_point, -sign * _half_line))
        held = sympy.sympify(along.is_nonnegative)
        yield equal("1 + tau <= 0: on a half-line the exponent is at least 0, the integral infinite", held, sympy.true)


def _cauchy_schwarz() -> Iterable[Comparison]:
    """y^T A y = (delta^T y)^T (W^T y) / m >= -|delta^T y| |W^T y| / m >= -(|delta| |W| / m) |y|^2, in either norm."""
    y = sympy.MatrixSymbol("y", *x.shape)
    difference = (y.T * A * y - (delta.T * y).T * (W.T * y) / m).doit().expand().doit()
    yield equal("y^T A y - (delta^T y)^T (W^T y)/m, for all d and m", difference, sympy.ZeroMatrix(1, 1))
    for width in (2, 3, 4):
        left, right = sympy.symbols(f"a_1:{width + 1}"), sympy.symbols(f"b_1:{width + 1}")
        product = sum(one * other for one, other in zip(left, right, strict=True))
        squares = sum((left[i] * right[j] - left[j] * right[i]) ** 2 for i in range(width) for j in range(i))
        gap = sum(one**2 for one in left) * sum(one**2 for one in right) - product**2
        yield equal(f"|a|^2 |b|^2 - (a^T b)^2 in sums of squares, m={width}", sympy.expand(gap - squares), sympy.S.Zero)


def _extremal_attains() -> Iterable[Comparison]:
    """W = s_1 u_1 v_1^T + s_2 u_2 v_2^T in d = m = 2, every rotation, and delta = -Delta u_1 v_1^T."""
    first, second = sympy.symbols("s_1 s_2", positive=True)
    turn = [
        sympy.Matrix([[sympy.cos(a), -sympy.sin(a)], [sympy.sin(a), sympy.cos(a)]]) for a in sympy.symbols("a_1 a_2")
    ]
    frozen = turn[0] * sympy.diag(first, second) * turn[1].T
    extremal = -Delta * turn[0][:, 0] * turn[1][:, 0].T
    values = {delta: extremal.tolist(), W: frozen.tolist()}
    moved = notation.at(A, values)
    wanted = (LEAST_EIGENVALUE.subs(m, 2).subs(SpectralNorm(W.subs(m, 2)), first) - 1) * turn[0][:, 0] * turn[0][:, 0].T
    wrong = sum(sympy.simplify(entry) != 0 for entry in moved - wanted)
    yield equal("entries of A that differ from (least eigenvalue - 1) u_1 u_1^T", wrong, 0)
    yield equal("|delta|^2, Frobenius", sympy.simplify((extremal.T * extremal).trace()), Delta**2)


def _no_density_at_the_edge() -> Iterable[Comparison]:
    zero, one = sympy.Integer(0), sympy.Integer(1)
    exponent = _exponent(-one, zero)
    yield equal("d=m=W=1, b=0, delta=-1: log of e^-I p, up to a constant", exponent, zero)
    size = sympy.Symbol("R", positive=True)
    mass = sympy.integrate(sympy.exp(exponent), (_point, -size, size))
    yield equal("its integral over [-R, R], without bound", mass, 2 * size)
    # W = [[3, 0, 0], [0, 1, 0]] has norm 3 = m, so Delta = 1 is the edge.
    frozen: Rows = [[3, 0, 0], [0, 1, 0]]
    for entry, expected in ((-1, zero), ("-999/1000", sympy.Rational(1, 1000))):
        shift: Rows = [[entry, 0, 0], [0, 0, 0]]
        determinant = sympy.Matrix(notation.at(identity + A, {W: frozen, delta: shift})).det()
        yield equal(f"d=2, m=3, |W| = 3, delta = {entry} e_1 e_1^T: det(I + A)", determinant, expected)


def _heavier_tails_allow_no_ball() -> Iterable[Comparison]:
    """p = e^-|x|/2, d = m = W = 1, b = 0: for every delta = -eps the integrand is at least 1/2 beyond x = 2/eps."""
    small = sympy.Symbol("epsilon", positive=True)
    potential = notation.at(POTENTIAL, {x: [[_point]], delta: [[-small]], W: [[1]], b: [[0]], C: [[0]]})[0]
    beyond = sympy.expand((-potential - _point).subs(_point, 2 / small + _half_line))
    held = sympy.sympify(beyond.is_nonnegative)
    yield equal("exponent of e^-I p at x = 2/eps + y, y >= 0, is nonnegative", held, sympy.true)


@dataclass(frozen=True)
class InBall(strategies.Perturbed):
    """A model with an admissible delta in the ball of radius Delta, in Frobenius or in operator norm."""

    radius: float


@st.composite
def in_ball(draw: st.DrawFn, ratios: tuple[float, ...], extremal: bool | None = None) -> InBall:
    """Delta |W|_op / m is one of `ratios`; delta lies on the sphere, extremal (-u_1 v_1^T) or any admissible one."""
    model = draw(strategies.models())
    radius = draw(st.sampled_from(ratios)) * model.m / (model.norm or 1.0)
    if draw(st.booleans()) if extremal is None else extremal:
        left, _, right = np.linalg.svd(model.W)
        direction = -np.outer(left[:, 0], right[0])
    else:
        noise = np.random.default_rng(draw(strategies.seeds)).standard_normal(model.W.shape)
        direction = perturbations.project_admissible(noise, model.W)
    size = np.linalg.norm(direction, draw(st.sampled_from(["fro", 2])))
    return InBall(model.W, model.b, direction * (radius / size if size > 1e-9 else 0.0), radius)


def _least(instance: InBall) -> float:
    product = instance.delta @ instance.W.T / instance.m
    return float(np.linalg.eigvalsh(np.eye(instance.d) + (product + product.T) / 2)[0])


BECAUSE = "rounding of an eigenvalue and of delta W^T / m, of order Delta |W| / m"


def check_positive(instance: InBall) -> Iterable[Comparison]:
    """I + A is positive definite, its least eigenvalue at least 1 - Delta |W| / m."""
    claimed = least_eigenvalue(instance.radius, instance.norm, instance.m)
    yield less("0 against the least eigenvalue of I + A", 0.0, _least(instance))
    yield at_most("1 - Delta |W|/m against it", claimed, _least(instance), 1e-12, BECAUSE)


def check_extremal(instance: InBall) -> Iterable[Comparison]:
    """delta = -Delta u_1 v_1^T is admissible, of norm Delta both ways, and attains the least eigenvalue."""
    asymmetry = np.linalg.norm(instance.delta @ instance.W.T - instance.W @ instance.delta.T) / instance.m
    yield equal("|delta W^T - W delta^T| / m", asymmetry, 0.0, 1e-12 * max(1.0, _ratio(instance)), BECAUSE)
    for order in ("fro", 2):
        size = np.linalg.norm(instance.delta, order)
        yield equal(f"|delta| ({order})", size, instance.radius, 1e-12 * instance.radius, "rounding of a unit vector")
    claimed = least_eigenvalue(instance.radius, instance.norm, instance.m)
    yield equal("least eigenvalue of I + A", _least(instance), claimed, 1e-12 * max(1.0, _ratio(instance)), BECAUSE)


def _ratio(instance: InBall) -> float:
    return instance.radius * instance.norm / instance.m


INSIDE = (1e-6, 1e-3, 0.1, 0.5, 0.9, 0.99, 1 - 1e-4)
OUTSIDE = (1.0, 1 + 1e-4, 1.5, 4.0)
"""Values of Delta |W| / m: where every admissible delta gives a density, and where not every one does."""

STATEMENT = Statement(
    label="theorem-3.3-normalisable",
    title="e^-I p can be normalised",
    source="Theorem 3.3, the definition of C; Appendix Eq. (32)",
    verdict=Verdict.CONDITIONAL,
    fault=Fault.SLIP,
    reason=(
        "C exists only where e^-I p has a finite integral. For p = N(0, I) and a linear activation, every admissible "
        "delta in the ball has one just when Delta times the operator norm of W is below m; d = m = W = 1, b = 0, "
        "delta = -1 makes e^-I p constant."
    ),
    printed=Exists(C, sympy.Eq(Integral(sympy.exp(-POTENTIAL_OF(delta)) * p), 1)),
    holds=Iff(CONDITION, ForAll(Both(sympy.Le(Norm(delta), Delta), SYMMETRIC), PositiveDefinite(identity + A))),
    conditions=("p = N(0, I)", "linear activation", "Delta |W|_op < m"),
    evidence=(
        counterexample("at Delta |W| = m an admissible delta leaves nothing to normalise", _no_density_at_the_edge),
        symbolic(
            "e^-I p has a finite integral just where I + A is positive definite", _integral_is_finite_where_positive
        ),
        symbolic("y^T A y >= -|delta| |W| |y|^2 / m", _cauchy_schwarz),
        symbolic("delta = -Delta u_1 v_1^T attains it", _extremal_attains),
        symbolic("a p of heavier tails allows no ball at all", _heavier_tails_allow_no_ball),
        holds_for_all("every admissible delta of the ball gives a density", in_ball(INSIDE), check_positive),
        holds_for_all(
            "the extremal delta attains the least eigenvalue",
            in_ball(INSIDE + OUTSIDE, extremal=True).filter(lambda instance: instance.norm > 0),
            check_extremal,
        ),
        fails_without("Delta |W|_op < m", in_ball(OUTSIDE), check_positive),
    ),
)
