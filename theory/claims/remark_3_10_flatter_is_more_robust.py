"""Remark 3.10: flatter minima are said to be more robust to a gap between p and p_hat.

Printed: flatter minima, of larger Delta, are robust to a larger distribution gap E

Holds: Delta_kappa(a*W, a*b) = Delta_kappa(W, b)/a and E_kappa(a*W, a*b) = E_kappa(W, b)

With flatness and robustness both repaired by a tolerance kappa, Delta_kappa is how far theta may move before the
expected loss rises by kappa, and E_kappa the least KL(p || p_hat_delta) at which it has. Rise and divergence depend on
delta only through A and c, and delta -> delta/a undoes W -> a W, b -> a b, theta -> theta/a there: this leaves the
score, every p_hat and E_kappa as they are, and divides Delta_kappa by a. The bound of (17), taken at Delta_kappa, does
not move either. For linear features E_kappa is (sqrt(kappa) - log(1 + sqrt(kappa)))/2, whatever the flatness. That it
knows nothing of the model is built in: its competitors are all the densities that some perturbation makes, and every
linear model makes the same ones. What a given ball of weights reaches does depend on W and b (T2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import sympy
from hypothesis import strategies as st
from jaxtyping import Float
from numpy import ndarray

from theory.claims.corollary_3_4_perturbed_noise import of_perturbation
from theory.claims.corollary_3_9_first_line import BRACKET
from theory.model import perturbations
from theory.model.divergences import DIVERGENCES, TAU
from theory.model.perturbations import flat_radius, gap_radius
from theory.model.random_features import RandomFeatureScore, feature_second_moment
from theory.proof import notation, strategies
from theory.proof.notation import A, Both, Rows, W, b, c, delta, exactly, kappa, words
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

FlatRadius = notation.operator("FlatRadius", r"\Delta_\kappa({0}, {1})", "Delta_kappa({0}, {1})")
GapRadius = notation.operator("GapRadius", r"E_\kappa({0}, {1})", "E_kappa({0}, {1})")
_scale = sympy.Symbol("a", positive=True)

RISE = (sympy.Trace(A * A.T) + sympy.Trace(c * c.T)).doit()
"""J(delta) for linear features and p = N(0, I)."""
GAP_RADIUS = DIVERGENCES["kl"].term_formula.subs(TAU, sympy.sqrt(kappa)) / 2
"""E_kappa."""
BOUND_AT_FLAT_RADIUS = DIVERGENCES["kl"].term_formula.subs(TAU, -sympy.sqrt(kappa)) / 2
"""The right side of (17) at Delta = Delta_kappa, for d = m = 1 and b = 0."""


def scalar_model(weight: sympy.Expr, step: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr]:
    """(J, KL(p || p_hat)) at delta = step for d = m = 1, W = weight and b = 0."""
    matrices: dict[sympy.MatrixSymbol, Rows] = {delta: [[step]], W: [[weight]], b: [[0]]}
    return exactly(RISE, matrices), exactly(of_perturbation(BRACKET), matrices)


def _flatness_without_robustness() -> Iterable[Comparison]:
    """d = m = 1, b = 0: W = 1 and W = 1/10 at kappa = 1/4."""
    quarter = sympy.Rational(1, 4)
    radii: list[sympy.Expr] = []
    gaps: list[sympy.Expr] = []
    bounds: list[sympy.Expr] = []
    for weight in (sympy.Integer(1), sympy.Rational(1, 10)):
        step = sympy.sqrt(quarter) / weight
        (rise, least), (rise_below, worst) = scalar_model(weight, step), scalar_model(weight, -step)
        yield equal(f"W = {weight}: J at delta = Delta_kappa", rise, quarter)
        yield equal(f"W = {weight}: J at delta = -Delta_kappa", rise_below, quarter)
        yield less(f"W = {weight}: KL at Delta_kappa against KL at -Delta_kappa", least, worst)
        radii.append(step)
        gaps.append(least)
        bounds.append(worst)
    yield equal("Delta_kappa of W = 1/10, ten times that of W = 1", radii[1], 10 * radii[0])
    yield equal("E_kappa of both", gaps[1], gaps[0])
    yield equal("E_kappa", gaps[0], GAP_RADIUS.subs(kappa, quarter))
    yield equal("right side of (17) at Delta_kappa, of both", bounds[1], bounds[0])


def _least_divergence_has_no_weight_in_it() -> Iterable[Comparison]:
    """d = m = 1, b = 0, any W > 0: J >= kappa is |tau| >= sqrt(kappa) for tau = delta W, and KL rises with |tau|."""
    weight = sympy.Symbol("w_1", positive=True)
    rise, divergence = scalar_model(weight, TAU / weight)
    yield equal("J", rise, TAU**2)
    term = DIVERGENCES["kl"].term_formula / 2
    yield equal("KL", sympy.expand_log(sympy.simplify(divergence), force=True), term)
    yield equal("slope of KL in tau, of tau's sign", sympy.diff(term, TAU), TAU / (2 * (1 + TAU)))
    inside = 1 / (1 + sympy.Symbol("u", positive=True))
    excess = term.subs(TAU, -TAU) - term
    slope = sympy.simplify(sympy.diff(excess, TAU).subs(TAU, inside))
    yield equal("KL at -tau minus KL at tau, at 0", excess.subs(TAU, 0), sympy.Integer(0))
    yield equal("it rises on (0, 1): its derivative is positive", sympy.sympify(slope.is_positive), sympy.true)
    yield equal("so the least KL with J >= kappa", term.subs(TAU, sympy.sqrt(kappa)), GAP_RADIUS)
    yield equal("and the largest with |delta| <= Delta_kappa", term.subs(TAU, -sympy.sqrt(kappa)), BOUND_AT_FLAT_RADIUS)


def _rescaling_is_undone() -> Iterable[Comparison]:
    """For all d and m; the rise and the divergence are functions of A and c."""
    for name, formula in (("A", A), ("c", c)):
        rescaled = formula.subs(W, _scale * W).subs(b, _scale * b).subs(delta, delta / _scale).doit()
        yield equal(f"{name} at (W, b, delta) -> (a W, a b, delta/a)", rescaled, formula.doit())


@dataclass(frozen=True)
class Rescaled:
    """A model with theta and delta, and another that is claimed to be the same but for a factor in Delta_kappa."""

    original: strategies.Perturbed
    theta: Float[ndarray, "d m"]
    rescaled: strategies.Perturbed
    rescaled_theta: Float[ndarray, "d m"]
    scale: float
    activation: str


@st.composite
def rescaled_models(draw: st.DrawFn, with_theta: bool = True, with_bias: bool = True) -> Rescaled:
    """W -> a W, b -> a b, theta -> theta/a, delta -> delta/a for a positively homogeneous activation."""
    original = draw(strategies.admissible())
    theta_value = np.random.default_rng(draw(strategies.seeds)).standard_normal(original.W.shape)
    scale = draw(st.sampled_from([0.01, 0.5, 3.0, 100.0]))
    bias = original.b * scale if with_bias else original.b
    rescaled = strategies.Perturbed(original.W * scale, bias, original.delta / scale)
    rescaled_theta = theta_value / scale if with_theta else theta_value
    activation = draw(st.sampled_from(["linear", "relu", "leaky_relu"]))
    return Rescaled(original, theta_value, rescaled, rescaled_theta, scale, activation)


BECAUSE = "rounding of sums of up to 16 products, and of eigenvalues"


def check_rescaling(instance: Rescaled) -> Iterable[Comparison]:
    """Delta_kappa is divided by a; scores, rises, divergences and with them E_kappa are the same."""
    pair = ((instance.original, instance.theta), (instance.rescaled, instance.rescaled_theta))
    moments = [feature_second_moment(model.W, model.b, instance.activation) for model, _ in pair]
    # 1 / Delta_kappa^2 at kappa = 1: where every bias lies far below ReLU's kink both are 0 but for rounding
    before, after = (flat_radius(moment, 1.0) ** -2 for moment in moments)
    scale = (instance.original.norm**2 + float(instance.original.b @ instance.original.b)) / instance.original.m**2
    yield equal("(a Delta_kappa)^-2 of the rescaled model", after / instance.scale**2, before, 1e-12 * scale, BECAUSE)
    x = np.random.default_rng(0).standard_normal((3, instance.original.d))
    scores = [RandomFeatureScore(t, model.W, model.b[None, :], instance.activation)(x, np.ones(1)) for model, t in pair]
    size = np.abs(instance.theta).max() * (np.abs(x @ instance.original.W).max() + np.abs(instance.original.b).max())
    yield equal("score", scores[1], scores[0], 1e-12 * float(size), BECAUSE)
    for name, function in (("J", perturbations.loss_rise), ("KL", perturbations.perturbation_divergence)):
        old, new = (function(model.delta, model.W, model.b) for model, _ in pair)
        yield equal(f"{name} of delta", new, old, 1e-9 * (1 + old), "rounding, up to 1e4 times at the edge")


def check_gap(instance: strategies.Perturbed) -> Iterable[Comparison]:
    """KL >= E_kappa at kappa = J(delta), and equal to it along u v^T with v orthogonal to b, where W v is not 0."""
    arrays = (instance.delta, instance.W, instance.b)
    rise, kl = perturbations.loss_rise(*arrays), perturbations.perturbation_divergence(*arrays)
    least = gap_radius(rise)
    yield at_most("E_kappa against KL", least, kl, 1e-12 * (1 + kl), BECAUSE)
    # the top right singular vector of W on the complement of b
    size = np.linalg.norm(instance.b)
    unit = instance.b / size if size > 0 else instance.b
    left, s, right = np.linalg.svd(instance.W - np.outer(instance.W @ unit, unit), full_matrices=False)
    if s[0] > 1e-6 * instance.norm:
        step = instance.m * np.sqrt(rise) / s[0] * np.outer(left[:, 0], right[0])
        reached = perturbations.loss_rise(step, instance.W, instance.b)
        yield equal("J there", reached, rise, 1e-9 * (1 + rise), BECAUSE)
        reached = perturbations.perturbation_divergence(step, instance.W, instance.b)
        yield equal("KL there", reached, least, 1e-9 * (1 + least), BECAUSE)


def check_both(instance: Rescaled) -> Iterable[Comparison]:
    """`check_rescaling`, and `check_gap` of the original."""
    yield from check_rescaling(instance)
    yield from check_gap(instance.original)


STATEMENT = Statement(
    label="remark-3.10",
    title="flatter minima are more robust",
    source="Remark 3.10",
    verdict=Verdict.FALSE,
    fault=Fault.FLAW,
    reason=(
        "The theorem that it comments on is empty, and in the theory repaired by a tolerance kappa it fails, which is "
        "why it is called false: the least divergence at which the loss has risen by kappa is the same for every "
        "flatness. W = 1 and W = 1/10 (d = m = 1, b = 0) differ tenfold in the flat radius and in nothing else."
    ),
    printed=words("flatter minima, of larger Delta, are robust to a larger distribution gap E"),
    holds=Both(
        sympy.Eq(FlatRadius(_scale * W, _scale * b), FlatRadius(W, b) / _scale),
        sympy.Eq(GapRadius(_scale * W, _scale * b), GapRadius(W, b)),
    ),
    evidence=(
        counterexample("W = 1 and W = 1/10: flatter tenfold, as robust", _flatness_without_robustness),
        symbolic(
            "d = m = 1, b = 0: W enters neither E_kappa nor (17) at Delta_kappa", _least_divergence_has_no_weight_in_it
        ),
        symbolic("delta -> delta/a undoes the rescaling, for all d and m", _rescaling_is_undone),
        holds_for_all(
            "rescaling divides Delta_kappa and changes nothing else; KL >= E_kappa, reached",
            rescaled_models(),
            check_both,
        ),
        fails_without("theta -> theta/a", rescaled_models(with_theta=False), check_rescaling),
        fails_without("b -> a b", rescaled_models(with_bias=False), check_rescaling),
    ),
    paper_labels=("Remark 3.10",),
)
