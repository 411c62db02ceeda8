"""Theorem T9: flat means smooth, and the flatness that no rescaling changes is a path norm.

Holds: (i) tr H_GN = 2*Sum(d*P[j] + |theta[j]|^2*Q[j], (j, 1, m))/m^2; (ii) inf over a of tr H_GN(a) = 4*sqrt(d)*Sum(sqrt(P[j])*sqrt(Q[j])*|theta[j]|, (j, 1, m))/m^2; (iii) Lip(s) <= Sum(|theta[j]|*|w[j]|, (j, 1, m))/m and Sum(|theta[j]|*|w[j]|, (j, 1, m))/m <= m*tr H_GN/(4*c*sqrt(d)); (iv) s Bayes-optimal implies H = H_GN

s = theta max(W^T x + b, 0)/m, noise on theta and on W. P_j = E phi_j^2 and Q_j = E 1_j |x|^2 over p, 1_j where neuron j
is active (with noise on U too |x|^2 becomes |x|^2 + |e|^2); H is the Hessian of E|s - y|^2 in theta and W, H_GN its
Gauss-Newton part; a_j > 0 rescales neuron j to theta_j/a_j, a_j w_j, a_j b_j, which is the same function. (ii) By the
inequality of the means; each sum is least at a_j^4 = |theta_j|^2 Q_j/(d P_j). So noise on all weights has a positive
floor over all rescalings, which the path flatness on the right is. (iii) ReLU's slope is at most 1, and c = min sqrt(P_j
Q_j)/|w_j| over the neurons that have output and weights. (iv) The rest of the Hessian is linear in the residual, whose
mean given x is 0 then. One-sided: a sharp network need not be rough, since neurons may cancel.

How tight: (i), (ii) and (iv) are exact; (iii) is reached throughout by one balanced neuron.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import cast

import numpy as np
import sympy
from hypothesis import strategies as st
from numpy import ndarray

from theory.model import path_norm
from theory.model.random_features import ACTIVATIONS
from theory.proof import strategies
from theory.proof.notation import Both, Implies, Infimum, Norm, clauses, d, generic, j, m, operator, theta, words
from theory.proof.statement import (
    Comparison,
    Statement,
    Verdict,
    at_most,
    counterexample,
    equal,
    fails_without,
    holds_for_all,
    symbolic,
)

energy, reach = (sympy.IndexedBase(name, positive=True) for name in "PQ")
output, weight = sympy.IndexedBase("theta"), sympy.IndexedBase("w")
scale = sympy.Symbol("a", positive=True)
least = sympy.Symbol("c", positive=True)
hessian, gauss_newton, after = sympy.symbols("H H_GN H_GN(a)")
Lipschitz = operator("Lipschitz", r"\mathrm{{Lip}}({0})", "Lip({0})")
score = sympy.Symbol("s")
trace = operator("TraceOf", r"\mathrm{{tr}}\,{0}", "tr {0}")

TRACE = 2 / m**2 * sympy.Sum(d * energy[j] + Norm(output[j]) ** 2 * reach[j], (j, 1, m))
PATH_FLATNESS = 4 * sympy.sqrt(d) / m**2 * sympy.Sum(Norm(output[j]) * sympy.sqrt(energy[j] * reach[j]), (j, 1, m))
PATH_NORM = sympy.Sum(Norm(output[j]) * Norm(weight[j]), (j, 1, m)) / m
FROM_FLATNESS = m * trace(gauss_newton) / (4 * sympy.sqrt(d) * least)
"""What bounds the path norm, and so the Lipschitz constant."""


def _term(formula: sympy.Expr) -> sympy.Expr:
    """A neuron's term of one of the sums, factor included, in plain symbols t = |theta_j|, w = |w_j|, P and Q."""
    sum_ = next(iter(formula.atoms(sympy.Sum)))
    plain = {Norm(output[j]): _T, Norm(weight[j]): _W, energy[j]: _P, reach[j]: _Q}
    return (formula / sum_ * sum_.function).subs(plain)


_T, _W, _P, _Q, _TRACE = sympy.symbols("t w P Q trace", positive=True)


