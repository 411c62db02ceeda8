"""Corollary 3.9, first line: the divergence of a perturbed Gaussian in terms of its mean and covariance.

Printed: E <= max over |delta| <= Delta of [mu_delta^T*Sigma_delta^-1*mu_delta/2 + Trace(Sigma_delta^-1)/2 + log(Determinant(Sigma_delta))/2 - d/2]

Holds: delta*W^T = W*delta^T and 1/m*delta*W^T + I positive definite implies KL(p || p_hat) = mu_delta^T*Sigma_delta^-1*mu_delta/2 + Trace(Sigma_delta^-1)/2 + log(Determinant(Sigma_delta))/2 - d/2

The bracket is an identity for each delta, in the direction KL(p || p_hat_delta) of Eq. (17). It needs delta W^T
symmetric, which the maximum does not say: at A = [[0, 1], [-1, 0]]/2 it is -log(5/4)/2, below zero. And it needs I + A
positive definite, which every delta of the ball grants only if Delta |W| < m; the maximum is infinite otherwise.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import sympy
from scipy import integrate

from theory.claims.corollary_3_4_perturbed_noise import EXPONENT, arrays, beyond_the_edge, of_perturbation
from theory.model import perturbations
from theory.model.gaussians import kl_divergence, standard_normal
from theory.proof import strategies
from theory.proof.machine_checked import machine_checked
from theory.proof.notation import (
    KL,
    A,
    Both,
    Delta,
    Entry,
    Implies,
    Maximum,
    Norm,
    PositiveDefinite,
    Rows,
    Sigma_delta,
    W,
    b,
    d,
    delta,
    exactly,
    gap,
    identity,
    mu_delta,
    numerically,
    p,
    p_hat,
    x,
)
from theory.proof.statement import (
    Comparison,
    Fault,
    Statement,
    Verdict,
    counterexample,
    equal,
    fails_without,
    holds_for_all,
    less,
    quadrature,
    relative,
    symbolic,
)

PRECISION = sympy.Inverse(Sigma_delta)
BRACKET = (
    sympy.log(sympy.Determinant(Sigma_delta)) - d + sympy.Trace(PRECISION) + Entry(mu_delta.T * PRECISION * mu_delta)
) / 2


def expected_under_noise(polynomial: sympy.Expr, symbols: tuple[sympy.Symbol, ...]) -> sympy.Expr:
    """E of a polynomial in independent standard normal `symbols`, by E z^n = (n - 1)!! for even n, 0 for odd n."""
    total = sympy.Integer(0)
    for powers, coefficient in sympy.Poly(polynomial, *symbols).terms():
        if all(power % 2 == 0 for power in powers):
            total += coefficient * sympy.prod([sympy.factorial2(power - 1) for power in powers])
    return total


def symbolic_gaussian(size: int) -> tuple[sympy.Matrix, sympy.Matrix, sympy.Matrix]:
    """(x, mean, covariance) of free symbols, the covariance symmetric, for d = 1 or 2."""
    point = sympy.Matrix(sympy.symbols(f"x_1:{size + 1}", real=True))
    mean = sympy.Matrix(sympy.symbols(f"mu_1:{size + 1}", real=True))
    first, last = sympy.symbols("s_1 s_2", positive=True)
    off = sympy.Symbol("s_12", real=True)
    covariance = sympy.Matrix([[first]]) if size == 1 else sympy.Matrix([[first, off], [off, last]])
    return point, mean, covariance


def log_density(point: sympy.Matrix, mean: sympy.Matrix, covariance: sympy.Matrix) -> sympy.Expr:
    """The log of the density of N(mean, covariance), without the (2 pi)^(-d/2) that cancels in every divergence."""
    quadratic = ((point - mean).T * covariance.inv() * (point - mean))[0]
    return -(quadratic + sympy.log(covariance.det())) / 2


def bracket_at(mean: sympy.Matrix, covariance: sympy.Matrix) -> sympy.Expr:
    """BRACKET at a mean and a covariance, exactly."""
    return exactly(BRACKET, {mu_delta: mean.tolist(), Sigma_delta: covariance.tolist()})


def _bracket_is_the_divergence() -> Iterable[Comparison]:
    for size in (1, 2):
        point, mean, covariance = symbolic_gaussian(size)
        noise = log_density(point, sympy.zeros(size, 1), sympy.eye(size))
        ratio = sympy.expand(noise - log_density(point, mean, covariance))
        divergence = expected_under_noise(ratio, tuple(point))
        yield equal(f"E_p[log p - log p_hat], d={size}", divergence, bracket_at(mean, covariance))


def _moments() -> Iterable[Comparison]:
    """The moments that `expected_under_noise` uses, integrated."""
    z = sympy.Symbol("z", real=True)
    density = sympy.exp(-(z**2) / 2) / sympy.sqrt(2 * sympy.pi)
    for power in range(5):
        integral = sympy.integrate(z**power * density, (z, -sympy.oo, sympy.oo))
        yield equal(f"E z^{power}", integral, expected_under_noise(z**power, (z,)))


ROTATION: dict[sympy.MatrixSymbol, Rows] = {delta: [[0, 1], [-1, 0]], W: [[1, 0], [0, 1]], b: [[0], [0]]}
"""d = m = 2, W = I, b = 0: delta W^T / m = [[0, 1], [-1, 0]]/2, not symmetric."""


def _negative_without_symmetry() -> Iterable[Comparison]:
    value = exactly(of_perturbation(BRACKET), ROTATION)
    yield equal("bracket at [[0, 1], [-1, 0]]/2", value, -sympy.log(sympy.Rational(5, 4)) / 2)
    yield less("it is no divergence", value, sympy.Integer(0))


def _meaningless_beyond_the_edge() -> Iterable[Comparison]:
    """d = m = 2, W = I, b = 0: delta = -6 I makes e^-I p = e^(|x|^2), of infinite mass, and the bracket negative."""
    beyond: dict[sympy.MatrixSymbol, Rows] = {**ROTATION, delta: [[-6, 0], [0, -6]]}
    points = sympy.symbols("x_1:3", real=True)
    exponent = exactly(EXPONENT, {**beyond, x: [[point] for point in points]})
    yield equal("log of e^-I p at delta = -6 I", exponent, points[0] ** 2 + points[1] ** 2)
    yield less("bracket there", exactly(of_perturbation(BRACKET), beyond), sympy.Integer(0))


def _unbounded_at_the_edge() -> Iterable[Comparison]:
    """d = m = W = 1, b = 0: as delta -> -1 the bracket exceeds every number."""
    step = sympy.Symbol("delta_1", real=True)
    value = exactly(of_perturbation(BRACKET), {delta: [[step]], W: [[1]], b: [[0]]})
    yield equal("1 / bracket as delta -> -1", sympy.limit(1 / value, step, -1, "+"), sympy.Integer(0))


def divergence_of_weight(instance: strategies.Perturbed) -> float:
    """KL(p || e^-I p / Z) from I alone: E_p I + log Z; infinite where Z is. Only delta W^T's symmetric part enters."""
    product = instance.delta @ instance.W.T / instance.m
    c = instance.delta @ instance.b / instance.m
    precision = np.eye(instance.d) + (product + product.T) / 2
    eigenvalues = np.linalg.eigvalsh(precision)
    if eigenvalues[0] <= 0:
        return float("inf")
    return float(np.trace(product) - np.log(eigenvalues).sum() + c @ np.linalg.solve(precision, c)) / 2


