"""Theorem T4: the distribution gap that costs a loss rise of kappa is the same for every model.

Holds: inf over J >= kappa of KL(p || p_hat) = sqrt(kappa)/2 - log(1 + sqrt(kappa))/2

The infimum is over admissible, normalisable delta with loss rise J(delta) >= kappa, linear activation, for every (W, b)
with W not zero on the complement of b; without that last condition "=" becomes ">=". It depends on kappa alone: not on
theta, not on W, not on the flat radius. J is the relative Fisher information of p and p_hat. Proof: with q(y) the
divergence's term at sqrt(y), q is concave and q(0) = 0, so sum q(tau_i^2) >= q(sum tau_i^2); the mean's part costs at
least q's slope; and negative tau cost more than positive ones (T2).
"""

from __future__ import annotations

from collections.abc import Iterable

import hypothesis
import numpy as np
import sympy
from flint import arb
from hypothesis import strategies as st

from theory.claims.corollary_3_9_first_line import bracket_of
from theory.model import brute_force, perturbations
from theory.model.divergences import DIVERGENCES, TAU
from theory.model.perturbations import gap_radius
from theory.proof import exact, strategies
from theory.proof.exact import certify_above
from theory.proof.machine_checked import machine_checked
from theory.proof.notation import KL, Infimum, kappa, p, p_hat
from theory.proof.statement import (
    Comparison,
    Statement,
    Verdict,
    at_most,
    counterexample,
    different,
    enclosure,
    equal,
    fails_without,
    holds_for_all,
    optimisation,
    relative,
    symbolic,
)

J = sympy.Symbol("J", positive=True)
_KL_TERM = DIVERGENCES["kl"].term_formula
HOLDS = sympy.Eq(Infimum(sympy.Ge(J, kappa), KL(p, p_hat)), _KL_TERM.subs(TAU, sympy.sqrt(kappa)) / 2)

_SLOPE_IN_S = {
    "kl": lambda s: 1 / (2 * s**2),
    "reverse_kl": lambda s: 1 / (2 * s**4),
    "w2": lambda s: 1 / (2 * s**4 * (1 + s)),
}
"""d/dy of each divergence's term at sqrt(y), written in s = sqrt(1 + sqrt(y)) >= 1: falling, so the term is concave."""


def _concave() -> Iterable[Comparison]:
    t, s = sympy.symbols("t s", positive=True)
    for name, slope in _SLOPE_IN_S.items():
        derivative = sympy.diff(DIVERGENCES[name].term_formula.subs(TAU, t), t) / (2 * t)
        in_s = sympy.simplify(derivative.subs(t, s**2 - 1) - slope(s))
        yield equal(f"{name}: slope in y", sympy.simplify(in_s), sympy.Integer(0))
        yield equal(f"{name}: term at 0", DIVERGENCES[name].term_formula.subs(TAU, 0), sympy.Integer(0))


def _slope_certified() -> Iterable[Comparison]:
    """Over all y >= 0, z = 1/s in (0, 1]: the slope rises with z, and never exceeds the weight of the mean's part."""
    z = sympy.Symbol("z", positive=True)
    for name, slope in _SLOPE_IN_S.items():
        in_z = sympy.cancel(slope(1 / z))
        lowest_power = sympy.Poly(sympy.fraction(in_z)[0], z).monoms()[-1][0]
        rising = sympy.cancel(sympy.diff(in_z, z) / z ** (lowest_power - 1))
        # weight at tau = +sqrt(y) is z^2 or z^4; negative tau have a larger weight still
        weight = DIVERGENCES[name].weight_formula.subs(TAU, 1 / z**2 - 1)
        spare = sympy.cancel((weight - in_z) / z ** (2 if name == "kl" else 4))
        for what, expression in (("slope rising in z", rising), ("weight minus slope", spare)):
            certificate = certify_above(lambda ball, e=expression: arb(exact.enclose(e, {z: ball})), [(0.0, 1.0)])
            yield at_most(f"{name}: {what}, least certified", 0.0, certificate.lower)