@cache
def _numeric(term: sympy.Expr) -> Callable[..., ndarray]:
    """A neuron's term as a function of t, w, P, Q, d and m."""
    return cast(Callable[..., ndarray], sympy.lambdify((_T, _W, _P, _Q, d, m), term))


def _trace_of_the_jacobian() -> Iterable[Comparison]:
    """|ds/d(theta, W)|^2 at one x, every neuron active or not."""
    for rows, columns in ((1, 2), (2, 2), (2, 3)):
        weights = sympy.Matrix(generic(theta, rows, columns))
        reader = sympy.Matrix(generic(sympy.MatrixSymbol("W", rows, columns), rows, columns))
        point, bias = (
            sympy.Matrix(sympy.symbols(f"{n}_1:{k + 1}", real=True)) for n, k in (("x", rows), ("b", columns))
        )
        for active in ((1,) * columns, (0,) + (1,) * (columns - 1)):
            features = sympy.Matrix([on * value for on, value in zip(active, reader.T * point + bias, strict=True)])
            value = weights * features / columns
            square = sum(sympy.diff(entry, by) ** 2 for entry in value for by in (*weights, *reader))
            claimed = sum(
                _term(TRACE).subs(
                    {
                        d: rows,
                        m: columns,
                        _T: sympy.sqrt(sum(e**2 for e in weights[:, index])),
                        _P: features[index] ** 2,
                        _Q: active[index] * sum(e**2 for e in point),
                    }
                )
                for index in range(columns)
            )
            yield equal(f"2 |J|^2 - the formula, d={rows}, m={columns}", sympy.expand(2 * square - claimed), 0)


def _means() -> Iterable[Comparison]:
    """A neuron's part at a less its part of the path flatness is a square, which vanishes at the balanced a."""
    part = _term(TRACE).subs({_T: _T / scale, _P: scale**2 * _P}, simultaneous=True)
    floor = _term(PATH_FLATNESS)
    root = sympy.sqrt(2) / m * (scale * sympy.sqrt(d * _P) - _T / scale * sympy.sqrt(_Q))
    yield equal("part at a - floor - a square", sympy.simplify(sympy.expand(part - floor - root**2)), 0)
    best = (_T**2 * _Q / (d * _P)) ** sympy.Rational(1, 4)
    yield equal("the square at a_j", sympy.simplify(root.subs(scale, best)), 0)


def _invariants() -> Iterable[Comparison]:
    """theta_j/a, a w_j: P_j grows by a^2, Q_j stays."""
    moved = {_T: _T / scale, _W: scale * _W, _P: scale**2 * _P}
    for name, formula in (("path flatness", PATH_FLATNESS), ("path norm", PATH_NORM)):
        part = _term(formula)
        yield equal(f"{name}, after - before", sympy.simplify(part.subs(moved, simultaneous=True) - part), 0)


def _smoothness_from_flatness() -> Iterable[Comparison]:
    """|theta_j| |w_j| <= |theta_j| q_j/c for c <= q_j/|w_j|; then (ii): the factors are those of the formula."""
    slack = sympy.Symbol("slack", nonnegative=True)
    q = (least + slack) * _W  # q_j = sqrt(P_j Q_j)
    floor = _term(PATH_FLATNESS).subs(sympy.sqrt(_P) * sympy.sqrt(_Q), q)
    bound = FROM_FLATNESS.subs(trace(gauss_newton), floor)
    difference = sympy.simplify(bound - _term(PATH_NORM))
    yield equal("a neuron's part of the bound - of the path norm", difference, slack * _T * _W / (m * least))


def _one_neuron_reaches_it() -> Iterable[Comparison]:
    """d = m = 1, w = 1, b = 0, p on +-1: P = Q = 1/2, balanced at theta = 1; the slope is 1."""
    half = sympy.Rational(1, 2)
    values = {d: 1, m: 1, _T: 1, _W: 1, _P: half, _Q: half}
    total = _term(TRACE).subs(values)
    yield equal("tr H_GN against its floor", total, _term(PATH_FLATNESS).subs(values))
    yield equal("path norm, which is the slope", _term(PATH_NORM).subs(values), sympy.Integer(1))
    bound = FROM_FLATNESS.subs(trace(gauss_newton), total).subs({d: 1, m: 1, least: half})
    yield equal("bound by flatness", bound, sympy.Integer(1))


