"""Theorem T1: which perturbations of theta are gradients, for any activation, and how far they move p = N(0, I).

Holds: (i) delta_j = c[j]*w_j implies 1/m*delta*sigma(W^T*x + b) = grad [Sum(c[j]*Phi(z[j]), (j, 1, m))/m]; (ii) the field is a gradient and linearly independent slopes, no column 0, d at least 2 implies delta_j = c[j]*w_j; (iii) p standard normal and r_L = L*|W|_op*|delta|_op/m and r_L < 1 implies KL(p || p_hat) <= Trace(delta*G*delta^T)/(m^2*(2 - 2*r_L))

The field delta sigma(W^T x + b) / m has a potential if delta_j = c_j w_j for every column j, Phi' = sigma, and z_j =
w_j^T x + b_j. The skew part of its Jacobian is the sum of sigma'(z_j) (delta_j w_j^T - w_j delta_j^T) / m, so the
condition is necessary too where the sigma'(z_j) are linearly independent functions of x and no w_j is 0 (d >= 2): the
admissible set has dimension m, where a linear sigma has d m - C(d,2) + C(d-r,2), r = rank W. Symmetry of delta W^T is
neither sufficient nor, in degenerate cases, is delta_j = c_j w_j necessary. For ReLU e^-I p is normalisable where
Q(u) = 1 + (1/m) sum c_j max(w_j^T u, 0)^2 is positive on the unit sphere, and not where it is negative somewhere. Where
sigma is L-Lipschitz and L |delta| |W| < m, p_hat is strongly log-concave, and the log-Sobolev inequality bounds KL.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import cast

import numpy as np
import sympy
from numpy import ndarray

from theory.claims.equation_9_random_feature_score import SECOND_ORDER, Activated
from theory.model.perturbations import NotNormalizableError
from theory.model.perturbed_density import perturbed_density, potential_of
from theory.model.random_features import ACTIVATIONS, feature_second_moment
from theory.proof import notation
from theory.proof.gradient_fields import (
    RELU_GROWTH,
    RELU_MODELS,
    Activity,
    Coefficients,
    Features,
    along_columns,
    coefficient,
    decided,
    generic_features,
    gradient_dimension,
    least_growth,
    line_integral,
    lipschitz,
    relu_model,
    y,
)
from theory.proof.machine_checked import machine_checked
from theory.proof.notation import (
    KL,
    Both,
    Clauses,
    G,
    Gradient,
    Implies,
    SpectralNorm,
    W,
    b,
    d,
    delta,
    generic,
    j,
    m,
    numeric,
    p,
    p_hat,
    words,
    x,
)
from theory.proof.statement import (
    Comparison,
    Statement,
    Verdict,
    at_most,
    counterexample,
    equal,
    fails_without,
    holds_for_all,
    less,
    quadrature,
    symbolic,
)


class Sigma(sympy.Function):
    """sigma, any activation with a derivative."""


class Phi(sympy.Function):
    """An antiderivative of sigma."""

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """Phi' = sigma."""
        return Sigma(self.args[0])


z = sympy.IndexedBase("z")
"""z_j = w_j^T x + b_j."""
L = sympy.Symbol("L", positive=True)
_delta_j, _w_j = (sympy.MatrixSymbol(name, d, 1) for name in ("delta_j", "w_j"))

POTENTIAL = sympy.Sum(coefficient[j] * Phi(z[j]), (j, 1, m)) / m
"""I(x), up to a constant."""
ratio = sympy.Symbol("r_L", positive=True)
RATIO = L * SpectralNorm(delta) * SpectralNorm(W) / m
"""r_L: -log p_hat is strongly convex with 1 - r_L."""
BOUND = SECOND_ORDER / (2 * (1 - ratio))
rank = sympy.Symbol("r", integer=True, nonnegative=True)
LINEAR_DIMENSION = d * m - sympy.binomial(d, 2) + sympy.binomial(d - rank, 2)
"""Of the admissible delta for a linear sigma, r = rank W."""


def potential_at(pre_activations: list[sympy.Expr], coefficients: list[sympy.Expr]) -> sympy.Expr:
    """POTENTIAL at given z_j and c_j, exactly."""
    columns = len(coefficients)
    values = {z[n + 1]: value for n, value in enumerate(pre_activations)}
    values |= {coefficient[n + 1]: value for n, value in enumerate(coefficients)}
    return POTENTIAL.subs(m, columns).doit().subs(values)


