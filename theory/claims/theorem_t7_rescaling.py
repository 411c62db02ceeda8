"""Theorem T7: flatness is not invariant under rescalings that leave the function as it is.

Holds: (i) positively homogeneous activation implies (1/(a*m))*theta*sigma(a*(W^T*x + b)) = 1/m*theta*sigma(W^T*x + b); (ii) positively homogeneous activation implies J_a = d*a^2*s^2*Trace(G)/m^2 and Delta_a = m*sqrt(kappa)*sqrt(1/lambda_max(G))/a and a factor for each neuron implies J_columns = s^2*Sum(theta_norm[j]^2*G[j, j], (j, 1, m))/m^2; (iii) scale-invariant w implies H(w*a) = H(w)/a^2

(i), (ii) Positively homogeneous sigma, sigma(a z) = a sigma(z) for a > 0 (ReLU, leaky ReLU): theta/a with a W and a U
is the same function, but E|phi|^2 and the rise of the loss under noise on theta grow by a^2, and the kappa-flat radius
falls by a. (iii) Scale-invariant weights w, such as those in front of a normalisation layer: growing |w| by a leaves the
function and divides their Hessian block by a^2. So noise of a fixed size confounds flatness with the size of weights.
Noise relative to the norm of theta, s |theta|/sqrt(d m) on every entry, has the rise s^2 |theta|^2 E|phi|^2/m^3, and
|theta|^2 times the trace of the Hessian block goes with it: both stay where all neurons are rescaled by one factor, and
only there. Each neuron has a factor of its own, theta_j/a_j with a_j w_j and a_j b_j, and by those they move without
bound. What stays under all of them is noise relative to each column, s |theta_j|/sqrt(d) on column j, with the rise
(s^2/m^2) sum_j |theta_j|^2 E phi_j^2. Noise in proportion to each weight, s |theta_ij|, has the same rise, and stays with
noise on all layers too, whose weights it grows with. Nor can the function have any flatness at all: with noise on theta and W together
the rise has a positive floor over a, since it grows like a^2 one way and like 1/a^2 the other.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import sympy
from hypothesis import strategies as st
from numpy import ndarray

from theory.claims.equation_9_random_feature_score import HESSIAN, SCORE, Activated, phi
from theory.claims.theorem_t3_equal_flatness import FLAT_RADIUS, LPF_RISE, SIZES, average, noise
from theory.model.perturbations import flat_radius
from theory.model.random_features import LEAK
from theory.proof import notation, strategies
from theory.proof.empirical import Problem, problems
from theory.proof.machine_checked import machine_checked
from theory.proof.notation import (
    Both,
    Clauses,
    G,
    Implies,
    LargestEigenvalue,
    Norm,
    W,
    b,
    d,
    delta,
    generic,
    j,
    m,
    numeric,
    theta,
    words,
    x,
)
from theory.proof.statement import (
    Comparison,
    Statement,
    Verdict,
    counterexample,
    equal,
    fails_without,
    holds_for_all,
    less,
    symbolic,
)

scale = sympy.Symbol("a", positive=True)
RELATIVE_RISE = LPF_RISE.subs(noise, noise * Norm(theta) / sympy.sqrt(d * m))
"""The rise under noise of standard deviation s |theta| / sqrt(d m) on every weight."""
_columns, _second = sympy.IndexedBase("theta_norm"), sympy.IndexedBase("G")
COLUMN_RISE = noise**2 * sympy.Sum(_columns[j] ** 2 * _second[j, j], (j, 1, m)) / m**2
"""The rise under noise of standard deviation s |theta_j| / sqrt(d) on column j, theta_norm[j] = |theta_j|."""
TRACE_PRODUCT = Norm(theta) ** 2 * 2 * d * sympy.Trace(G) / m**2
"""|theta|^2 times the trace of the Hessian block of theta, 2 d tr G / m^2."""
RISE_FACTOR, RADIUS_FACTOR, HESSIAN_FACTOR = scale**2, 1 / scale, 1 / scale**2
"""What the rise under noise, the flat radius and a scale-invariant block's Hessian are multiplied by."""


