"""Proposition 3.7: a Delta-flat minimum has the same loss under every perturbed density of the set.

Printed: theta* is a Delta-flat minimum implies for all p_hat in P(x; p, Delta): L(x; theta^*, p_hat) = ell and there is p_hat not in P(x; p, Delta): L(x; theta^*, p_hat) > ell

Holds: E_p[L(x; delta + theta^*, p)] = Trace(delta*G*delta^T)/m^2 + E_p[L(x; theta^*, p)] and Delta <= m*sqrt(kappa)*sqrt(1/lambda_max(G)) implies for all p_hat in P(x; p, Delta): E_p[L(x; theta^*, p_hat)] <= ell + kappa

Vacuous: with v = delta phi / m the losses at theta + delta and - delta sum to twice the loss at theta and 2 |v|^2, so a
loss constant on the ball has v = 0 for every delta, and then no delta anywhere raises it: Def. 3.1 admits no
minimum. For minima that are flat in a weaker sense (15) fails wherever delta phi is not 0. Nor does (16) come from the
second clause: the delta that it grants need not be admissible or normalisable, so it may name no density; (16) is true
of every theta anyway. What holds is the rise of the expected loss at a minimum, for every delta: J(delta).
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import sympy
from hypothesis import strategies as st
from jaxtyping import Float
from numpy import ndarray

from theory.claims.corollary_3_4_perturbed_noise import CORRECTED_MEAN, COVARIANCE, EXPONENT, of_perturbation
from theory.claims.definition_3_6_perturbed_set import Member, PerturbedSet
from theory.claims.equation_9_random_feature_score import POINTWISE_LOSS, RESIDUAL, SCORE, SECOND_ORDER, g
from theory.claims.theorem_t3_equal_flatness import FLAT_RADIUS
from theory.model import perturbations
from theory.model.perturbations import flat_radius
from theory.proof import notation, strategies
from theory.proof.notation import (
    A,
    Both,
    Delta,
    Exists,
    Expectation,
    ForAll,
    G,
    Implies,
    Loss,
    Rows,
    W,
    b,
    delta,
    ell,
    exactly,
    generic,
    kappa,
    m,
    numeric,
    p,
    p_hat,
    theta,
    words,
    x,
)
from theory.proof.notation import theta_star as minimum
from theory.proof.statement import (
    Comparison,
    Fault,
    Statement,
    Verdict,
    at_most,
    counterexample,
    different,
    equal,
    fails_without,
    holds_for_all,
    less,
    symbolic,
)

NotMember = notation.operator("NotMember", r"{0} \notin {1}", "{0} not in {1}")

_SHIFT = SCORE.subs(theta, delta)
"""delta phi / m."""


def _same(what: str, left: sympy.MatrixExpr, right: sympy.MatrixExpr) -> Comparison:
    difference = (left - right).doit().expand().doit()
    return equal(what, difference, sympy.ZeroMatrix(*left.shape))


def _no_minimum_is_flat() -> Iterable[Comparison]:
    """For all d and m. The second difference is 2 |v|^2, v = delta phi / m, and delta acts through s v alone."""
    above, below = (POINTWISE_LOSS.subs(theta, theta + sign * delta) for sign in (1, -1))
    difference = above + below - 2 * POINTWISE_LOSS
    yield _same("losses at theta + delta and - delta, minus twice that at theta", difference, 2 * _SHIFT.T * _SHIFT)
    step = sympy.Symbol("s", real=True)
    moved = RESIDUAL + step * _SHIFT
    far = POINTWISE_LOSS.subs(theta, theta + step * delta)
    yield _same("loss at theta + s delta, as |r + s v|^2", far, moved.T * moved)


def _loss_under_p_hat(target: sympy.MatrixExpr) -> sympy.MatrixExpr:
    """The loss at theta under p_hat_delta, whose score is g - delta phi / m."""
    return POINTWISE_LOSS.subs(g, g - target)


def _pointwise_constancy_fails() -> Iterable[Comparison]:
    """For all d and m: over delta and -delta the losses under p_hat sum to 2 l* + 2 |delta phi / m|^2."""
    losses = _loss_under_p_hat(_SHIFT) + _loss_under_p_hat(-_SHIFT)
    yield _same("sum over delta and -delta, minus 2 l*", losses - 2 * POINTWISE_LOSS, 2 * _SHIFT.T * _SHIFT)


EXACT_SCORE: dict[sympy.MatrixSymbol, Rows] = {delta: [["1/2"]], W: [[1]], b: [[0]]}
"""d = m = W = 1, b = 0, delta = 1/2; at theta = -1 the model is the exact score of p = N(0, 1)."""


def _constancy_fails_at_the_exact_score() -> Iterable[Comparison]:
    point = sympy.Symbol("x_1", real=True)
    score = sympy.diff(exactly(EXPONENT, {**EXACT_SCORE, x: [[point]]}), point)
    loss, at_p = ((-point - target) ** 2 for target in (score, -point))
    yield equal("l*, the loss at theta* = -1 under p", at_p, sympy.Integer(0))
    yield equal("loss under p_hat, delta = 1/2", loss, point**2 / 4)
    yield less("l* against it at x = 2", at_p.subs(point, 2), loss.subs(point, 2))


def _clause_2_names_no_density() -> Iterable[Comparison]:
    """delta outside the ball that raise the loss at the exact score, but have no p_hat."""
    first, second = points = sympy.symbols("x_1 x_2", real=True)
    turn = exactly(A * x, {delta: [[0, 1], [-1, 0]], W: [[1, 0], [0, 1]], x: [[point] for point in points]})
    circulation = sympy.diff(turn[1], first) - sympy.diff(turn[0], second)
    rise = sympy.expand(sum(entry**2 for entry in turn))
    yield equal("d = m = 2, W = I, delta = [[0, 1], [-1, 0]]: rise at theta* = -2 I", rise, (first**2 + second**2) / 4)
    yield different("curl of delta W^T x / m, which no gradient has", circulation, sympy.Integer(0))
    beyond: dict[sympy.MatrixSymbol, Rows] = {**EXACT_SCORE, delta: [[-2]]}
    yield equal(
        "d = m = W = 1, delta = -2: rise at theta* = -1", exactly(A * x, {**beyond, x: [[first]]})[0] ** 2, 4 * first**2
    )
    exponent = exactly(EXPONENT, {**beyond, x: [[first]]})
    yield equal("there log e^-I p, of infinite mass", exponent, first**2 / 2)


def _second_part_is_true_of_every_theta() -> Iterable[Comparison]:
    """d = m = 1, W not 0: N(a, 1) with a not 0 is no p_hat, and raises the loss for a or for -a, at every x."""
    step, weight, bias, shift = sympy.symbols("delta_1 w_1 b_1 a", real=True, nonzero=True)
    score, point = sympy.symbols("s x_1", real=True)
    matrices: dict[sympy.MatrixSymbol, Rows] = {delta: [[step]], W: [[weight]], b: [[bias]]}
    variance = exactly(of_perturbation(COVARIANCE), matrices)[0]
    yield equal("p_hat of variance 1 with delta not 0", len(sympy.solve(variance - 1, step)), 0)
    still: dict[sympy.MatrixSymbol, Rows] = {**matrices, delta: [[0]]}
    yield equal("mean of p_hat at delta = 0", exactly(of_perturbation(CORRECTED_MEAN), still)[0], sympy.Integer(0))
    losses = [(score + point - sign * shift) ** 2 for sign in (1, -1, 0)]
    yield equal("losses under N(a, 1) and N(-a, 1), minus 2 l*", losses[0] + losses[1] - 2 * losses[2], 2 * shift**2)


def _linear_term_vanishes() -> Iterable[Comparison]:
    """Linear features, p = N(0, I): the rise at theta* = -m W G^-1, for symbolic W and b, d m <= 2."""
    for rows, columns in ((1, 1), (1, 2), (2, 1)):
        frozen, bias, change = (sympy.Matrix(generic(s, *size)) for s, size in _sizes(rows, columns))
        moment = frozen.T * frozen + bias * bias.T
        # W^T and b have rank m together where m <= d + 1, so that G is invertible
        theta_star = -columns * frozen * moment.adjugate() / moment.det()

        def expected(weights: sympy.Matrix, frozen: sympy.Matrix = frozen, bias: sympy.Matrix = bias) -> sympy.Expr:
            slope = weights * frozen.T / frozen.cols + sympy.eye(frozen.rows)
            return sum(entry**2 for entry in (*slope, *(weights * bias / frozen.cols)))

        rise = expected(theta_star + change) - expected(theta_star)
        formula = notation.at(SECOND_ORDER, {delta: change.tolist(), G: moment.tolist()})
        numerator, _ = sympy.fraction(sympy.together(rise - formula))
        yield equal(f"numerator of rise - J(delta), d={rows}, m={columns}", sympy.expand(numerator), sympy.Integer(0))


def _sizes(rows: int, columns: int) -> tuple[tuple[sympy.MatrixSymbol, tuple[int, int]], ...]:
    return (W, (rows, columns)), (b, (columns, 1)), (delta, (rows, columns))


@dataclass(frozen=True)
class Trained(strategies.Perturbed):
    """A model, a perturbation, and the theta that it moves."""

    theta: Float[ndarray, "d m"]


def least_squares_theta(model: strategies.Model) -> Float[ndarray, "d m"]:
    """A minimum of E|theta phi / m + x|^2 for linear features and x ~ N(0, I), by least squares in (W^T, b)."""
    features = np.vstack([model.W, model.b])
    targets = np.vstack([-model.m * np.eye(model.d), np.zeros(model.d)])
    return np.linalg.lstsq(features, targets, rcond=None)[0].T


@st.composite
def trained(draw: st.DrawFn, at_minimum: bool = True) -> Trained:
    """Any delta, at a minimum or at a random theta."""
    instance = draw(st.one_of(strategies.inadmissible(), strategies.admissible()))
    rng = np.random.default_rng(draw(strategies.seeds))
    theta_value = least_squares_theta(instance) if at_minimum else rng.standard_normal(instance.W.shape)
    return Trained(instance.W, instance.b, instance.delta, theta_value)


def expected_loss(model: strategies.Model, theta_value: Float[ndarray, "d m"]) -> float:
    """E|theta (W^T x + b) / m + x|^2 under x ~ N(0, I): |theta W^T / m + I|^2 + |theta b / m|^2."""
    slope = theta_value @ model.W.T / model.m + np.eye(model.d)
    return float((slope**2).sum() + ((theta_value @ model.b / model.m) ** 2).sum())


def check_rise(instance: Trained) -> Iterable[Comparison]:
    """The rise of the expected loss against J(delta) by its formula, and both against `loss_rise`."""
    rise = perturbations.loss_rise(instance.delta, instance.W, instance.b)
    moment = instance.W.T @ instance.W + np.outer(instance.b, instance.b)
    before, after = (
        expected_loss(instance, instance.theta + change) for change in (0 * instance.delta, instance.delta)
    )
    because = "rounding, magnified by W's condition number of up to 1e5 in the least squares"
    tolerance = 1e-9 * (1 + before + after)
    yield equal("rise of the expected loss against J(delta)", after - before, rise, tolerance, because)
    formula = float(numeric(SECOND_ORDER, delta, G, m)(instance.delta, moment, instance.m))
    yield equal("tr(delta G delta^T) / m^2", formula, rise, 1e-9 * (1 + rise), "rounding of sums that may cancel")


def _losses_change_places() -> Iterable[Comparison]:
    """For all d and m, at every x."""
    moved = POINTWISE_LOSS.subs(theta, theta + delta)
    yield _same("L(x; theta, p_hat_delta) - L(x; theta + delta, p)", _loss_under_p_hat(_SHIFT), moved)


def kappa_flat(at_minimum: bool = True) -> st.SearchStrategy[Trained]:
    """Admissible perturbations, at a minimum or elsewhere."""
    return trained(at_minimum).filter(lambda instance: perturbations.is_admissible(instance.delta, instance.W))


def check_kappa(instance: Trained) -> Iterable[Comparison]:
    """E_p |theta phi / m - grad log p_hat_delta|^2 against ell + kappa, kappa that of the radius |delta|."""
    moment = instance.W.T @ instance.W + np.outer(instance.b, instance.b)
    unit = flat_radius(moment, 1.0)
    size = float(np.linalg.norm(instance.delta))
    allowed = (size / unit) ** 2 if np.isfinite(unit) else 0.0
    A, c = instance.delta @ instance.W.T / instance.m, instance.delta @ instance.b / instance.m
    # grad log p_hat_delta = -x - A x - c
    slope = instance.theta @ instance.W.T / instance.m + np.eye(instance.d) + A
    constant = instance.theta @ instance.b / instance.m + c
    loss = float((slope**2).sum() + (constant**2).sum())
    before = expected_loss(instance, instance.theta)
    because = "rounding, magnified by W's condition number of up to 1e5 in the least squares"
    yield at_most("loss under p_hat_delta", loss, before + allowed, 1e-9 * (1 + before + loss + allowed), because)


_members = PerturbedSet(p, Delta)
_constant = ForAll(Member(p_hat, _members), sympy.Eq(Loss(minimum, p_hat), ell))
_raised = Exists(NotMember(p_hat, _members), sympy.Gt(Loss(minimum, p_hat), ell))
_rise = sympy.Eq(Expectation(p, Loss(minimum + delta, p)), Expectation(p, Loss(minimum, p)) + SECOND_ORDER)
_up_to_kappa = sympy.Le(Expectation(p, Loss(minimum, p_hat)), ell + kappa, evaluate=False)

STATEMENT = Statement(
    label="proposition-3.7",
    title="the loss of a Delta-flat minimum on the set of perturbed densities",
    source="Proposition 3.7, Eqs. (15), (16); Appendix Proposition 1, Eqs. (44), (45)",
    verdict=Verdict.VACUOUS,
    fault=Fault.CONSEQUENCE,
    reason=(
        "It is about the minima of Definition 3.1, of which there are none. With that repaired, (15) fails wherever "
        "delta phi is not zero, and (16) does not follow, since a delta outside the ball may name no density. The "
        "expected loss at a minimum rises by J(delta)."
    ),
    rescue=(
        "For Delta up to the flat radius Delta_kappa the loss expected at a minimum is at most ell + kappa under every "
        "density of the set."
    ),
    printed=Implies(words("theta* is a Delta-flat minimum"), Both(_constant, _raised)),
    holds=Both(_rise, Implies(sympy.Le(Delta, FLAT_RADIUS), ForAll(Member(p_hat, _members), _up_to_kappa))),
    evidence=(
        symbolic("a loss constant on the ball is constant everywhere, for all d and m", _no_minimum_is_flat),
        symbolic(
            "under p_hat_delta and p_hat_-delta the loss is l* only where delta phi = 0", _pointwise_constancy_fails
        ),
        counterexample("at the exact score (15) fails for delta = 1/2", _constancy_fails_at_the_exact_score),
        counterexample("a delta that raises the loss may name no density", _clause_2_names_no_density),
        symbolic("what (16) says is true of every theta, flat or not, d = m = 1", _second_part_is_true_of_every_theta),
        symbolic("at a minimum the rise is J(delta), linear features, d m <= 2", _linear_term_vanishes),
        symbolic("the loss at theta* under p_hat_delta is that at theta* + delta under p", _losses_change_places),
        holds_for_all("under p_hat_delta it rises by at most kappa, |delta| <= Delta_kappa", kappa_flat(), check_kappa),
        fails_without("theta* is a minimum, up to kappa", kappa_flat(at_minimum=False), check_kappa),
        holds_for_all("at a minimum the rise is J(delta), for every delta", trained(), check_rise),
        fails_without("theta is a minimum", trained(at_minimum=False), check_rise),
    ),
    paper_labels=("Proposition 3.7", "Eq. (15)", "Eq. (16)", "Proposition 1", "Eq. (44)", "Eq. (45)"),
)