def _sharp_is_not_rough() -> Iterable[Comparison]:
    """Two neurons with one w and theta = +-t cancel: s = 0, and tr H_GN grows with t without bound."""
    point = sympy.Symbol("x", real=True)
    feature = sympy.Max(point, 0)
    yield equal("the function", (_T * feature - _T * feature) / 2, sympy.Integer(0))
    values = {d: 1, m: 2, _W: 1, _P: sympy.Rational(1, 2), _Q: sympy.Rational(1, 2)}
    total = 2 * _term(TRACE).subs(values)
    yield equal("its tr H_GN", sympy.expand(total), (1 + _T**2) / 2)


@cache
def _bound(formula: sympy.Expr) -> Callable[..., float]:
    """FROM_FLATNESS of tr H_GN, c, d and m."""
    plain = formula.subs(trace(gauss_newton), _TRACE)
    return cast(Callable[..., float], sympy.lambdify((_TRACE, least, d, m), plain))


@dataclass(frozen=True)
class TwoLayers(strategies.Model):
    """A network, points of p, what rescales its neurons, and directions for second differences.

    Args:
        theta: (d, m).
        x: (n, d).
        scales: (m,).
        directions: (k, 2, d, m), of theta and W.
        bias: (n, d), the mean of s - y given x; 0 where s is Bayes-optimal.
        activation: its name.
    """

    theta: ndarray
    x: ndarray
    scales: ndarray
    directions: ndarray
    bias: ndarray
    activation: str = "relu"

    def outputs(self, theta: ndarray, W: ndarray, b: ndarray) -> ndarray:
        """s at every point (n, d)."""
        return ACTIVATIONS[self.activation](self.x @ W + b) @ theta.T / self.m

    def sum(self, formula: sympy.Expr) -> float:
        """One of the sums over neurons, at this network and its points."""
        sizes, lengths = np.linalg.norm(self.theta, axis=0), np.linalg.norm(self.W, axis=0)
        energy_, reach_ = path_norm.relu_moments(self.W, self.b, self.x)
        return float(sum(_numeric(_term(formula))(sizes, lengths, energy_, reach_, self.d, self.m)))


@st.composite
def networks(draw: st.DrawFn, name: str = "relu", optimal: bool = True) -> TwoLayers:
    """Dead neurons, neurons without output, points near and far."""
    rng = np.random.default_rng(draw(strategies.seeds))
    rows, columns, count = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 6))
    W, theta_value = rng.standard_normal((2, rows, columns)) * draw(st.sampled_from([1.0, 0.1, 10.0]))
    b, x = rng.standard_normal(columns), rng.standard_normal((count, rows))
    if draw(st.booleans()):
        theta_value[:, 0] = 0
        b[-1] = -100.0
    scales = np.exp(rng.uniform(-2, 2, columns))
    directions = rng.standard_normal((2, 2, rows, columns))
    bias = np.zeros((count, rows)) if optimal else rng.standard_normal((count, rows))
    return TwoLayers(W, b, theta_value, x, scales, directions, bias, name)


BECAUSE = "rounding of sums of some hundred products"


def _jacobian_square(net: TwoLayers, theta: ndarray, W: ndarray, b: ndarray) -> float:
    """E|ds/d(theta, W)|^2 by differences, exact while no neuron turns on or off: s is linear in every single weight."""
    here, total = net.outputs(theta, W, b), 0.0
    z = np.abs(net.x @ W + b).min()
    step = min(1e-3, 0.5 * float(z) / (1 + float(np.abs(net.x).max())))
    for index in np.ndindex(*theta.shape):
        for which in range(2):
            moved = [theta.copy(), W.copy()]
            moved[which][index] += step
            total += float((((net.outputs(moved[0], moved[1], b) - here) / step) ** 2).sum(axis=1).mean())
    return total