def _rescaled(formula: sympy.Expr) -> sympy.Expr:
    """A formula of theta and G after theta -> theta/a, phi -> a phi."""
    values = {sympy.Trace(G): scale**2 * sympy.Trace(G), LargestEigenvalue(G): scale**2 * LargestEigenvalue(G)}
    return formula.subs(values | {Norm(theta): Norm(theta) / scale}, simultaneous=True)


def _same_function() -> Iterable[Comparison]:
    value = sympy.Symbol("z", real=True)
    slope = sympy.Rational(LEAK).limit_denominator(100)
    for name, low in (("ReLU", sympy.Integer(0)), ("leaky ReLU", slope), ("linear", sympy.Integer(1))):
        # max(z, 0) + low min(z, 0)
        sigma = (1 + low) / 2 * value + (1 - low) / 2 * sympy.Abs(value)
        difference = sympy.expand(sigma.subs(value, scale * value) - scale * sigma)
        yield equal(f"sigma(a z) - a sigma(z), {name}", difference, 0)
    moved = SCORE.subs(theta, theta / scale).subs(phi, scale * phi)
    yield equal("s after - s before, for all d and m", (moved - SCORE).doit(), sympy.ZeroMatrix(*SCORE.shape))


def _flatness_moves() -> Iterable[Comparison]:
    for size in (1, 2, 3):
        moment, root = sympy.Matrix(generic(G, size, size)), sympy.Symbol("lambda")
        before = (moment - root * sympy.eye(size)).det()
        after = (scale**2 * moment - scale**2 * root * sympy.eye(size)).det()
        difference = sympy.expand(after - scale ** (2 * size) * before)
        yield equal(f"a^2 lambda is an eigenvalue of a^2 G where lambda is one of G, m={size}", difference, 0)
        yield equal("trace of a^2 G", (scale**2 * moment).trace(), sympy.expand(scale**2 * moment.trace()))
    yield equal("rise under noise, after over before", sympy.simplify(_rescaled(LPF_RISE) / LPF_RISE), RISE_FACTOR)
    ratio = sympy.simplify(_rescaled(FLAT_RADIUS) / FLAT_RADIUS)
    yield equal("Delta_kappa, after over before", ratio, RADIUS_FACTOR)


def _companions_stay() -> Iterable[Comparison]:
    for name, formula in (("rise under relative noise", RELATIVE_RISE), ("|theta|^2 tr H", TRACE_PRODUCT)):
        yield equal(f"{name}, after - before", sympy.simplify(_rescaled(formula) - formula), 0)
    printed = noise**2 * Norm(theta) ** 2 * sympy.Trace(G) / m**3
    yield equal("rise under relative noise - s^2 |theta|^2 E|phi|^2/m^3", sympy.simplify(RELATIVE_RISE - printed), 0)
    for rows, columns in SIZES:
        entries = [entry for row in generic(delta, rows, columns) for entry in row]
        variance = noise**2 * Norm(theta) ** 2 / (rows * columns)
        size = average(sum(entry**2 for entry in entries), dict.fromkeys(entries, variance))
        yield equal(f"E|delta|^2 of that noise, d={rows}, m={columns}", size, noise**2 * Norm(theta) ** 2)
        moment = sympy.Matrix(generic(G, columns, columns))
        hessian = HESSIAN.subs({d: rows, m: columns}).subs(sympy.MatrixSymbol("G", columns, columns), moment)
        claimed = notation.at(TRACE_PRODUCT / Norm(theta) ** 2, {G: moment.tolist()}, d=rows)
        difference = sympy.expand(sympy.Matrix(hessian.as_explicit()).trace() - claimed)
        yield equal(f"trace of the Hessian block, d={rows}, m={columns}", difference, 0)