def _rise_is_relative_fisher_information() -> Iterable[Comparison]:
    """E_p|grad log p - grad log p_hat|^2 = |A|^2 + |c|^2 for symbolic A, c in d = 1, 2, by Gaussian moments."""
    for d in (1, 2):
        x = sympy.Matrix(sympy.symbols(f"x1:{d + 1}", real=True))
        A = sympy.Matrix(d, d, lambda i, j: sympy.Symbol(f"a_{min(i, j)}{max(i, j)}", real=True))
        c = sympy.Matrix(sympy.symbols(f"c1:{d + 1}", real=True))
        log_ratio = (x.T * A * x)[0] / 2 + (c.T * x)[0]  # log p - log p_hat, up to the normaliser
        score_gap = sympy.Matrix([sympy.diff(log_ratio, entry) for entry in x])
        integrand = sympy.expand((score_gap.T * score_gap)[0])
        for entry in x:
            density = sympy.exp(-(entry**2) / 2) / sympy.sqrt(2 * sympy.pi)
            polynomial = sympy.Poly(integrand, entry)
            moments = [sympy.integrate(entry**k * density, (entry, -sympy.oo, sympy.oo)) for k in range(3)]
            integrand = sympy.expand(sum(co * moments[k] for (k,), co in polynomial.terms()))
        expected = sum(entry**2 for entry in A) + sum(entry**2 for entry in c)
        yield equal(f"relative Fisher information, d = {d}", integrand, expected)


def _expectation_under_p_hat_is_another_number() -> Iterable[Comparison]:
    """tr(A^2 Sigma) + |Sigma c|^2 - ... at d = m = W = delta = 1, b = 0: E_p_hat[(A x)^2] = 1/2 where J = 1."""
    x = sympy.Symbol("x", real=True)
    density = sympy.exp(-(x**2)) / sympy.sqrt(sympy.pi)  # N(0, 1/2)
    under_p_hat = sympy.integrate(x**2 * density, (x, -sympy.oo, sympy.oo))
    yield equal("rise expected under p_hat", under_p_hat, sympy.Rational(1, 2))
    yield different("it is not J", under_p_hat, sympy.Integer(1))


BECAUSE = "rounding, eps / (1 - r)"


def check_gap_radius(instance: strategies.Perturbed) -> Iterable[Comparison]:
    """Every admissible perturbation is at least as far from p as its own loss rise demands."""
    rise = perturbations.loss_rise(instance.delta, instance.W, instance.b)
    for name in DIVERGENCES:
        least = gap_radius(rise, name)
        reached = perturbations.perturbation_divergence(instance.delta, instance.W, instance.b, name)
        yield at_most(
            f"{name}: gap radius against the divergence", least, reached, relative(reached, 1e-9, 0.0), BECAUSE
        )


def check_bracket(instance: strategies.Perturbed) -> Iterable[Comparison]:
    """The same with the bracket of (18) for the divergence, which means one for admissible delta only."""
    rise = perturbations.loss_rise(instance.delta, instance.W, instance.b)
    # where the determinant is negative there is no bracket, so no violation either
    reached = float(np.nan_to_num(bracket_of(instance), nan=np.inf))
    yield at_most("gap radius against the bracket", gap_radius(rise), reached, relative(reached, 1e-9, 1e-12), BECAUSE)


def check_two_sided(instance: strategies.Perturbed) -> Iterable[Comparison]:
    """J / (4 (1+r)) <= KL <= J / (2 (1-r)) and J / (4 (1+r)^2) <= W_2^2 <= J / (1-r)^2, r = |A|_op."""
    rise = perturbations.loss_rise(instance.delta, instance.W, instance.b)
    tau, _, _ = perturbations.spectrum(instance.delta, instance.W, instance.b)
    r = float(np.abs(tau).max())
    for name, low, high in (
        ("kl", rise / (4 * (1 + r)), rise / (2 * (1 - r))),
        ("w2", rise / (4 * (1 + r) ** 2), rise / (1 - r) ** 2),
    ):
        reached = perturbations.perturbation_divergence(instance.delta, instance.W, instance.b, name)
        slack = relative(reached, 1e-9, 0.0) + 1e-300
        yield at_most(f"{name}: lower bound", low, reached, slack, BECAUSE)
        yield at_most(f"{name}: upper bound", reached, high, relative(high, 1e-9, 0.0) + 1e-300, BECAUSE)


def free_direction(model: strategies.Model) -> np.ndarray:
    """A vector w with w^T b = 0 that W does not annihilate: the top right singular vector of W (I - b b^T / |b|^2)."""
    size = np.linalg.norm(model.b)
    unit = model.b / size if size > 0 else model.b
    return np.linalg.svd(model.W - np.outer(model.W @ unit, unit))[2][0]