def _model(rows: int, columns: int) -> tuple[sympy.Matrix, sympy.Matrix, sympy.Matrix]:
    """Generic W, x and z = W^T x + b."""
    frozen = sympy.Matrix(generic(W, rows, columns))
    point = sympy.Matrix(generic(x, rows, 1))
    return frozen, point, frozen.T * point + sympy.Matrix(generic(b, columns, 1))


def _vanishes(what: str, matrix: sympy.Matrix) -> Comparison:
    """The number of entries that are not identically zero, against 0."""
    return equal(f"{what}: entries not zero", sum(sympy.simplify(sympy.expand(entry)) != 0 for entry in matrix), 0)


def _sufficient() -> Iterable[Comparison]:
    for rows, columns in ((1, 2), (2, 2), (2, 3), (3, 2)):
        frozen, point, pre_activations = _model(rows, columns)
        coefficients = list(sympy.symbols(f"c_1:{columns + 1}"))
        potential = potential_at(list(pre_activations), coefficients)
        field = frozen * sympy.diag(*coefficients) * pre_activations.applyfunc(Sigma) / columns
        difference = sympy.Matrix([sympy.diff(potential, entry) for entry in point]) - field
        yield _vanishes(f"grad I - delta sigma/m for delta_j = c_j w_j, d={rows}, m={columns}", difference)


def _skew_part() -> Iterable[Comparison]:
    for rows, columns in ((2, 1), (2, 3), (3, 2)):
        frozen, point, pre_activations = _model(rows, columns)
        moved = sympy.Matrix(generic(delta, rows, columns))
        jacobian = (moved * pre_activations.applyfunc(Sigma) / columns).jacobian(point)
        slopes = [sympy.diff(Sigma(value), point[0]) / frozen[0, n] for n, value in enumerate(pre_activations)]
        claimed = sympy.zeros(rows, rows)
        for n, slope in enumerate(slopes):
            claimed += slope * (moved[:, n] * frozen[:, n].T - frozen[:, n] * moved[:, n].T) / columns
        difference = jacobian - jacobian.T - claimed
        yield _vanishes(f"Jacobian - its transpose, minus the combination, d={rows}, m={columns}", difference)


def _necessary() -> Iterable[Comparison]:
    """A vanishing delta w^T - w delta^T makes delta the multiple (w^T delta / |w|^2) w of w."""
    for rows in (2, 3, 4):
        one, other = sympy.Matrix(generic(_delta_j, rows, 1)), sympy.Matrix(generic(_w_j, rows, 1))
        square = (other.T * other)[0]
        remainder = one - other * (other.T * one)[0] / square
        skew = one * other.T - other * one.T
        yield _vanishes(f"delta across w, minus (skew part) w/|w|^2, d={rows}", remainder - skew * other / square)


def _relu(value: sympy.Expr) -> sympy.Expr:
    return sympy.Max(value, 0)


def _degenerate_example() -> Iterable[Comparison]:
    point = sympy.Matrix(sympy.symbols("x y", real=True))
    frozen = notation.exact_matrix([[1, -1, 0, 0], [0, 0, 1, -1]])
    moved = notation.exact_matrix([[0, 0, 1, -1], [1, -1, 0, 0]])
    field = (moved * (frozen.T * point).applyfunc(_relu)).applyfunc(lambda e: sympy.expand(e.rewrite(sympy.Abs)))
    yield equal("first entry of delta sigma", field[0], point[1])
    yield equal("second entry", field[1], point[0])
    yield _vanishes("delta sigma minus grad (x y)", sympy.Matrix([point[0] * point[1]]).jacobian(point).T - field)
    for n in range(4):
        pair = sympy.Matrix.hstack(moved[:, n], frozen[:, n])
        yield equal(f"rank of (delta_{n + 1}, w_{n + 1}): not parallel", pair.rank(), 2)


def _circulation_example() -> Iterable[Comparison]:
    angle = sympy.Symbol("t", real=True)
    moved = notation.exact_matrix([[0, 1], [1, 0]])
    yield _vanishes("delta W^T minus its transpose, W = I", moved - moved.T)
    radius = sympy.Rational(1, 4)
    circle = sympy.Matrix([1 + radius * sympy.cos(angle), -1 + radius * sympy.sin(angle)])
    # cos and sin lie in [-1, 1], so x > 0 and y < 0 on the whole circle
    yield less("0 against the least x on the circle", sympy.Integer(0), 1 - radius)
    yield less("the largest y on the circle", -1 + radius, sympy.Integer(0))
    field = moved * sympy.Matrix([circle[0], 0])
    circulation = sympy.integrate((field.T * circle.diff(angle))[0], (angle, 0, 2 * sympy.pi))
    yield equal("circulation of delta sigma", circulation, sympy.pi / 16)


