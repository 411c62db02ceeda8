"""Eq. (9) and (10), the random-feature score model and its loss: linear and quadratic in theta.

Printed: s = 1/m*theta*sigma(W^T*x + b) and L(x; theta, p) = |-g + s|^2

Holds: E_p[L(x; delta + theta, p)] = Trace(delta*G*delta^T)/m^2 + 2*Trace(delta^T*R)/m + E_p[L(x; theta, p)] and Hessian in theta of E_p[L(x; theta, p)] = (2/m^2)*(KroneckerProduct(G, I))

b = U^T e, g = grad log p(x), G = E_p[phi phi^T], R = E_p[r phi^T] with the residual r = theta phi / m - g. The rise of
the expected loss is exact for every delta, so the Hessian in theta (its columns stacked) is (2/m^2) G kron I_d at every
theta; the pointwise rise is the same formula at phi phi^T and r phi^T.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np
import sympy
from hypothesis import strategies as st
from numpy import ndarray
from scipy import special
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

from theory.model.random_features import ACTIVATIONS, RandomFeatureScore, feature_second_moment
from theory.proof import notation, strategies
from theory.proof.machine_checked import machine_checked
from theory.proof.notation import (
    Both,
    Expectation,
    G,
    Loss,
    SquaredNorm,
    W,
    b,
    d,
    delta,
    generic,
    identity,
    m,
    numeric,
    p,
    theta,
    x,
)
from theory.proof.statement import (
    Comparison,
    Statement,
    Verdict,
    at_most,
    equal,
    fails_without,
    holds_for_all,
    symbolic,
)

phi = sympy.MatrixSymbol("phi", m, 1)
g = sympy.MatrixSymbol("g", d, 1)
R = sympy.MatrixSymbol("R", d, m)
_s = sympy.MatrixSymbol("s", d, 1)
_hessian_of = notation.operator("Hessian", r"\nabla_\theta^2 {0}", "Hessian in theta of {0}")


class Activated(sympy.MatrixExpr):
    """sigma, the activation, applied to every entry of a matrix; a name in formulas only."""

    @property
    def shape(self) -> tuple[sympy.Expr, sympy.Expr]:
        """The shape of the argument."""
        return cast(tuple[sympy.Expr, sympy.Expr], self.args[0].shape)

    def _latex(self, printer: LatexPrinter) -> str:
        return rf"\sigma\left({printer._print(self.args[0])}\right)"

    def _sympystr(self, printer: StrPrinter) -> str:
        return f"sigma({printer._print(self.args[0])})"


SCORE = theta * phi / m
RESIDUAL = SCORE - g
POINTWISE_LOSS = RESIDUAL.T * RESIDUAL
"""Eq. (10) as a 1 x 1 matrix of theta, phi and g."""
SECOND_ORDER = sympy.Trace(delta * G * delta.T) / m**2
RISE = SECOND_ORDER + 2 * sympy.Trace(delta.T * R) / m
"""What delta adds to the loss: expected, of G and R; pointwise, at G = phi phi^T and R = r phi^T."""
HESSIAN = 2 * sympy.KroneckerProduct(G, identity) / m**2
"""Of the expected loss in the stacked columns of theta."""


def _score_is_linear() -> Iterable[Comparison]:
    shifted = SCORE.subs(theta, theta + delta) - SCORE - SCORE.subs(theta, delta)
    yield equal("s at theta + delta, minus s at theta and s at delta, for all d and m", *_with_zero(shifted))


def _with_zero(difference: sympy.MatrixExpr) -> tuple[sympy.MatrixExpr, sympy.MatrixExpr]:
    return difference.doit().expand().doit(), sympy.ZeroMatrix(*difference.shape)


def _loss_is_quadratic() -> Iterable[Comparison]:
    values = [POINTWISE_LOSS.subs(theta, theta + step * delta) for step in range(4)]
    third = values[3] - 3 * values[2] + 3 * values[1] - values[0]
    yield equal("third difference of the loss along delta, for all d and m", *_with_zero(third))
    for rows, columns in ((1, 1), (1, 2), (2, 2)):
        entries = generic(theta, rows, columns)
        point = {theta: entries, phi: generic(phi, columns, 1), g: generic(g, rows, 1)}
        loss = sympy.Poly(notation.at(POINTWISE_LOSS, point)[0], *(entry for row in entries for entry in row))
        yield at_most(f"degree in theta, d={rows}, m={columns}", loss.total_degree(), 2)


def _rise_is_exact() -> Iterable[Comparison]:
    """RISE at one x is the rise of Eq. (10); being linear in (phi phi^T, r phi^T), it is so in expectation too."""
    for rows, columns in ((1, 1), (1, 2), (2, 2), (2, 3)):
        point = {symbol: generic(symbol, rows, columns) for symbol in (theta, delta)}
        point |= {phi: generic(phi, columns, 1), g: generic(g, rows, 1)}
        moments = RISE.subs({G: phi * phi.T, R: RESIDUAL * phi.T})
        rise = POINTWISE_LOSS.subs(theta, theta + delta) - POINTWISE_LOSS
        difference = sympy.expand(notation.at(rise, point)[0] - notation.at(moments, point))
        yield equal(f"rise of the loss minus the formula, d={rows}, m={columns}", difference, sympy.Integer(0))


def _hessian_is_constant() -> Iterable[Comparison]:
    for rows, columns in ((1, 2), (2, 1), (2, 2), (2, 3)):
        entries, moment = generic(delta, rows, columns), sympy.Matrix(generic(G, columns, columns))
        moment = (moment + moment.T) / 2
        stacked = [entries[i][j] for j in range(columns) for i in range(rows)]
        rise = notation.at(RISE, {delta: entries, G: moment.tolist(), R: generic(R, rows, columns)})
        claimed = HESSIAN.subs({d: rows, m: columns}).subs(sympy.MatrixSymbol("G", columns, columns), moment)
        difference = (sympy.hessian(rise, stacked) - sympy.Matrix(claimed.as_explicit())).applyfunc(sympy.expand)
        wrong = sum(entry != 0 for entry in difference)
        yield equal(f"entries of the Hessian that differ, d={rows}, m={columns}", wrong, 0)


@dataclass(frozen=True)
class Line(strategies.Perturbed):
    """A model, a direction delta for theta (and one for W, zero where only theta moves), and a point."""

    theta: ndarray
    W_direction: ndarray
    activation: str
    x: ndarray
    g: ndarray


@st.composite
def lines(draw: st.DrawFn, frozen: bool = True, activations: tuple[str, ...] = tuple(ACTIVATIONS)) -> Line:
    """Lines in theta; where not `frozen`, in theta and W together."""
    model = draw(strategies.models())
    rng = np.random.default_rng(draw(strategies.seeds))
    theta_value, delta_value, direction = rng.standard_normal((3, *model.W.shape))
    point, score = rng.standard_normal((2, model.d))
    direction = direction * (0.0 if frozen else draw(st.sampled_from([1.0, 0.1])))
    name = draw(st.sampled_from(activations))
    return Line(model.W, model.b, delta_value, theta_value, direction, name, point, score)


def score_model(line: strategies.Model, theta_value: ndarray, W_value: ndarray, activation: str) -> RandomFeatureScore:
    """The model of Eq. (9) with U = b^T, so that the embedding e = (1) gives b."""
    return RandomFeatureScore(theta_value, W_value, line.b[None, :], activation)


def check_quadratic(line: Line) -> Iterable[Comparison]:
    """The third difference of the loss along a line vanishes."""
    values = []
    size = 0.0
    for step in range(4):
        model = score_model(line, line.theta + step * line.delta, line.W + step * line.W_direction, line.activation)
        values.append(((model(line.x, np.ones(1)) - line.g) ** 2).sum())
        features = np.abs(model.features(line.x, np.ones(1)))
        size = max(size, float(((np.abs(model.theta) @ features / line.m + np.abs(line.g)) ** 2).sum()))
    third = values[3] - 3 * values[2] + 3 * values[1] - values[0]
    yield equal("third difference of the loss", third, 0.0, 1e-13 * size, "rounding of sums of m terms, squared")


@st.composite
def low_dimensional_lines(draw: st.DrawFn) -> Line:
    """Lines in theta for d = 1, and for d = 2 with b = 0: where `standard_normal_rule` is exact."""
    line = draw(lines(activations=("linear", "relu")))
    rows = min(line.d, 2)
    bias = line.b if rows == 1 else np.zeros(line.m)
    delta_value, theta_value, direction = line.delta[:rows], line.theta[:rows], line.W_direction[:rows]
    return Line(line.W[:rows], bias, delta_value, theta_value, direction, line.activation, line.x[:rows], line.g[:rows])


def _gauss_legendre(breaks: ndarray, nodes: int) -> tuple[ndarray, ndarray]:
    unit, weights = np.polynomial.legendre.leggauss(nodes)
    half = np.diff(breaks)[:, None] / 2
    return (breaks[:-1, None] + half * (1 + unit)).ravel(), (half * weights).ravel()


def standard_normal_rule(W_value: ndarray, bias: ndarray) -> tuple[ndarray, ndarray]:
    """Nodes (n, d) and weights (n,) for x ~ N(0, I) in d = 1, or 2 where b = 0, broken at the kinks of the features.

    In d = 2 integrands are sums of homogeneous parts of degree at most 2, so three radial nodes are exact.
    """
    if W_value.shape[0] == 1:
        with np.errstate(divide="ignore", invalid="ignore"):
            kinks = np.where(W_value[0] != 0, -bias / W_value[0], 0.0)
        breaks = np.unique(np.concatenate([np.arange(-12.0, 13.0, 2.0), kinks[np.abs(kinks) < 12]]))
        nodes, weights = _gauss_legendre(breaks, 16)
        return nodes[:, None], weights * np.exp(-(nodes**2) / 2) / np.sqrt(2 * np.pi)
    across = np.arctan2(W_value[1], W_value[0]) + np.pi / 2
    kinks = np.concatenate([across, across + np.pi]) % (2 * np.pi)
    angles, around = _gauss_legendre(np.unique(np.concatenate([np.linspace(0, 2 * np.pi, 5), kinks])), 12)
    squares, outwards = np.polynomial.laguerre.laggauss(3)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    nodes = np.sqrt(2 * squares)[:, None, None] * circle
    return nodes.reshape(-1, 2), (outwards[:, None] * around / (2 * np.pi)).ravel()


def check_expected_rise(line: Line) -> Iterable[Comparison]:
    """The rise of the loss integrated over p = N(0, I), g = -x, against RISE at the exact G and R (Stein's lemma)."""
    points, weights = standard_normal_rule(line.W, line.b)

    def expected(theta_value: ndarray) -> float:
        model = score_model(line, theta_value, line.W, line.activation)
        return float(weights @ ((model(points, np.ones(1)) + points) ** 2).sum(axis=1))

    moment = feature_second_moment(line.W, line.b, line.activation)
    norms = np.linalg.norm(line.W, axis=0)
    ratio = line.b / np.where(norms > 0, norms, 1.0)
    slopes = np.ones(line.m) if line.activation == "linear" else special.ndtr(ratio)
    correlation = line.theta @ moment / line.m + line.W * slopes
    before, after = expected(line.theta), expected(line.theta + line.delta)
    rise = numeric(RISE, delta, G, R, m)(line.delta, moment, correlation, line.m)
    size = np.abs(line.delta) @ np.abs(moment) @ (np.abs(line.delta) + 2 * np.abs(line.theta)).T / line.m**2
    tolerance = 1e-11 * (before + after + float(np.trace(size)))
    yield equal("rise of the expected loss", after - before, rise, tolerance, "rounding of the rule's sums")


STATEMENT = Statement(
    label="equation-9",
    title="the random-feature score model and its loss",
    source="Eq. (9), (10); Appendix Eq. (20)",
    verdict=Verdict.HOLDS,
    reason=(
        "A definition: the score is linear in theta, so its loss is a polynomial of degree 2 in theta, pointwise and "
        "in expectation, with the same Hessian (2/m^2) G kron I_d at every theta."
    ),
    printed=Both(
        sympy.Eq(_s, SCORE.subs(phi, Activated(W.T * x + b)), evaluate=False),
        sympy.Eq(Loss(theta, p), SquaredNorm(_s - g)),
    ),
    holds=Both(
        sympy.Eq(Expectation(p, Loss(theta + delta, p)), Expectation(p, Loss(theta, p)) + RISE),
        sympy.Eq(_hessian_of(Expectation(p, Loss(theta, p))), HESSIAN, evaluate=False),
    ),
    evidence=(
        machine_checked(
            "the expected loss at theta + delta, for any law of phi and g", "quadratic_rise.v", "loss_moved", "J_sum"
        ),
        symbolic("s is linear in theta", _score_is_linear),
        symbolic("the loss is a polynomial of degree at most 2 in theta", _loss_is_quadratic),
        symbolic("its rise is exact, and linear in G and R", _rise_is_exact),
        symbolic("the Hessian is (2/m^2) G kron I_d, whatever theta is", _hessian_is_constant),
        holds_for_all("the loss is quadratic in theta, for every activation", lines(), check_quadratic),
        fails_without("only theta moves, W and U are frozen", lines(frozen=False), check_quadratic),
        holds_for_all(
            "the expected rise agrees with quadrature, linear and ReLU, d = 1 and 2",
            low_dimensional_lines(),
            check_expected_rise,
        ),
    ),
    paper_labels=("Eq. (9)", "Eq. (10)", "Eq. (20)"),
)