def _each_neuron_by_its_own_factor() -> Iterable[Comparison]:
    """theta_j/a_j and a_j phi_j, for m = 1, 2, 3."""
    for columns in (1, 2, 3):
        factors = sympy.symbols(f"a_1:{columns + 1}", positive=True)
        theta_value, phi_value = sympy.Matrix(generic(theta, 2, columns)), sympy.Matrix(generic(phi, columns, 1))
        inverse = sympy.diag(*(1 / factor for factor in factors))
        moved = theta_value * inverse * sympy.diag(*factors) * phi_value
        yield _vanishes(f"s after less s before, m={columns}", moved - theta_value * phi_value)
        rise = COLUMN_RISE.subs(m, columns).doit()
        after = {_columns[n + 1]: _columns[n + 1] / factors[n] for n in range(columns)}
        after |= {_second[n + 1, n + 1]: factors[n] ** 2 * _second[n + 1, n + 1] for n in range(columns)}
        difference = sympy.simplify(rise.subs(after, simultaneous=True) - rise)
        yield equal(f"rise under column-relative noise, after - before, m={columns}", difference, 0)
    for rows, columns in SIZES:
        entries = generic(delta, rows, columns)
        variances = {entry: noise**2 * _columns[n + 1] ** 2 / rows for row in entries for n, entry in enumerate(row)}
        squares = sum(entry**2 * _second[n + 1, n + 1] for row in entries for n, entry in enumerate(row))
        mean = average(sympy.expand(squares / columns**2), variances)  # E of entries of two columns is 0
        claimed = COLUMN_RISE.subs(m, columns).doit()
        yield equal(f"E J of that noise, d={rows}, m={columns}", sympy.expand(mean - claimed), 0)


def _each_weight_by_its_own_size() -> Iterable[Comparison]:
    """Noise s |weight| e: on theta the rise of column-relative noise; on all weights the same function as before."""
    for rows, columns in SIZES:
        entries = generic(delta, rows, columns)
        weights = sympy.Matrix(generic(theta, rows, columns))
        variances = {entries[i][n]: noise**2 * weights[i, n] ** 2 for i in range(rows) for n in range(columns)}
        squares = sum(entry**2 * _second[n + 1, n + 1] for row in entries for n, entry in enumerate(row))
        mean = average(sympy.expand(squares / columns**2), variances)
        norms = {_columns[n + 1]: sympy.sqrt(sum(entry**2 for entry in weights[:, n])) for n in range(columns)}
        claimed = COLUMN_RISE.subs(m, columns).doit().subs(norms)
        yield equal(f"E J less that of column-relative noise, d={rows}, m={columns}", sympy.expand(mean - claimed), 0)
    own, a = sympy.Function("sigma"), scale
    weight, first, bias, point = sympy.symbols("theta w b x", real=True)
    moves = sympy.symbols("e_1:4", real=True)
    z = first * (1 + noise * moves[1]) * point + bias * (1 + noise * moves[2])
    before = weight * (1 + noise * moves[0]) * own(z)
    after = weight / a * (1 + noise * moves[0]) * own(sympy.expand(a * z))
    homogeneous = after.subs(own(sympy.expand(a * z)), a * own(z))  # sigma(a z) = a sigma(z)
    yield equal("a neuron's part of s with noise on its weights, after less before", homogeneous - before, 0)


def _a_layer_s_noise_is_not_invariant() -> Iterable[Comparison]:
    """d = 1, m = 2, theta = (1, 1), G = I, and one neuron's factor a = 10: (1/10, 1) and diag(100, 1)."""
    before, after = (
        notation.at(RELATIVE_RISE.subs(Norm(theta) ** 2, size), {G: moment}, d=1)
        for size, moment in ((2, [[1, 0], [0, 1]]), (sympy.Rational(101, 100), [[100, 0], [0, 1]]))
    )
    yield equal("rise under layer-relative noise before", before, noise**2 / 2)
    yield equal("after over before", sympy.simplify(after / before), sympy.Rational(10201, 400))


