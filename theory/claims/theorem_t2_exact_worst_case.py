"""Theorem T2: the exact worst case over the Frobenius ball, for linear activation and rho = Delta |W|_op / m < 1.

Holds: max over |delta| <= Delta of KL(p || p_hat) = max over |v| = 1 of [-log(1 - eta*|W*v|) - eta*|W*v| + eta^2*|v^T*b|^2/(1 - eta*|W*v|)]/2

eta = Delta / m. The maximum is attained at delta = -Delta u v^T with u along W v. Proof: with A = sum tau_i u_i u_i^T
and w_i = delta^T u_i / m one has W w_i = tau_i u_i, c_i = w_i^T b and sum |w_i|^2 <= eta^2, so the divergence is at most
sum F(w_i) / 2 with F(w) = h(|W w|) + (w^T b)^2 / (1 - |W w|). Along a ray F is a power series in y^(j/2), j >= 2,
y = |w|^2, with coefficients >= 0: convex in y and zero at 0. Hence F(w_i) <= |w_i|^2 / eta^2 F(eta w_i / |w_i|); sum.
The same proof gives the reverse Kullback-Leibler divergence and the squared 2-Wasserstein distance.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import hypothesis
import numpy as np
import sympy
from flint import arb
from hypothesis import strategies as st

from theory.model import brute_force, perturbations
from theory.model.divergences import DIVERGENCES, TAU
from theory.model.worst_case import worst_case_divergence
from theory.proof import exact, notation, strategies
from theory.proof.exact import certify_above, quotient_near_zero
from theory.proof.machine_checked import machine_checked
from theory.proof.notation import KL, Delta, Maximum, Norm, W, b, delta, eta, m, p, p_hat
from theory.proof.statement import (
    Comparison,
    Statement,
    Verdict,
    at_most,
    counterexample,
    enclosure,
    equal,
    fails_without,
    holds_for_all,
    less,
    optimisation,
    relative,
    symbolic,
)

v = sympy.MatrixSymbol("v", m, 1)
_T = eta * Norm(W * v)
_OVERLAP = Norm(v.T * b) ** 2
HOLDS = sympy.Eq(
    Maximum(sympy.Le(Norm(delta), Delta), KL(p, p_hat)),
    Maximum(sympy.Eq(Norm(v), 1), -_T - sympy.log(1 - _T) + eta**2 * _OVERLAP / (1 - _T)) / 2,
)


@dataclass(frozen=True)
class Ball(strategies.Perturbed):
    """A model with an admissible delta on the edge of a Frobenius ball, and the divergence looked at."""

    divergence: str

    @property
    def radius(self) -> float:
        """Delta: the Frobenius norm of delta."""
        return float(np.linalg.norm(self.delta))


@st.composite
def balls(draw: st.DrawFn, models: st.SearchStrategy[strategies.Model] | None = None) -> Ball:
    """Instances with rho = Delta |W|_op / m in RATIOS; where W = 0, Delta = ratio m."""
    model = draw(strategies.models() if models is None else models)
    rng = np.random.default_rng(draw(strategies.seeds))
    direction = perturbations.project_admissible(rng.standard_normal(model.W.shape), model.W)
    size = np.linalg.norm(direction) * max(model.norm, 1e-9 if model.norm else 1.0) / model.m
    ratio = draw(strategies.RATIOS)
    delta = direction * (ratio / size) if size > 0 else np.full(model.W.shape, ratio)
    return Ball(model.W, model.b, delta, draw(st.sampled_from(sorted(DIVERGENCES))))


def _spectral_form() -> Iterable[Comparison]:
    """-log det(I+A) + tr A + c^T (I+A)^-1 c for A with eigenvalues t_1, t_2 in a turned basis."""
    turn, c1, c2 = sympy.symbols("k c_1 c_2", real=True)
    taus = sympy.symbols("t_1 t_2", positive=True)
    # every rotation but one, written rationally in k = tan(phi / 2)
    cosine, sine = (1 - turn**2) / (1 + turn**2), 2 * turn / (1 + turn**2)
    rotation = sympy.Matrix([[cosine, -sine], [sine, cosine]])
    A = rotation * sympy.diag(*taus) * rotation.T
    mean_part = rotation * sympy.Matrix([c1, c2])
    precision = sympy.eye(2) + A
    kl = DIVERGENCES["kl"]
    quadratic = sympy.cancel((mean_part.T * precision.adjugate() * mean_part)[0] / precision.det())
    weights = sum(c**2 * kl.weight_formula.subs(TAU, tau) for tau, c in zip(taus, (c1, c2), strict=True))
    yield equal("c^T (I+A)^-1 c", sympy.cancel(quadratic - weights), sympy.Integer(0))
    bracket = A.trace() - sympy.log(sympy.factor(sympy.cancel(precision.det())))
    terms = sum(kl.term_formula.subs(TAU, tau) for tau in taus)
    yield equal("tr A - log det(I+A)", sympy.expand_log(bracket - terms, force=True), sympy.Integer(0))


def check_not_exceeded(instance: Ball) -> Iterable[Comparison]:
    """No admissible delta of the ball exceeds the worst case."""
    worst = worst_case_divergence(instance.W, instance.b, instance.radius, instance.divergence)
    at_delta = perturbations.perturbation_divergence(instance.delta, instance.W, instance.b, instance.divergence)
    tolerance = relative(worst.value, 1e-10, floor=0.0)
    yield at_most("divergence against the worst case", at_delta, worst.value, tolerance, "rounding near the edge")


def check_attained(instance: Ball) -> Iterable[Comparison]:
    """The perturbation returned lies in the ball, is admissible, and has the divergence said."""
    worst = worst_case_divergence(instance.W, instance.b, instance.radius, instance.divergence)
    at_worst = perturbations.perturbation_divergence(worst.perturbation, instance.W, instance.b, instance.divergence)
    # near the edge 1 - rho is lost to rounding: eps / (1 - rho), to the power with which it enters
    tolerance = relative(worst.value, 1e-7, floor=0.0) + 1e-300
    yield equal(
        "divergence of the perturbation", at_worst, worst.value, tolerance, "eps over (1 - rho)^3, 1 - rho >= 1e-4"
    )
    norm = float(np.linalg.norm(worst.perturbation))
    yield equal("its norm", norm, instance.radius, relative(instance.radius, 1e-12, floor=0.0), "rounding")


def check_bounds(instance: Ball) -> Iterable[Comparison]:
    """eta^2 Lam / 2 <= KL* <= eta^2 Lam / (2 (1 - rho)), Lam = lambda_max(W^T W / 2 + b b^T), and h(rho)'s bound."""
    worst = worst_case_divergence(instance.W, instance.b, instance.radius).value
    step = instance.radius / instance.m
    rho = step * instance.norm
    Lam = float(np.linalg.eigvalsh(instance.W.T @ instance.W / 2 + np.outer(instance.b, instance.b))[-1])
    slack = relative(worst, 1e-9, floor=0.0) + 1e-300
    because = "rounding, eps / (1 - rho)"
    yield at_most("eta^2 Lam / 2 against the worst case", step**2 * Lam / 2, worst, slack, because)
    yield at_most(
        "the worst case against eta^2 Lam / (2 (1 - rho))", worst, step**2 * Lam / (2 * (1 - rho)), slack, because
    )
    ceiling = (float(DIVERGENCES["kl"].term(np.array(-rho))) + step**2 * instance.b @ instance.b / (1 - rho)) / 2
    yield at_most("the worst case against [h(rho) + eta^2 |b|^2 / (1 - rho)] / 2", worst, ceiling, slack, because)