ROUNDING = 1e-10
BECAUSE = "1e-10 of the value: condition numbers up to 2e4 times a few hundred roundings"


def bracket_of(instance: strategies.Perturbed) -> float:
    """BRACKET at an instance, in floats; NaN where the determinant is negative."""
    with np.errstate(invalid="ignore"):
        return float(numerically(of_perturbation(BRACKET), arrays(instance)))


def check_bracket(instance: strategies.Perturbed) -> Iterable[Comparison]:
    """The bracket against the divergence of e^-I p, by completing the square in I alone."""
    divergence = divergence_of_weight(instance)
    tolerance = relative(divergence, ROUNDING)
    yield equal("bracket against KL(p || e^-I p)", bracket_of(instance), divergence, tolerance, BECAUSE)


def check_two_divergences(instance: strategies.Perturbed) -> Iterable[Comparison]:
    """The bracket against the divergence of two Gaussians, and against the one read off A's eigenvalues."""
    value = bracket_of(instance)
    noise = perturbations.perturbed_noise(instance.delta, instance.W, instance.b)
    general = kl_divergence(standard_normal(instance.d), noise)
    by_eigenvalues = perturbations.perturbation_divergence(instance.delta, instance.W, instance.b)
    tolerance = relative(by_eigenvalues, ROUNDING)
    yield equal("bracket against kl_divergence", value, general, tolerance, BECAUSE)
    yield equal("bracket against perturbation_divergence", value, by_eigenvalues, tolerance, BECAUSE)


