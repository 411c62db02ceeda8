"""Definition 3.1, the Delta-flat minimum: no model of Eq. (9) has one.

Printed: for all |delta| <= Delta: L(x; delta + theta^*, p) = ell and there is |delta| > Delta: L(x; delta + theta^*, p) > ell

Holds: for all |delta| <= Delta: E_p[L(x; delta + theta^*, p)] <= kappa + E_p[L(x; theta^*, p)]

Along any direction the loss of a model linear in theta is a polynomial of degree 2, so its values inside a ball
determine it everywhere: constant on the ball means constant, and the second clause fails. That is so at each x, in
expectation, and with delta restricted to the linear subspace of the admissible ones. What holds instead is definition
D1: theta* is (Delta, kappa)-flat where the expected loss rises by at most kappa over the ball.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import sympy
from hypothesis import strategies as st
from numpy import ndarray

from theory.claims.equation_9_random_feature_score import RESIDUAL, RISE, R, g, phi
from theory.model import perturbations
from theory.model.perturbations import flat_radius
from theory.model.random_features import ACTIVATIONS, RandomFeatureScore, feature_second_moment
from theory.proof import notation, strategies
from theory.proof.notation import (
    Both,
    Delta,
    Exists,
    Expectation,
    ForAll,
    G,
    Loss,
    Norm,
    W,
    delta,
    ell,
    generic,
    kappa,
    m,
    numeric,
    p,
    theta,
)
from theory.proof.notation import theta_star as minimum
from theory.proof.statement import (
    Comparison,
    Fault,
    Statement,
    Verdict,
    at_most,
    equal,
    fails_without,
    holds_for_all,
    symbolic,
)

_step = sympy.Symbol("s", real=True)
_below, _centre, _above = sympy.symbols("f_minus f_0 f_plus", real=True)
EXTRAPOLATION = (
    _centre + _step / Delta * (_above - _below) / 2 + (_step / Delta) ** 2 * (_above + _below - 2 * _centre) / 2
)
"""The value at s delta of a quadratic whose values at -Delta, 0 and Delta are f_minus, f_0 and f_plus."""


def _rise_along_a_ray(rows: int, columns: int) -> tuple[sympy.Poly, sympy.Poly]:
    """RISE at s delta as a polynomial in s: pointwise, and in expectation (G and R symbols)."""
    entries = generic(delta, rows, columns)
    shared = {delta: [[_step * entry for entry in row] for row in entries]}
    pointwise = RISE.subs({G: phi * phi.T, R: RESIDUAL * phi.T})
    here = {theta: generic(theta, rows, columns), phi: generic(phi, columns, 1), g: generic(g, rows, 1)}
    moments = {G: generic(G, columns, columns), R: generic(R, rows, columns)}
    return (
        sympy.Poly(notation.at(pointwise, shared | here), _step),
        sympy.Poly(notation.at(RISE, shared | moments), _step),
    )


def _constant_on_a_ball_is_constant() -> Iterable[Comparison]:
    for rows, columns in ((1, 1), (1, 2), (2, 2)):
        for kind, rise in zip(("at x", "expected"), _rise_along_a_ray(rows, columns), strict=True):
            yield at_most(f"degree of the rise {kind} along a ray, d={rows}, m={columns}", rise.degree(), 2)
            yield equal("its value at 0", rise.eval(0), sympy.Integer(0))
    first, second = sympy.symbols("alpha beta", real=True)
    rise = first * _step + second * _step**2
    solutions = sympy.solve([rise.subs(_step, Delta), rise.subs(_step, -Delta)], [first, second], dict=True)
    yield equal("solutions of rise = 0 at both ends of the ball", len(solutions), 1)
    yield equal("the rise anywhere on the line, for that solution", rise.subs(solutions[0]), sympy.Integer(0))


def _values_in_the_ball_determine_all() -> Iterable[Comparison]:
    first, second, constant = sympy.symbols("alpha beta gamma", real=True)
    loss = constant + first * _step + second * _step**2
    ends = {_below: loss.subs(_step, -Delta), _centre: loss.subs(_step, 0), _above: loss.subs(_step, Delta)}
    yield equal("extrapolation of a quadratic", EXTRAPOLATION.subs(ends), loss)
    constant_inside = EXTRAPOLATION.subs({_below: ell, _centre: ell, _above: ell})
    yield equal("extrapolation of a constant", constant_inside, ell)


def _admissible_is_a_subspace() -> Iterable[Comparison]:
    """A ray through an admissible delta stays admissible, so the argument holds on that set alone."""
    first, second = sympy.symbols("alpha beta", real=True)
    other = sympy.MatrixSymbol("delta_2", *delta.shape)

    def asymmetry(value: sympy.MatrixExpr) -> sympy.MatrixExpr:
        return value * W.T - W * value.T

    combined = asymmetry(first * delta + second * other) - first * asymmetry(delta) - second * asymmetry(other)
    yield equal(
        "asymmetry of a combination, minus the combination of asymmetries, for all d and m",
        combined.doit().expand().doit(),
        sympy.ZeroMatrix(*combined.shape),
    )


LINKS: dict[str, Callable[[ndarray], ndarray]] = {
    "identity": lambda u: u,
    "tanh": np.tanh,
    "soft threshold": lambda u: np.sign(u) * np.maximum(np.abs(u) - 1, 0),
}
"""What stands between theta and the readout; "identity" in Eq. (9). The soft threshold has flat minima in the printed
sense: it vanishes on the whole ball of radius 1 and grows outside."""


@dataclass(frozen=True)
class Ray(strategies.Perturbed):
    """A model, a ray theta + s delta, the points x (n, d) over which the loss is averaged, and where s lies."""

    theta: ndarray
    x: ndarray
    g: ndarray
    step: float
    activation: str
    link: str


@st.composite
def rays(draw: st.DrawFn, links: tuple[str, ...] = ("identity",)) -> Ray:
    """Rays along any delta, or an admissible one, from inside the ball of radius |delta| to far outside."""
    model = draw(strategies.models())
    rng = np.random.default_rng(draw(strategies.seeds))
    theta_value, delta_value = rng.standard_normal((2, *model.W.shape))
    if draw(st.booleans()):
        delta_value = perturbations.project_admissible(delta_value, model.W)
    points = draw(st.sampled_from([1, 5]))
    x, score = rng.standard_normal((2, points, model.d))
    step = draw(st.sampled_from([0.3, 2.0, -7.0, 30.0]))
    activation, link = draw(st.sampled_from(sorted(ACTIVATIONS))), draw(st.sampled_from(links))
    return Ray(model.W, model.b, delta_value, theta_value, x, score, step, activation, link)


def check_extrapolation(ray: Ray) -> Iterable[Comparison]:
    """The loss, at one point or averaged over several, at s delta against its extrapolation from 0 and +-delta."""
    values = []
    size = 0.0
    for step in (-1.0, 0.0, 1.0, ray.step):
        weights = LINKS[ray.link](ray.theta + step * ray.delta)
        model = RandomFeatureScore(weights, ray.W, ray.b[None, :], ray.activation)
        values.append(((model(ray.x, np.ones(1)) - ray.g) ** 2).sum(axis=1).mean())
        features = np.abs(model.features(ray.x, np.ones(1)))
        scale = max(1.0, ray.step**2) if abs(step) <= 1 else 1.0
        size = max(size, scale * float(((features @ np.abs(weights).T / ray.m + np.abs(ray.g)) ** 2).sum()))
    below, centre, above, outside = values
    extrapolated = numeric(EXTRAPOLATION, _step, Delta, _below, _centre, _above)(ray.step, 1.0, below, centre, above)
    because = "rounding of sums of m terms, squared, magnified s^2 times by the extrapolation"
    yield equal("loss at s delta", outside, extrapolated, 1e-13 * size, because)


@dataclass(frozen=True)
class Moved(strategies.Perturbed):
    """A model and delta, with G of its features and the kappa that sets the radius."""

    G: ndarray
    kappa: float


@st.composite
def moved(draw: st.DrawFn, ratios: tuple[float, ...] = (0.0, 0.1, 0.9, 1.0)) -> Moved:
    """Delta of norm ratio * Delta_kappa, in a random direction or the worst; linear and ReLU features."""
    model = draw(strategies.models())
    moment = feature_second_moment(model.W, model.b, draw(st.sampled_from(["linear", "relu"])))
    allowed = draw(st.sampled_from([1e-3, 1.0, 50.0]))
    rng = np.random.default_rng(draw(strategies.seeds))
    direction = rng.standard_normal(model.W.shape)
    if draw(st.booleans()):
        direction = np.outer(rng.standard_normal(model.d), np.linalg.eigh(moment)[1][:, -1])
    radius = flat_radius(moment, allowed)
    radius = radius if np.isfinite(radius) else 1e3
    size = draw(st.sampled_from(ratios)) * radius / np.linalg.norm(direction)
    return Moved(model.W, model.b, direction * size, moment, allowed)


def check_flat(instance: Moved) -> Iterable[Comparison]:
    """At a minimum R vanishes, and the expected loss rises by RISE = tr(delta G delta^T)/m^2: at most kappa."""
    rise = numeric(RISE, delta, G, R, m)(instance.delta, instance.G, np.zeros_like(instance.delta), instance.m)
    yield at_most("rise of the expected loss", rise, instance.kappa, 1e-12 * instance.kappa, "rounding of sums")


def _linear_term_is_the_gradient() -> Iterable[Comparison]:
    """The derivative of RISE at delta = 0 is 2 R / m, so R = 0 at a minimum and only the quadratic part is left."""
    for rows, columns in ((1, 2), (2, 2), (3, 2)):
        entries, correlation = generic(delta, rows, columns), sympy.Matrix(generic(R, rows, columns))
        rise = notation.at(RISE, {delta: entries, G: generic(G, columns, columns), R: correlation.tolist()})
        origin = {entry: 0 for row in entries for entry in row}
        gradient = sympy.Matrix([[sympy.diff(rise, entry) for entry in row] for row in entries]).subs(origin)
        wrong = sum(entry != 0 for entry in gradient - 2 * correlation / columns)
        yield equal(f"entries of the gradient that differ from 2 R / m, d={rows}, m={columns}", wrong, 0)


_inside = ForAll(sympy.Le(Norm(delta), Delta), sympy.Eq(Loss(minimum + delta, p), ell))
_outside = Exists(sympy.Gt(Norm(delta), Delta), sympy.Gt(Loss(minimum + delta, p), ell))
_flat = sympy.Le(Expectation(p, Loss(minimum + delta, p)), Expectation(p, Loss(minimum, p)) + kappa)

STATEMENT = Statement(
    label="definition-3.1",
    title="Delta-flat minimum",
    source="Definition 3.1; Appendix Definition 1",
    verdict=Verdict.VACUOUS,
    fault=Fault.FLAW,
    reason=(
        "No model linear in theta has such a minimum: its loss is a polynomial of degree 2 in delta, and one that is "
        "constant on a ball is constant everywhere, so the second clause fails. Instead: (Delta, kappa)-flat, the "
        "expected loss rises by at most kappa over the ball; every minimum is, up to Delta_kappa."
    ),
    rescue="With a tolerance: every minimum is flat up to kappa within Delta_kappa, the radius that T3 has.",
    printed=Both(_inside, _outside),
    holds=ForAll(sympy.Le(Norm(delta), Delta), _flat),
    evidence=(
        symbolic("a rise of degree 2 that vanishes on a ball vanishes everywhere", _constant_on_a_ball_is_constant),
        symbolic("three values inside the ball determine the loss on the line", _values_in_the_ball_determine_all),
        symbolic("the admissible delta are a linear subspace, so the same holds on it", _admissible_is_a_subspace),
        holds_for_all(
            "the loss outside is its extrapolation from inside, at x and averaged, admissible or not",
            rays(),
            check_extrapolation,
        ),
        fails_without("s is linear in theta", rays(links=("tanh", "soft threshold")), check_extrapolation),
        symbolic("the linear part of the expected rise vanishes at a minimum", _linear_term_is_the_gradient),
        holds_for_all("every minimum is (Delta, kappa)-flat up to Delta_kappa", moved(), check_flat),
        fails_without("Delta <= Delta_kappa", moved(ratios=(1.5, 3.0)), check_flat),
    ),
    paper_labels=("Definition 3.1", "Definition 1"),
)