def _noise_on_both_layers_has_a_floor() -> Iterable[Comparison]:
    """d = m = 1, s = theta w x, x ~ N(0, 1), independent noise of deviation s on theta/a and a w."""
    first, second, deviation = sympy.symbols("theta w s", positive=True)
    one, other, target = sympy.symbols("e_1 e_2 t", real=True)
    moved = (first / scale + one) * (second * scale + other)
    loss = sympy.expand((moved - target) ** 2)
    # of degree 2 in either: two points at +-s are exact for any noise of that variance
    signs = [(a, b) for a in (1, -1) for b in (1, -1)]
    mean = sum(loss.subs({one: a * deviation, other: b * deviation}) for a, b in signs) / 4
    rise = mean - (first * second - target) ** 2
    floor = deviation**2 * 2 * first * second + deviation**4
    excess = sympy.simplify(sympy.expand(rise - floor) - deviation**2 * (first / scale - second * scale) ** 2)
    yield equal("rise - floor - s^2 (theta/a - a w)^2", excess, 0)
    yield less("0 against the floor, theta = w = s = 1", 0, floor.subs({first: 1, second: 1, deviation: 1}))


def _vanishes(what: str, matrix: sympy.Matrix) -> Comparison:
    """The number of entries that are not identically zero, against 0."""
    return equal(f"{what}: entries not zero", sum(sympy.simplify(entry.doit()) != 0 for entry in matrix), 0)


@cache
def _smooth(name: str) -> type[sympy.Function]:
    """Any function of several arguments; derivatives are named by their indices, sorted, so that mixed ones agree."""

    def fdiff(self: sympy.Function, argindex: int = 1) -> sympy.Expr:
        return _smooth("F" + "".join(sorted(name[1:] + str(argindex))))(*self.args)

    return type(name, (sympy.Function,), {"fdiff": fdiff})


def _scale_invariant_weights() -> Iterable[Comparison]:
    """Where w_1 > 0 a scale-invariant f is F(w_2/w_1, w_3/w_1, ...): any F."""
    for size in (2, 3):
        weights = sympy.symbols(f"w_1:{size + 1}", positive=True)
        function = _smooth("F")(*(weight / weights[0] for weight in weights[1:]))
        gradient = sympy.Matrix([function]).jacobian(weights).T
        hessian = sympy.hessian(function, weights)
        along = sympy.Matrix(weights)
        yield _vanishes(f"w^T grad f, {size} weights", gradient.T * along)
        yield _vanishes(f"H w + grad f, {size} weights", hessian * along + gradient)
        moved = hessian.subs({weight: scale * weight for weight in weights}, simultaneous=True)
        yield _vanishes(f"H(a w) - H(w)/a^2, {size} weights", moved - HESSIAN_FACTOR * hessian)
        product = (along.T * along)[0] * hessian.trace()
        product_after = ((scale * along).T * (scale * along))[0] * moved.trace()
        yield equal(f"|w|^2 tr H, after - before, {size} weights", sympy.simplify(product_after - product), 0)


HOMOGENEOUS = ("linear", "relu", "leaky_relu")
OTHERS = ("tanh", "sigmoid", "softplus", "gelu", "erf")


@dataclass(frozen=True)
class Rescaling:
    """A problem, a theta and the factor a."""

    problem: Problem
    theta: ndarray
    a: float

    @property
    def after(self) -> tuple[Problem, ndarray]:
        """a W, a b and theta/a, for the same targets."""
        moved = replace(self.problem, W=self.a * self.problem.W, b=self.a * self.problem.b)
        return moved, self.theta / self.a


@st.composite
def rescalings(draw: st.DrawFn, names: tuple[str, ...] = HOMOGENEOUS) -> Rescaling:
    """Factors below and above 1."""
    problem = draw(problems((3, 5), names))
    rng = np.random.default_rng(draw(strategies.seeds))
    return Rescaling(problem, rng.standard_normal(problem.W.shape), draw(st.sampled_from([0.03, 0.5, 2.0, 30.0])))


