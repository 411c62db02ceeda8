"""Theorem 3.3, uniqueness: Eq. (11) does not determine the perturbed density; preserving the residual does.

Printed: L(x; delta + theta, p) = L(x; theta, p_hat)

Holds: 1/m*delta*(W^T*x + b) = -grad log(p_hat) + grad log(p) iff p_hat = p*exp((-1/m)*(x^T*delta*b + (1/2)*x^T*delta*W^T*x) - C)

The theorem says that e^-I p satisfies (11), not that nothing else does, and the rest of the paper speaks of "the"
perturbed distribution. (11) equates norms: at the exact score the densities of delta and of -delta both satisfy it.
Asking for the residual itself, s + delta phi / m - grad log p = s - grad log p_hat, fixes grad log p_hat, so log p_hat
up to its normaliser.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import sympy
from hypothesis import strategies as st
from numpy import ndarray

from theory.claims.equation_9_random_feature_score import POINTWISE_LOSS, g, phi
from theory.claims.theorem_3_3_perturbed_density import (
    DENSITY,
    EQUALITY,
    LINEAR_FEATURES,
    POTENTIAL,
    RESIDUAL_SHIFT,
    C,
    losses,
)
from theory.model import perturbations
from theory.model.divergences import DIVERGENCES, TAU
from theory.proof import notation, strategies
from theory.proof.notation import Gradient, Iff, W, b, delta, generic, m, numeric, p, p_hat, theta, x
from theory.proof.statement import (
    Comparison,
    Fault,
    Statement,
    Verdict,
    counterexample,
    different,
    equal,
    fails_without,
    holds_for_all,
    symbolic,
)


def _two_densities_satisfy_it() -> Iterable[Comparison]:
    """d = m = W = 1, b = 0, theta = -1 (the exact score of N(0, 1)), delta = 1/2."""
    point = sympy.Symbol("x", real=True)
    values = {x: [[point]], delta: [["1/2"]], W: [[1]], b: [[0]], theta: [[-1]]}
    left = notation.at(losses(POTENTIAL)[0], values | {g: [[-point]]})[0]
    yield equal("loss of theta + delta against p", left, point**2 / 4)
    divergences = []
    for variance in (sympy.Rational(2, 3), sympy.Integer(2)):
        score = {g: [[sympy.diff(-(point**2) / (2 * variance), point)]]}
        right = notation.at(POINTWISE_LOSS.subs(phi, LINEAR_FEATURES), values | score)[0]
        yield equal(f"loss of theta against N(0, {variance})", right, left)
        divergences.append(DIVERGENCES["kl"].term_formula.subs(TAU, 1 / variance - 1) / 2)
    half = sympy.Rational(1, 2)
    yield equal("KL(p || N(0, 2/3))", divergences[0], (half - sympy.log(3 * half)) / 2)
    yield equal("KL(p || N(0, 2))", divergences[1], (sympy.log(2) - half) / 2)
    yield different("the two divergences", *divergences)


def _gradient_determines_the_density() -> Iterable[Comparison]:
    """log(p / p_hat) is the integral of its gradient along the segment from 0 to x, plus a constant that Z fixes."""
    time = sympy.Symbol("t", real=True)
    for rows, columns in ((1, 2), (2, 2), (3, 2)):
        point = generic(x, rows, 1)
        values = {delta: generic(delta, rows, columns), W: generic(W, rows, columns), b: generic(b, columns, 1)}
        on_segment = notation.at(RESIDUAL_SHIFT, values | {x: [[time * entry] for (entry,) in point]})
        speed = sum(entry * slope for (entry,), slope in zip(point, on_segment, strict=True))
        integral = sympy.integrate(sympy.expand(speed), (time, 0, 1))
        potential = notation.at(POTENTIAL, values | {x: point, C: [[0]]})[0]
        difference = sympy.expand(integral - potential)
        yield equal(f"line integral of delta phi/m, minus I - C, d={rows}, m={columns}", difference, sympy.Integer(0))
    constant, mass = sympy.Symbol("C", real=True), sympy.Symbol("Z", positive=True)
    solutions = sympy.solve(sympy.exp(-constant) * mass - 1, constant)
    yield equal("constants C with e^-C Z = 1", len(solutions), 1)
    yield equal("that constant", solutions[0], sympy.log(mass))


@dataclass(frozen=True)
class Candidate(strategies.Perturbed):
    """A perturbed model, a point x (d,), and the sign with which delta makes the candidate for p_hat."""

    x: ndarray
    sign: float


@st.composite
def candidates(draw: st.DrawFn, signs: tuple[float, ...]) -> Candidate:
    """p_hat from delta (sign 1: the residual is preserved) or from -delta (its norm alone is)."""
    instance = draw(strategies.admissible())
    point = np.random.default_rng(draw(strategies.seeds)).standard_normal(instance.d)
    return Candidate(
        instance.W, instance.b, instance.delta, point * draw(st.sampled_from([1.0, 5.0])), draw(st.sampled_from(signs))
    )


BECAUSE = "rounding of quadratic forms in a covariance of condition number up to 1e4"


def check_norms(candidate: Candidate) -> Iterable[Comparison]:
    """(11) at the exact score of N(0, I): |delta phi / m| against |s - grad log p_hat|."""
    gaussian = perturbations.perturbed_noise(candidate.sign * candidate.delta, candidate.W, candidate.b)
    arrays = (candidate.delta, candidate.W, candidate.b[:, None])
    shift = numeric(RESIDUAL_SHIFT, x, delta, W, b, m)(candidate.x[:, None], *arrays, candidate.m)
    score = -np.linalg.solve(gaussian.covariance, candidate.x - gaussian.mean)
    size = np.linalg.norm(candidate.x) + np.linalg.norm(np.linalg.solve(gaussian.covariance, gaussian.mean))
    left, right = float(np.linalg.norm(shift)), float(np.linalg.norm(-candidate.x - score))
    yield equal("both sides of (11), square roots", left, right, 1e-10 * (1 + float(size)), BECAUSE)


def check_candidate(candidate: Candidate) -> Iterable[Comparison]:
    """(11), and that the candidate is e^-I p, by log p_hat(x) - log p_hat(0)."""
    yield from check_norms(candidate)
    gaussian = perturbations.perturbed_noise(candidate.sign * candidate.delta, candidate.W, candidate.b)
    log_density = gaussian.log_density(np.stack([candidate.x, np.zeros(candidate.d)]))
    arrays = (candidate.delta, candidate.W, candidate.b[:, None], candidate.m, np.zeros((1, 1)))
    potential = float(numeric(POTENTIAL, x, delta, W, b, m, C)(candidate.x[:, None], *arrays)[0, 0])
    claimed = -potential - candidate.x @ candidate.x / 2
    spread = float((gaussian.whiten(np.stack([candidate.x, gaussian.mean])) ** 2).sum())
    yield equal("log p_hat(x) - log p_hat(0)", log_density[0] - log_density[1], claimed, 1e-11 * (1 + spread), BECAUSE)


_preserved = sympy.Eq(RESIDUAL_SHIFT, Gradient(sympy.log(p)) - Gradient(sympy.log(p_hat)), evaluate=False)

STATEMENT = Statement(
    label="theorem-3.3-uniqueness",
    title="what determines the perturbed density",
    source="Theorem 3.3, Eq. (11)",
    verdict=Verdict.CONDITIONAL,
    fault=Fault.SLIP,
    reason=(
        "The theorem claims existence; read as determining p_hat it is false, since (11) equates norms only: at the "
        "exact score with d = m = W = 1, delta = 1/2, both N(0, 2/3) and N(0, 2) satisfy it. Asked to preserve the "
        "residual, p_hat is unique."
    ),
    printed=EQUALITY,
    holds=Iff(_preserved, sympy.Eq(p_hat, DENSITY)),
    conditions=("the residual itself is preserved, not its norm alone", "linear activation, delta W^T symmetric"),
    evidence=(
        counterexample("N(0, 2/3) and N(0, 2) both satisfy (11)", _two_densities_satisfy_it),
        symbolic("the gradient determines log p_hat up to its normaliser", _gradient_determines_the_density),
        holds_for_all("at the exact score the density of -delta satisfies (11) too", candidates((-1.0,)), check_norms),
        holds_for_all("a preserved residual makes e^-I p", candidates((1.0,)), check_candidate),
        fails_without("the residual itself is preserved", candidates((-1.0,)), check_candidate),
    ),
)