def check_flatness(net: TwoLayers) -> Iterable[Comparison]:
    """tr H_GN by differences; its floor over rescalings, where it is reached; and that all are one function."""
    theta, W, b, x = net.theta, net.W, net.b, net.x
    claimed = path_norm.gauss_newton_trace(theta, W, b, x)
    trace = 2 * _jacobian_square(net, theta, W, b)
    yield equal("2 E|J|^2", trace, claimed, 1e-5 * claimed, "rounding of outputs over steps of 1e-3 or less")
    energy_, _ = path_norm.relu_moments(W, b, x)
    sizes = np.linalg.norm(theta, axis=0)
    total = net.sum(TRACE)
    yield equal("the formula", claimed, total, 1e-12 * total, "a few roundings")
    floor = net.sum(PATH_FLATNESS)
    function = path_norm.path_flatness(theta, W, b, x)
    yield equal("path flatness", function, floor, 1e-12 * floor, "a few roundings")
    a = net.scales
    yield at_most("floor against tr H_GN", floor, claimed, 1e-12 * claimed, BECAUSE)
    moved = path_norm.gauss_newton_trace(theta / a, W * a, b * a, x)
    yield at_most("floor against tr H_GN elsewhere", floor, moved, 1e-12 * moved, BECAUSE)
    best = path_norm.balanced(theta, W, b, x)
    counted = (sizes > 0) & (energy_ > 0)  # the others' parts go to 0 at the end of a range
    active = [part[..., counted] for part in best]
    reached = (
        path_norm.gauss_newton_trace(active[0], active[1], active[2], x) * (counted.sum() / net.m) ** 2
        if counted.any()
        else 0.0
    )
    yield equal("tr H_GN where balanced", reached, floor, 1e-10 * floor, BECAUSE)
    here = net.outputs(theta, W, b)
    size = 1 + float(np.abs(here).max()) + float(np.abs(theta).max() * (1 + np.abs(net.x @ W + b).max()))
    for name, network in (("balanced", best), ("rescaled", (theta / a, W * a, b * a))):
        yield equal(f"the function, {name}", net.outputs(*network), here, 1e-12 * size, BECAUSE)
    norms = path_norm.path_norm(theta, W), path_norm.path_norm(best.theta, best.W)
    yield equal("path norm, balanced", norms[1], norms[0], 1e-12 * norms[0], "a few roundings")


def check_smoothness(net: TwoLayers) -> Iterable[Comparison]:
    """Difference quotients of s between the points and near them, against the path norm and its bound by flatness."""
    near = replace(net, x=net.x + 1e-3 * np.sign(net.x))
    outputs = np.concatenate([net.outputs(net.theta, net.W, net.b), near.outputs(net.theta, net.W, net.b)])
    points = np.concatenate([net.x, near.x])
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    rises = np.linalg.norm(outputs[:, None] - outputs, axis=2)
    quotient = float((rises / np.where(distances > 0, distances, 1.0)).max())
    norm = net.sum(PATH_NORM)
    yield equal(
        "the function's path norm", path_norm.path_norm(net.theta, net.W), norm, 1e-12 * norm, "a few roundings"
    )
    slack = 1e-9 * (norm + float(np.abs(outputs).max()))
    yield at_most("difference quotient", quotient, norm, slack, "rounding of outputs over distances of 1e-3")
    energy_, reach_ = path_norm.relu_moments(net.W, net.b, net.x)
    lengths, counted = np.linalg.norm(net.W, axis=0), np.linalg.norm(net.theta, axis=0) > 0
    smallest = float((np.sqrt(energy_ * reach_)[counted] / lengths[counted]).min()) if counted.any() else 1.0
    bound = np.inf if smallest == 0 else _bound(FROM_FLATNESS)(net.sum(TRACE), smallest, net.d, net.m)
    function = path_norm.lipschitz_from_flatness(net.theta, net.W, net.b, net.x)
    yield equal(
        "the function's bound", function, bound, 1e-12 * norm if np.isinf(bound) else 1e-12 * bound, "roundings"
    )
    yield at_most("path norm", norm, bound, 1e-12 * norm, "a few roundings")