@dataclass(frozen=True)
class PerNeuron:
    """A problem, a theta and a factor for each neuron."""

    problem: Problem
    theta: ndarray
    factors: ndarray

    @property
    def after(self) -> tuple[Problem, ndarray]:
        """a_j w_j, a_j b_j and theta_j/a_j, for the same targets."""
        moved = replace(self.problem, W=self.problem.W * self.factors, b=self.problem.b * self.factors)
        return moved, self.theta / self.factors


@st.composite
def per_neuron(draw: st.DrawFn) -> PerNeuron:
    """Factors from a tenth to ten."""
    problem = draw(problems((3, 5), HOMOGENEOUS))
    rng = np.random.default_rng(draw(strategies.seeds))
    return PerNeuron(problem, rng.standard_normal(problem.W.shape), 10 ** rng.uniform(-1, 1, problem.m))


def _rise_in_columns(problem: Problem, weights: ndarray, deviations: ndarray) -> float:
    """The mean rise under independent noise with a deviation for each column: exact, from losses in single weights."""
    steps = np.eye(weights.size).reshape(-1, *weights.shape) * deviations * np.sqrt(weights.size)
    losses = [problem.loss(weights + sign * step) for step in steps for sign in (1, -1)]
    return float(np.mean(losses)) - problem.loss(weights)


def _size(problem: Problem, weights: ndarray) -> float:
    """What the rounding of these losses is relative to."""
    return problem.size(3 * np.sqrt(weights.size) * np.abs(weights).max() * np.ones_like(weights))


def _neurons(instance: PerNeuron, whole: bool) -> Iterable[Comparison]:
    """The scores, and the rise under noise relative to each column of theta or to all of it, before and after."""
    sides = (instance.problem, instance.theta), instance.after
    scores = [problem.residuals(weights) for problem, weights in sides]
    size = max(
        problem.size(3 * np.sqrt(weights.size) * np.abs(weights).max() * np.ones_like(weights))
        for problem, weights in sides
    )
    because = "rounding of sums of at most 15 m terms, squared"
    yield equal("scores at every x, after - before", scores[1] - scores[0], 0.0, 1e-12 * np.sqrt(15 * size), because)
    rises = []
    for problem, weights in sides:
        norms = np.linalg.norm(weights, axis=0) / np.sqrt(problem.d)
        same = np.full(problem.m, np.linalg.norm(weights) / np.sqrt(weights.size))
        rises.append(_rise_in_columns(problem, weights, same if whole else norms))
    yield equal("rise under relative noise, after", rises[1], rises[0], 1e-11 * size, because)


def check_columns(instance: PerNeuron) -> Iterable[Comparison]:
    """Noise relative to each column: the same for every factor of every neuron, and by the formula."""
    yield from _neurons(instance, whole=False)
    moment, norms = instance.problem.second_moment, np.linalg.norm(instance.theta, axis=0)
    formula = float((norms**2 * np.diag(moment)).sum()) / instance.problem.m**2
    rise = _rise_in_columns(instance.problem, instance.theta, norms / np.sqrt(instance.problem.d))
    size = instance.problem.size(
        3 * np.sqrt(instance.theta.size) * np.abs(instance.theta).max() * np.ones_like(instance.theta)
    )
    yield equal("rise under it, against the formula", rise, formula, 1e-11 * size, "rounding of sums, squared")


def check_whole_layer(instance: PerNeuron) -> Iterable[Comparison]:
    """Noise relative to the norm of theta as a whole: not the same."""
    return _neurons(instance, whole=True)


def _rise_under_noise(problem: Problem, weights: ndarray, deviation: float) -> float:
    """The mean over +-deviation sqrt(d m) in one weight at a time: exact for noise on a quadratic loss."""
    steps = np.eye(weights.size).reshape(-1, *weights.shape) * deviation * np.sqrt(weights.size)
    return float(np.mean([problem.loss(weights + sign * step) for step in steps for sign in (1, -1)]))