def _growth_along_rays() -> Iterable[Comparison]:
    """(|x|^2/2 + I(x)) / (r^2/2) at x = r u, for r to infinity, term by term: the sign of y = w^T u decides."""
    far, shift = sympy.Symbol("r", positive=True), sympy.Symbol("b", real=True)
    for name, slope in (("y > 0", sympy.Symbol("y", positive=True)), ("y < 0", sympy.Symbol("y", negative=True))):
        term = RELU_GROWTH.subs(m, 1).doit().subs({coefficient[1]: 1, y[1]: slope}) - 1
        # beyond r = |b/y| the activation is open where y > 0 and shut where y < 0
        activated = slope * far + shift if slope.is_positive else sympy.Integer(0)
        limit = sympy.limit(2 * (activated**2 / 2) / far**2, far, sympy.oo)
        yield equal(f"growth of one term of I, {name}", limit, term)


BECAUSE_OF_NODES = "rounding, and Gauss-Legendre with 24 nodes on pieces over which no z_j moves by more than about 5"


def _integral(instance: Activity, start: ndarray, end: ndarray) -> float:
    return line_integral(instance.delta, instance.W, instance.b, instance.activation, start, end)


def check_circulation(instance: Activity) -> Iterable[Comparison]:
    """The field's integral around a triangle vanishes."""
    corners = instance.corners
    sides = [_integral(instance, corners[n], corners[n - 2]) for n in range(3)]
    yield equal("circulation", sum(sides), 0.0, 1e-9 * (1 + sum(map(abs, sides))), BECAUSE_OF_NODES)


def check_gradient(instance: Activity) -> Iterable[Comparison]:
    """No circulation, and I is what the field integrates to."""
    yield from check_circulation(instance)
    potential = potential_of(instance.delta, instance.W, instance.b, instance.activation)
    start, end, _ = instance.corners
    integral = _integral(instance, start, end)
    tolerance = 1e-9 * (1 + abs(integral))
    yield equal("I(end) - I(start)", potential(end) - potential(start), integral, tolerance, BECAUSE_OF_NODES)


def check_dimension(instance: Features) -> Iterable[Comparison]:
    """Of the delta whose field has a symmetric Jacobian at every point, by numerical rank."""
    dimension = gradient_dimension(instance.W, instance.b, instance.activation, instance.points)
    yield equal("dimension of the admissible delta", dimension, instance.m)


def check_dimensions(instance: Features) -> Iterable[Comparison]:
    """The same count, and for a linear activation."""
    yield from check_dimension(instance)
    sizes = {d: instance.d, m: instance.m, rank: int(np.linalg.matrix_rank(instance.W))}
    dimension = gradient_dimension(instance.W, instance.b, "linear", instance.points)
    yield equal("the same for linear sigma", dimension, int(LINEAR_DIMENSION.subs(sizes)))


def check_normalisable(instance: Coefficients) -> Iterable[Comparison]:
    """Whether the density is found and has a finite integral, against the sign of the least Q."""
    least = least_growth(instance)
    try:
        density = perturbed_density(instance.W * instance.c, instance.W, instance.b, instance.activation)
        settled = np.isfinite(density.log_normaliser) and density.error < 1
    except NotNormalizableError:
        settled = False
    yield equal("normalisable, against the least Q being positive", float(settled), float(least > 0))


@cache
def _ratio() -> Callable[..., float]:
    """RATIO of L, |delta|, |W| and m."""
    sizes = sympy.symbols("delta_norm W_norm")
    formula = RATIO.subs({SpectralNorm(delta): sizes[0], SpectralNorm(W): sizes[1]})
    return cast(Callable[..., float], sympy.lambdify((L, *sizes, m), formula))


def check_bound(instance: Coefficients) -> Iterable[Comparison]:
    """KL(p || p_hat) by quadrature against J / (2 (1 - r_L))."""
    moved = instance.W * instance.c
    log_density = None if instance.spread == 1 else lambda x: -((x / instance.spread) ** 2).sum(axis=1) / 2
    density = perturbed_density(moved, instance.W, instance.b, instance.activation, log_density)
    moment = feature_second_moment(instance.spread * instance.W, instance.b, instance.activation)
    constant, norms = ACTIVATIONS[instance.activation].lipschitz, (np.linalg.norm(moved, 2), instance.norm)
    sides = moved, moment, instance.m, _ratio()(constant, *norms, instance.m)
    bound = float(numeric(BOUND, delta, G, m, ratio)(*sides))
    because = "the quadrature's estimated error, and that of G"
    yield at_most("KL(p || p_hat)", density.kl.value, bound, density.kl.error + 1e-9 * abs(bound), because)