def check_all(instance: strategies.Perturbed) -> Iterable[Comparison]:
    """The bracket against all three."""
    yield from check_bracket(instance)
    yield from check_two_divergences(instance)


def _by_quadrature() -> Iterable[Comparison]:
    """d = m = W = 1: integrals of p, log p and e^-I p over the line, nothing taken from Gaussian formulas."""
    for step, bias in ((-0.5, 1.0), (0.5, -2.0), (3.0, 1.0), (-0.9, 0.3)):
        instance = strategies.Perturbed(np.ones((1, 1)), np.array([bias]), np.array([[step]]))

        def potential(y: float, step: float = step, bias: float = bias) -> float:
            return step * (y**2 / 2 + bias * y)

        weight = [np.exp(-(y**2) / 2 - potential(y)) for y in (-40.0, 40.0)]
        mass, mass_error = integrate.quad(lambda y: np.exp(-(y**2) / 2 - potential(y)), -40, 40, points=[-5, 0, 5])
        mean, mean_error = integrate.quad(lambda y: np.exp(-(y**2) / 2) * potential(y), -40, 40, points=[-5, 0, 5])
        divergence = mean / np.sqrt(2 * np.pi) + np.log(mass / np.sqrt(2 * np.pi))
        error = mean_error + mass_error / mass + 40 * max(weight) + 1e-12
        because = "the quadrature's own error estimates, the tails beyond 40 and rounding"
        yield equal(f"delta={step}, b={bias}", bracket_of(instance), divergence, error, because)


STATEMENT = Statement(
    label="corollary-3.9-first-line",
    title="divergence of the perturbed Gaussian",
    source="Corollary 3.9, first line of Eq. (18); Appendix Eqs. (47), (49)",
    verdict=Verdict.CONDITIONAL,
    fault=Fault.SLIP,
    reason=(
        "As KL(p || p_hat_delta) the bracket is right for each delta with delta W^T symmetric and I + delta W^T / m "
        "positive definite; the maximum is over neither condition. As a bound on E it inherits Theorem 3.8's emptiness."
    ),
    printed=sympy.Le(gap, Maximum(sympy.Le(Norm(delta), Delta), BRACKET)),
    holds=Implies(
        Both(sympy.Eq(delta * W.T, W * delta.T), PositiveDefinite(identity + A)), sympy.Eq(KL(p, p_hat), BRACKET)
    ),
    conditions=(
        "delta W^T symmetric",
        "I + delta W^T / m positive definite; for every delta of the ball: Delta |W| < m",
    ),
    evidence=(
        machine_checked("the bracket is a sum over eigenvalues", "gaussian_gap.v", "bracket_over_eigenvalues"),
        symbolic(
            "E_p[log p - log p_hat] is the bracket, any mean and covariance, d = 1, 2", _bracket_is_the_divergence
        ),
        symbolic("the moments of the normal distribution used there", _moments),
        symbolic("the bracket is unbounded at the edge of normalisability", _unbounded_at_the_edge),
        counterexample("without symmetry the bracket is negative", _negative_without_symmetry),
        counterexample("without positive definiteness it is finite where no density is", _meaningless_beyond_the_edge),
        quadrature("the bracket by numerical integration, d = 1", _by_quadrature),
        holds_for_all("the bracket is KL(p || p_hat), computed in three ways", strategies.admissible(), check_all),
        fails_without("delta W^T symmetric", strategies.inadmissible(), check_bracket),
        fails_without(
            "I + delta W^T / m positive definite", strategies.admissible().map(beyond_the_edge), check_bracket
        ),
    ),
    paper_labels=("Eq. (47)", "Eq. (49)"),
)