def check_closed_forms(instance: Ball) -> Iterable[Comparison]:
    """B along v_1, and b = 0: term(-rho) + eta^2 |b|^2 weight(-rho), times the scale."""
    divergence = DIVERGENCES[instance.divergence]
    step = instance.radius / instance.m
    _, s, right = np.linalg.svd(instance.W)
    for length in (0.0, float(np.linalg.norm(instance.b))):
        worst = worst_case_divergence(instance.W, length * right[0], instance.radius, instance.divergence).value
        rho = np.array(-step * s[0])
        closed = divergence.scale * float(divergence.term(rho) + (step * length) ** 2 * divergence.weight(rho))
        slack = relative(closed, 1e-9, floor=0.0) + 1e-300
        yield equal(f"worst case with |b| = {length:.3g} along v_1", worst, closed, slack, "rounding, eps / (1 - rho)")


def check_spectral_ball(instance: Ball) -> Iterable[Comparison]:
    """At b = 0 the spectral ball's worst case is scale * sum term(-eta s_i), attained at -Delta U V^T."""
    no_bias = np.zeros(instance.m)
    _, s, _ = np.linalg.svd(instance.W)
    radius = instance.radius
    worst = worst_case_divergence(instance.W, no_bias, radius, instance.divergence, "spectral")
    divergence = DIVERGENCES[instance.divergence]
    closed = divergence.scale * float(np.sum(divergence.term(-radius / instance.m * s)))
    slack = relative(closed, 1e-9, floor=0.0) + 1e-300
    yield equal("spectral worst case at b = 0", worst.value, closed, slack, "rounding, eps / (1 - rho)")
    yield equal("it is exact", float(worst.exact), 1.0)