def check_rescaling(instance: Rescaling) -> Iterable[Comparison]:
    """The function, what moves and what stays, each from the losses themselves."""
    (before, old), (after, new), a = (instance.problem, instance.theta), instance.after, instance.a
    size = before.size(2 * np.abs(old), old)
    because = "rounding of sums of at most 15 m terms"
    outputs = before.residuals(old), after.residuals(new)
    yield equal("scores at every x, after - before", outputs[1] - outputs[0], 0.0, 1e-12 * np.sqrt(15 * size), because)
    factors = [float(factor.subs(scale, a)) for factor in (RISE_FACTOR, RADIUS_FACTOR)]
    top = float(np.linalg.eigvalsh(before.second_moment)[-1])
    if top > 0:
        radius = flat_radius(before.second_moment, 1.0)
        moved = flat_radius(after.second_moment, 1.0)
        yield equal("Delta_kappa, after", moved, factors[1] * radius, 1e-9 * moved, "rounding of eigenvalues")
    deviation = float(np.linalg.norm(old)) / np.sqrt(old.size)
    rises = [
        _rise_under_noise(problem, weights, at) - problem.loss(weights)
        for problem, weights, at in ((before, old, deviation), (after, new, deviation), (after, new, deviation / a))
    ]
    formula = numeric(RELATIVE_RISE.subs(Norm(theta), _SIZE), noise, _SIZE, G, d, m)
    expected = formula(1.0, float(np.linalg.norm(old)), before.second_moment, before.d, before.m)
    slack = 1e-11 * max(1.0, a**2) * before.size(3 * np.sqrt(old.size) * deviation * np.ones_like(old), old)
    squared = because + ", squared"
    yield equal("rise under noise", rises[0], expected, slack, squared)
    yield equal("rise under the same noise, after", rises[1], factors[0] * rises[0], slack, squared)
    yield equal("rise under relative noise, after", rises[2], rises[0], slack, squared)


_SIZE = sympy.Symbol("theta_norm")


@dataclass(frozen=True)
class Layer:
    """One linear layer's weights w (k,), inputs (n, k), targets (n,), a direction for w, and the factor a."""

    weights: ndarray
    inputs: ndarray
    targets: ndarray
    direction: ndarray
    a: float
    normalised: bool

    def loss(self, weights: ndarray) -> float:
        """Mean squared error of tanh after the layer, normalised over the batch or not."""
        outputs = self.inputs @ weights
        if self.normalised:
            outputs = (outputs - outputs.mean()) / outputs.std()
        return float(((np.tanh(outputs) - self.targets) ** 2).mean())

    def curvature(self, weights: ndarray, step: ndarray) -> float:
        """Second difference of the loss, over |step|^2."""
        ends = self.loss(weights + step) + self.loss(weights - step) - 2 * self.loss(weights)
        return ends / float(step @ step)


@st.composite
def layers(draw: st.DrawFn, normalised: bool = True) -> Layer:
    """Batches of 8, 2 to 5 weights."""
    rng = np.random.default_rng(draw(strategies.seeds))
    width = draw(st.integers(2, 5))
    weights, direction = rng.standard_normal((2, width))
    inputs, targets = rng.standard_normal((8, width)), rng.standard_normal(8)
    return Layer(weights, inputs, targets, direction, draw(st.sampled_from([0.1, 3.0, 20.0])), normalised)