def free(model: strategies.Model) -> bool:
    """Whether W is not zero on the complement of b, with a margin for rounding."""
    w = free_direction(model)
    return abs(w @ model.b) <= 1e-9 * (1 + np.linalg.norm(model.b)) and bool(np.linalg.norm(model.W @ w) > 1e-3)


def check_attained(model: strategies.Model) -> Iterable[Comparison]:
    """delta = alpha u w^T, w orthogonal to b and u along W w, has A = sqrt(kappa) u u^T, c = 0: the gap radius."""
    w = free_direction(model)
    image = model.W @ w
    for rise in (1e-4, 0.5, 30.0):
        delta = np.sqrt(rise) * model.m * np.outer(image, w) / (image @ image)
        yield equal(
            "J(delta)", perturbations.loss_rise(delta, model.W, model.b), rise, 1e-6 * rise, "w^T b is rounding"
        )
        for name in DIVERGENCES:
            reached = perturbations.perturbation_divergence(delta, model.W, model.b, name)
            least = gap_radius(rise, name)
            yield equal(f"{name} at kappa = {rise}", reached, least, relative(least, 1e-6, 0.0), "w^T b is rounding")


def check_nothing_else_is_nearer(model: strategies.Model) -> Iterable[Comparison]:
    """With m = 1 and b not zero every delta moves the mean too; the best one must then reach the gap radius."""
    nearest = brute_force.least_divergence(model.W, model.b, 0.5, DIVERGENCES["kl"], starts=2)
    yield at_most("least divergence at J = 1/2", nearest, gap_radius(0.5), relative(nearest, 1e-6), "the optimiser's")


def _brute_force() -> Iterable[Comparison]:
    number = max(24, hypothesis.settings().max_examples * 24 // 200)
    for seed in range(number):
        rng = np.random.default_rng(seed)
        d, m = int(rng.integers(1, 5)), int(rng.integers(2, 7))
        W = rng.standard_normal((d, m))
        b = rng.standard_normal(m) * rng.choice([0.0, 0.3, 3.0])
        rise = float(rng.choice([0.01, 0.5, 4.0]))
        name = sorted(DIVERGENCES)[seed % 3]
        nearest = brute_force.least_divergence(W, b, rise, DIVERGENCES[name], starts=8, seed=seed)
        least = gap_radius(rise, name)
        because = "L-BFGS stops where the slope is rounding"
        yield equal(
            f"{name}, d={d}, m={m}, kappa={rise}: brute force", nearest, least, relative(least, 1e-8, 0.0), because
        )
        yield at_most("never below the formula", least, nearest, relative(least, 1e-12, 0.0), "rounding")


STATEMENT = Statement(
    label="theorem-t4",
    title="the robust radius does not depend on flatness",
    source="ours",
    verdict=Verdict.HOLDS,
    reason=(
        "A loss rise of kappa under a perturbed density costs the same divergence in every model of this class: the "
        "rise is the relative Fisher information of the two densities, whatever theta, W and the flat radius are."
    ),
    printed=None,
    holds=HOLDS,
    conditions=(
        "linear activation",
        "delta W^T symmetric",
        "I + A positive definite",
        "W not zero on the complement of b",
    ),
    evidence=(
        machine_checked(
            "the bound and its attainment for KL(p || p_hat)", "gaussian_gap.v", "kl_gap_bound", "kl_gap_attained"
        ),
        machine_checked(
            "the sum over eigenvalues and the mean, for the three divergences",
            "robust_radius.v",
            "spread_costs_more",
            "rise_over_eigenvalues",
            "gap_bound",
            "gap_attained",
            "second_moment_linear",
        ),
        symbolic("each term is concave in tau^2", _concave),
        symbolic("J is the relative Fisher information", _rise_is_relative_fisher_information),
        enclosure("the slope falls, and the mean's part costs more, over all y", _slope_certified),
        counterexample("the rise expected under p_hat is another number", _expectation_under_p_hat_is_another_number),
        optimisation("brute force from many starts reaches it and never goes below", _brute_force),
        holds_for_all("no admissible perturbation is nearer", strategies.admissible(), check_gap_radius),
        holds_for_all("it is attained", strategies.models().filter(free), check_attained),
        holds_for_all("two-sided bounds by J", strategies.admissible(), check_two_sided),
        fails_without("delta W^T symmetric", strategies.inadmissible(), check_bracket),
        fails_without(
            "W not zero on the complement of b",
            strategies.models(st.tuples(st.integers(1, 3), st.just(1)), full_rank=True),
            check_nothing_else_is_nearer,
        ),
    ),
)