def _normalisable_in_the_plane() -> Iterable[Comparison]:
    for seed in range(12):
        instance = relu_model(2, 3, seed, 0.5)
        if decided(instance):
            yield from check_normalisable(instance)


def _bound_in_the_plane() -> Iterable[Comparison]:
    rng = np.random.default_rng(1)
    for name, ratio in (("relu", 0.9), ("tanh", 0.5), ("gelu", 0.9)):
        frozen, c = rng.standard_normal((2, 3)), rng.standard_normal(3)
        size = np.linalg.norm(frozen * c, 2) * np.linalg.norm(frozen, 2) / 3 * ACTIVATIONS[name].lipschitz
        yield from check_bound(Coefficients(frozen, rng.standard_normal(3), c * ratio / size, name))


_parallel = sympy.Eq(_delta_j, coefficient[j] * _w_j)
_gradient = sympy.Eq(delta * Activated(W.T * x + b) / m, Gradient(POTENTIAL), evaluate=False)
_independent = words("linearly independent slopes, no column 0, d at least 2")
_only_if = Implies(Both(words("the field is a gradient"), _independent), _parallel)
_bounded = Implies(
    Both(words("p standard normal"), Both(sympy.Eq(ratio, RATIO), ratio < 1)), sympy.Le(KL(p, p_hat), BOUND)
)

STATEMENT = Statement(
    label="theorem-t1",
    title="the perturbations that are gradients, for any activation",
    source="ours",
    verdict=Verdict.HOLDS,
    reason=(
        "For a nonlinear activation the admissible delta are, but for degenerate cases, the multiples delta_j = c_j "
        "w_j, column by column: m dimensions; symmetry of delta W^T is not enough. While r_L < 1 the divergence is "
        "at most J / (2 (1 - r_L)), p = N(0, I)."
    ),
    printed=None,
    holds=Clauses(Implies(_parallel, _gradient), _only_if, _bounded),
    evidence=(
        machine_checked(
            "delta_j along w_j: enough for any slopes, and needed where they are independent",
            "admissible.v",
            "along_columns_admissible",
            "skew_part",
            "parallel",
            "admissible_along_columns",
            "along_columns_once",
        ),
        symbolic("grad I = delta sigma/m for delta_j = c_j w_j, whatever sigma is", _sufficient),
        symbolic("the Jacobian's skew part is a combination of delta_j w_j^T - w_j delta_j^T", _skew_part),
        symbolic("it vanishes term by term only for delta_j along w_j", _necessary),
        counterexample("linear dependence: a gradient with no delta_j along w_j", _degenerate_example),
        counterexample("delta W^T symmetric, and yet a circulation of pi/16", _circulation_example),
        holds_for_all("no circulation where delta_j = c_j w_j: the integral is I", along_columns(), check_gradient),
        fails_without("delta_j along w_j; delta W^T is symmetric", along_columns(parallel=False), check_circulation),
        holds_for_all("the admissible set has dimension m; more for linear", generic_features(), check_dimensions),
        fails_without("linearly independent sigma'(z_j)", generic_features(mirrored=True), check_dimension),
        fails_without("sigma is not linear", generic_features(names=("linear",)), check_dimension),
        symbolic("for ReLU, -log(e^-I p) grows like Q(u) r^2/2", _growth_along_rays),
        holds_for_all("for ReLU, normalisable by the sign of Q, d = 1", RELU_MODELS, check_normalisable),
        quadrature("for ReLU, normalisable by the sign of Q, d = 2", _normalisable_in_the_plane),
        holds_for_all("KL <= J/(2 (1 - r_L)), d = 1", lipschitz(), check_bound),
        quadrature("KL <= J/(2 (1 - r_L)), d = 2", _bound_in_the_plane),
        fails_without("r_L < 1", lipschitz(ratios=(1.5, 4.0)), check_bound),
        fails_without("p = N(0, I), but N(0, 9)", lipschitz(ratios=(0.01, 0.05), spread=3.0), check_bound),
    ),
)