def _brute_force() -> Iterable[Comparison]:
    """Random instances, as many as the profile asks: 24 by default."""
    number = max(24, hypothesis.settings().max_examples * 24 // 200)
    for seed in range(number):
        rng = np.random.default_rng(seed)
        d, m_ = int(rng.integers(1, 5)), int(rng.integers(1, 7))
        W_ = rng.standard_normal((d, m_))
        bias = rng.standard_normal(m_) * rng.choice([0.0, 0.1, 1.0, 5.0])
        if seed % 3 == 0:  # b orthogonal to W's rows: the degenerate segment
            bias -= np.linalg.pinv(W_) @ (W_ @ bias)
        radius = float(rng.choice([0.1, 0.5, 0.9])) * m_ / float(np.linalg.norm(W_, 2))
        name = sorted(DIVERGENCES)[seed % 3]
        largest = brute_force.largest_divergence(W_, bias, radius, DIVERGENCES[name], starts=8, seed=seed)
        value = worst_case_divergence(W_, bias, radius, name).value
        because = "L-BFGS stops where the slope is rounding"
        yield equal(f"{name}, d={d}, m={m_}: brute force", largest, value, relative(value, 1e-8, floor=0.0), because)
        yield at_most("never above the formula", largest, value, relative(value, 1e-12, floor=0.0), "rounding")


def _polar_is_not_optimal() -> Iterable[Comparison]:
    """Spectral ball, W = diag(1, 1/2), b = (1, 5), Delta = 9/5, m = 2: a better perturbation than -Delta U V^T."""
    W_ = notation.exact_matrix([[1, 0], [0, "1/2"]])
    bias = notation.exact_matrix([[1], [5]])
    radius = sympy.Rational(9, 5)
    better = notation.exact_matrix([["-7/5", -1], ["-1/2", "-1/5"]])
    yield equal("delta W^T - W delta^T", better * W_.T - W_ * better.T, sympy.zeros(2))
    slack = radius**2 * sympy.eye(2) - better * better.T
    yield less(
        "|delta|_op <= Delta: least leading minor of Delta^2 I - delta delta^T", 0, min(slack[0, 0], slack.det())
    )

    def kl(delta_: sympy.Matrix) -> sympy.Expr:
        A, c = delta_ * W_.T / 2, delta_ * bias / 2
        precision = sympy.eye(2) + A
        return (-sympy.log(precision.det()) + A.trace() + (c.T * precision.inv() * c)[0]) / 2

    yield less("KL at -Delta U V^T against KL at delta", kl(-radius * sympy.eye(2)), kl(better))


@st.composite
def spectral_balls(draw: st.DrawFn) -> Ball:
    """Balls whose delta = -radius U V^T has spectral norm `radius`, so a larger Frobenius norm: the ball enlarged."""
    instance = draw(balls(strategies.models(strategies.SHAPES.filter(lambda shape: min(shape) > 1), full_rank=True)))
    left, _, right = np.linalg.svd(instance.W, full_matrices=False)
    radius = 0.5 * instance.m / instance.norm
    return SpectralBall(instance.W, instance.b, -radius * left @ right, instance.divergence)


class SpectralBall(Ball):
    """A ball measured in operator norm."""

    @property
    def radius(self) -> float:
        """Delta: the operator norm of delta."""
        return float(np.linalg.norm(self.delta, 2))


def ray_coefficients() -> dict[str, tuple[sympy.Expr, sympy.Symbol]]:
    """The general coefficient of t^j, j >= 2, of each divergence's term at tau = -t."""
    j = sympy.Symbol("j", integer=True, positive=True)
    central = sympy.binomial(2 * j, j) / 4**j
    return {"kl": (1 / j, j), "reverse_kl": (1 - 1 / j, j), "w2": (1 - 2 * central, j)}


def series_coefficients() -> Iterable[Comparison]:
    """Each general coefficient, against the term's own differential equation, and its sign for every j >= 2."""
    t = notation.t
    # d/dt of the term at -t, over the function whose coefficients are known in closed form
    derivatives = {"kl": t / (1 - t), "reverse_kl": t / (1 - t) ** 2}
    for name, derivative in derivatives.items():
        term = DIVERGENCES[name].term_formula.subs(TAU, -t)
        yield equal(f"{name}: derivative of the term at -t", sympy.diff(term, t), derivative)
        coefficient, j = ray_coefficients()[name]
        # t/(1-t) = sum t^(j-1), t/(1-t)^2 = sum (j-1) t^(j-1), both from j = 2
        expected = {"kl": sympy.Integer(1), "reverse_kl": j - 1}[name]
        yield equal(f"{name}: j times the coefficient of t^j", sympy.simplify(j * coefficient), expected)
    term = DIVERGENCES["w2"].term_formula.subs(TAU, -t)
    yield equal("w2: term at -t", term, 1 / (1 - t) - 2 / sympy.sqrt(1 - t) + 1)
    coefficient, j = ray_coefficients()["w2"]
    central = (1 - coefficient) / 2
    # (1-t)^(-1/2) has coefficients a_j with a_0 = 1 and a_(j+1) / a_j = (2j+1)/(2j+2) < 1, as 2 (1-t) f' = f shows
    root = 1 / sympy.sqrt(1 - t)
    yield equal("w2: 2 (1-t) f' - f", sympy.simplify(2 * (1 - t) * sympy.diff(root, t) - root), sympy.Integer(0))
    ratio = sympy.combsimp(central.subs(j, j + 1) / central)
    yield equal("w2: ratio of its coefficients", sympy.simplify(ratio), (2 * j + 1) / (2 * j + 2))
    yield at_most("w2: so each is at most the first, and 1 - 2 a_j >= 0", central.subs(j, 1), sympy.Rational(1, 2))


def rays_are_convex() -> Iterable[Comparison]:
    """d/dy of the term at -sqrt(y), in u = sqrt(y) or w = sqrt(1 - u), visibly rises with y."""
    u, w = sympy.symbols("u w", positive=True)
    expected = {"kl": 1 / (2 * (1 - u)), "reverse_kl": 1 / (2 * (1 - u) ** 2), "w2": None}
    for name, slope in expected.items():
        derivative = sympy.diff(DIVERGENCES[name].term_formula.subs(TAU, -u), u) / (2 * u)
        if slope is not None:
            yield equal(f"{name}: slope in y", sympy.simplify(derivative), slope)
        else:
            in_w = sympy.simplify(derivative.subs(u, 1 - w**2))
            yield equal(f"{name}: slope in y", sympy.simplify(in_w - 1 / (2 * w**4 * (1 + w))), sympy.Integer(0))


def convexity_certified() -> Iterable[Comparison]:
    """F(y) = term(-u) + beta^2 y weight(-u) / a^2, u = sqrt(y) in (0, 1), has F'' > 0: both parts, over all of (0, 1).

    In w = sqrt(1 - u) each second derivative in y is a polynomial over a product of powers of w, 1 + w and w - 1; the
    last is the only factor below 0, and the polynomial is certified by bisection on [0, 1].
    """
    u, w = sympy.symbols("u w", positive=True)
    for name, divergence in DIVERGENCES.items():
        parts = {"term": divergence.term_formula, "mean's part": TAU**2 * divergence.weight_formula}
        for what, formula in parts.items():
            slope = sympy.diff(formula.subs(TAU, -u), u) / (2 * u)
            second = sympy.simplify((sympy.diff(slope, u) / (2 * u)).subs(u, 1 - w**2))
            numerator, denominator = sympy.fraction(sympy.factor(second))
            constant, factors = sympy.factor_list(denominator, w)
            powers = dict(factors)
            yield equal(f"{name}, {what}: power of w - 1 below", powers.pop(w - 1), 1)
            yield equal("other factors than w and w + 1", len(powers.keys() - {w, w + 1}), 0)
            polynomial = -numerator / constant
            certificate = certify_above(lambda x, e=polynomial, w=w: arb(exact.enclose(e, {w: x})), [(0.0, 1.0)])
            yield less("0 against the least of the numerator, w - 1 counted in", 0.0, certificate.lower)


TAIL = 2.0**-12


def negative_side_costs_more(name: str) -> tuple[sympy.Expr, sympy.Expr]:
    """(term(-t) - term(t) in t; the same times 1 - t, bounded below by what stays finite at t = 1, in r^2 = 1 - t).

    In the tail only log(1 - t) and its product with 1 - t are singular: -log(r^2) stays as it is for "kl", where the
    product with r^2 is not needed (exponentials are compared), and r^2 log(r^2) >= 2 (r^2 - r) for "reverse_kl".
    """
    t, r = notation.t, sympy.Symbol("r", positive=True)
    term = DIVERGENCES[name].term_formula
    difference = term.subs(TAU, -t) - term.subs(TAU, t)
    s = r**2
    tail = {
        # -2t + log((1+t)/(1-t)) > 0 iff (2 - s) - s exp(2 (1-s)) > 0
        "kl": (2 - s) - s * sympy.exp(2 * (1 - s)),
        "reverse_kl": 1 + 2 * (s - r) - s / (2 - s) - s * sympy.log(2 - s),
        "w2": (1 - r) ** 2 - s * (1 / sympy.sqrt(2 - s) - 1) ** 2,
    }[name]
    return difference, tail


def negative_side_certified() -> Iterable[Comparison]:
    """term(-t) > term(t) on all of (0, 1): near 0 by a series with remainder, then by bisection, then near 1."""
    for name in DIVERGENCES:
        difference, tail = negative_side_costs_more(name)

        def function(t: Any, difference: sympy.Expr = difference) -> Any:
            return exact.enclose(difference, {notation.t: t})

        near = certify_above(quotient_near_zero(function, 3, 0.25), [(0.0, 0.25)])
        middle = certify_above(lambda t, f=function: arb(f(t)), [(0.25, 1 - TAIL)])
        r = sympy.Symbol("r", positive=True)
        end = certify_above(lambda x, e=tail, r=r: arb(exact.enclose(e, {r: x})), [(0.0, TAIL**0.5)])
        boxes = near.boxes + middle.boxes + end.boxes
        least = min(near.lower, middle.lower, end.lower)
        yield less(f"{name}: 0 against the least certified value ({boxes} intervals)", 0.0, least)


STATEMENT = Statement(
    label="theorem-t2",
    title="exact worst case over the Frobenius ball",
    source="ours",
    verdict=Verdict.HOLDS,
    reason=(
        "The largest divergence is a maximum over one unit vector v, attained at delta = -Delta u v^T with u along "
        "W v; only a one-parameter curve of vectors matters, so it is cheap for any d and m."
    ),
    printed=None,
    holds=HOLDS,
    conditions=("linear activation", "delta W^T symmetric", "Delta |W|_op < m"),
    evidence=(
        machine_checked(
            "the bound and its attainment for KL(p || p_hat), from the bracket's determinant to one unit vector",
            "gaussian_gap.v",
            "bracket_over_eigenvalues",
            "kl_worst_case_bound",
            "kl_worst_case_attained",
        ),
        machine_checked(
            "the reduction to one vector, for the three divergences by eigenvalues",
            "worst_case.v",
            "pulled_energy",
            "worst_case_bound",
            "worst_case_attained",
        ),
        machine_checked(
            "what it asks of their terms, over all of (0, 1)",
            "scalar.v",
            "ray",
            "negative_costs_more",
            "kl",
            "reverse_kl",
            "w2",
        ),
        symbolic("the bracket is a sum over eigenvalues", _spectral_form),
        symbolic("along a ray all series coefficients are >= 0", series_coefficients),
        symbolic("so rays are convex in |w|^2", rays_are_convex),
        enclosure("both parts of F are convex along rays, over all of (0, 1)", convexity_certified),
        enclosure("h(t) > h+(t) on (0, 1), and likewise for the other divergences", negative_side_certified),
        counterexample("in the spectral ball -Delta U V^T is not optimal for general b", _polar_is_not_optimal),
        optimisation("brute force from many starts reaches it and never exceeds it", _brute_force),
        holds_for_all("no admissible delta exceeds it", balls(), check_not_exceeded),
        holds_for_all("it is attained", balls(), check_attained),
        holds_for_all("two-sided bounds", balls(), check_bounds),
        holds_for_all("closed forms for b = 0 and b along v_1", balls(), check_closed_forms),
        holds_for_all("spectral ball, b = 0", balls(), check_spectral_ball),
        fails_without("the Frobenius norm (operator norm instead)", spectral_balls(), check_not_exceeded),
    ),
)