def check_hessian(net: TwoLayers) -> Iterable[Comparison]:
    """Second differences of E|s - y|^2, y = s - bias +- 1, against 2 E|J u|^2."""
    targets = net.outputs(net.theta, net.W, net.b) - net.bias
    spread = np.array([1.0, -1.0])[:, None, None]

    def loss(theta: ndarray, W: ndarray) -> float:
        return float(((net.outputs(theta, W, net.b) - targets - spread) ** 2).sum(axis=2).mean())

    margin = float(np.abs(net.x @ net.W + net.b).min()) / (1 + float(np.abs(net.x).max()))
    for direction in net.directions:
        u, v = direction / np.abs(direction).max()
        size = 1 + float(np.abs(net.theta).max() + np.abs(net.W).max())
        step = min(1e-3, 0.1 * margin)
        if step < 1e-5:
            return  # at a kink there is no Hessian to ask for
        ends = loss(net.theta + step * u, net.W + step * v) + loss(net.theta - step * u, net.W - step * v)
        second = (ends - 2 * loss(net.theta, net.W)) / step**2
        moved = net.outputs(net.theta + step * u, net.W + step * v, net.b)
        back = net.outputs(net.theta - step * u, net.W - step * v, net.b)
        square = 2 * float((((moved - back) / (2 * step)) ** 2).sum(axis=1).mean())
        scale_ = size**4 * (1 + float(np.abs(net.x).max()) ** 4)
        slack = 1e-14 * scale_ / step**2 + scale_ * step**2
        yield equal("u^T H u against 2 E|J u|^2", second, square, slack, "rounding over step^2, and terms of step^2")


_floor = sympy.Eq(Infimum(scale, trace(after)), PATH_FLATNESS, evaluate=False)
_slopes = Both(sympy.Le(Lipschitz(score), PATH_NORM), sympy.Le(PATH_NORM, FROM_FLATNESS))
_optimal = Implies(words("s Bayes-optimal"), sympy.Eq(hessian, gauss_newton, evaluate=False))

STATEMENT = Statement(
    label="theorem-t9",
    title="flat means smooth, and the invariant flatness is a path norm",
    source="ours",
    verdict=Verdict.HOLDS,
    reason=(
        "For a two-layer ReLU network under noise on all weights the least flatness over rescalings of neurons is the "
        "path norm sum |theta_j| q_j, which no rescaling changes, and it bounds the network's Lipschitz constant. At a "
        "Bayes-optimal denoiser it is the Hessian's trace. Sharp does not imply rough."
    ),
    printed=None,
    holds=clauses(sympy.Eq(trace(gauss_newton), TRACE, evaluate=False), _floor, _slopes, _optimal),
    conditions=(
        "two layers, ReLU, noise on theta and W (and U)",
        "(iv): no mass of p where a neuron turns on",
    ),
    evidence=(
        symbolic("2 |J|^2 at one x, neuron by neuron", _trace_of_the_jacobian),
        symbolic("part less floor is a square, 0 at the balanced scale", _means),
        symbolic("path flatness and path norm stay under rescaling", _invariants),
        symbolic("the path norm is at most m tr H_GN/(4 sqrt(d) c)", _smoothness_from_flatness),
        counterexample("how tight: one balanced neuron reaches every bound", _one_neuron_reaches_it),
        counterexample("one-sided: neurons that cancel are sharp and not rough", _sharp_is_not_rough),
        holds_for_all("tr H_GN by differences, its floor, and where it is reached", networks(), check_flatness),
        fails_without("ReLU: tanh is not homogeneous", networks("tanh"), check_flatness),
        holds_for_all("difference quotients", networks(), check_smoothness),
        fails_without("a slope of at most 1: erf", networks("erf"), check_smoothness),
        holds_for_all("the Hessian at a Bayes-optimal network", networks(), check_hessian),
        fails_without("s Bayes-optimal", networks(optimal=False), check_hessian),
    ),
)