def check_layer(layer: Layer) -> Iterable[Comparison]:
    """The loss at a w is that at w; its second difference over a times the step, that at w over a^2."""
    a, step = layer.a, 1e-2 * layer.direction
    losses = layer.loss(layer.weights), layer.loss(a * layer.weights)
    spread = (layer.inputs @ layer.weights).std()
    # the outputs are normalised by their spread, which rounding hits in the size of its terms
    condition = float(np.abs(layer.inputs).max() * np.abs(layer.weights).max() / spread)
    yield equal("loss at a w - at w", losses[1] - losses[0], 0.0, 1e-12 * (1 + condition), "rounding of outputs")
    before = layer.curvature(layer.weights, step)
    after = layer.curvature(a * layer.weights, a * step)
    slack = 1e-12 * (1 + condition) * losses[0] / (a**2 * float(step @ step))
    factor = float(HESSIAN_FACTOR.subs(scale, a))
    because = "rounding of outputs, over the step squared"
    yield equal("curvature at a w", after, factor * before, slack, because)


_a_positive = words("positively homogeneous activation")
_after = theta / scale * Activated(scale * (W.T * x + b)) / m
_score = sympy.Eq(_after, SCORE.subs(phi, Activated(W.T * x + b)), evaluate=False)
_rise_after, _radius_after, _column_rise = sympy.symbols("J_a Delta_a J_columns")
_moved = Both(
    sympy.Eq(_rise_after, RISE_FACTOR * LPF_RISE, evaluate=False),
    sympy.Eq(_radius_after, RADIUS_FACTOR * FLAT_RADIUS, evaluate=False),
)
_columns_stay = sympy.Eq(_column_rise, COLUMN_RISE, evaluate=False)
_w, _hessian = sympy.Symbol("w"), sympy.Function("H")
_block = sympy.Eq(_hessian(scale * _w), HESSIAN_FACTOR * _hessian(_w), evaluate=False)

STATEMENT = Statement(
    label="theorem-t7",
    title="flatness is not invariant under rescaling",
    source="ours",
    verdict=Verdict.HOLDS,
    reason=(
        "theta/a with a W, a U is the same function for ReLU, but its rise under noise is a^2 times as large and its "
        "flat radius a times as small; scale-invariant weights do the same to their Hessian. Absolute noise therefore "
        "confounds flatness with weight norms. Noise relative to the norm of a whole layer is free of that for one "
        "factor a; for a factor to each neuron only noise relative to each column of theta, or to each weight, is."
    ),
    printed=None,
    holds=Clauses(
        Implies(_a_positive, _score),
        Both(Implies(_a_positive, _moved), Implies(words("a factor for each neuron"), _columns_stay)),
        Implies(words("scale-invariant w"), _block),
    ),
    evidence=(
        machine_checked(
            "the function, what moves and what stays, with one factor for all neurons or one for each",
            "rescaling.v",
            "same_score",
            "rise_rescaled",
            "flat_radius_rescaled",
            "relative_noise_rise_stays",
            "trace_product_stays",
            "column_noise_rise_stays",
            "scale_invariant_curvature",
        ),
        symbolic("the function is the same", _same_function),
        symbolic("the rise grows by a^2, the flat radius falls by a", _flatness_moves),
        symbolic("the rise under relative noise and |theta|^2 tr H stay", _companions_stay),
        symbolic(
            "a scale-invariant block's Hessian falls by a^2: Euler's identity, any function", _scale_invariant_weights
        ),
        holds_for_all("the same, from losses, for homogeneous sigma", rescalings(), check_rescaling),
        fails_without("sigma positively homogeneous", rescalings(OTHERS), check_rescaling),
        symbolic("a factor to each neuron: the rise under column-relative noise stays", _each_neuron_by_its_own_factor),
        symbolic("and that under noise in proportion to each weight, on all layers", _each_weight_by_its_own_size),
        counterexample("and that under layer-relative noise grows 25-fold", _a_layer_s_noise_is_not_invariant),
        symbolic(
            "noise on both layers: a floor that no rescaling goes below, d = m = 1", _noise_on_both_layers_has_a_floor
        ),
        holds_for_all("a factor to each neuron, from losses", per_neuron(), check_columns),
        fails_without("noise relative to each column, not to the layer", per_neuron(), check_whole_layer),
        holds_for_all("weights in front of a normalisation", layers(), check_layer),
        fails_without("normalisation", layers(normalised=False), check_layer),
    ),
)
