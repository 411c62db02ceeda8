"""Appendix Theorem 1 and Definition 3, Eq. (43): the symmetry of delta W^T that the Appendix leaves out.

Printed: P(x; p, Delta) = the set of p*exp(-I(x, delta)) with |delta| <= Delta

Holds: P(x; p, Delta) = the set of p*exp(-I(x, delta)) with |delta| <= Delta and delta*W^T = W*delta^T and 1/m*delta*W^T + I positive definite

Eq. (43), the statement of Appendix Theorem 1 and the maximum in (18) let delta run over the whole ball; only the proof
of that theorem assumes delta W^T symmetric, in passing. Where A = delta W^T / m is not symmetric, delta phi / m is no
gradient, so no potential exists at all; the quadratic I of the paper sees the symmetric part of A alone and (11) fails;
and the bracket of (18), put down for a divergence, can be negative.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import sympy

from theory.claims.corollary_3_4_perturbed_noise import of_perturbation
from theory.claims.corollary_3_9_first_line import BRACKET, ROTATION, bracket_at, bracket_of
from theory.claims.definition_3_6_perturbed_set import PerturbedSet, SetOf
from theory.claims.equation_9_random_feature_score import g
from theory.claims.theorem_3_3_normalisable import POTENTIAL_OF
from theory.claims.theorem_3_3_perturbed_density import POTENTIAL, RESIDUAL_SHIFT, SYMMETRIC, losses
from theory.model import perturbations
from theory.model.divergences import DIVERGENCES, TAU
from theory.proof import notation, strategies
from theory.proof.notation import (
    A,
    Both,
    Delta,
    Norm,
    PositiveDefinite,
    W,
    b,
    delta,
    exactly,
    generic,
    identity,
    p,
    theta,
    x,
)
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


def _negative_divergence() -> Iterable[Comparison]:
    """d = m = 2, W = I, b = 0 and delta = [[0, 1], [-1, 0]], of operator norm 1: A is half of delta."""
    bracket = exactly(of_perturbation(BRACKET), ROTATION)
    yield equal("bracket of (18), halved, at A = [[0, 1], [-1, 0]]/2", bracket, -sympy.log(sympy.Rational(5, 4)) / 2)
    yield less("that", bracket, sympy.Integer(0))


def _losses_differ() -> Iterable[Comparison]:
    """At the same delta with theta = 0 and p = N(0, I): I is constant, p_hat = p, and the loss is not that of p."""
    point = generic(x, 2, 1)
    values = {**ROTATION, x: point, theta: [[0, 0], [0, 0]], g: [[-entry] for (entry,) in point]}
    left, right = (notation.at(side, values)[0] for side in losses(POTENTIAL))
    square = sum(entry**2 for (entry,) in point)
    yield equal("loss of theta + delta against p", left, sympy.Rational(5, 4) * square)
    yield equal("loss of theta against p_hat", right, square)
    yield different("the two sides of (11)", left, right)


def _no_potential_exists() -> Iterable[Comparison]:
    """A gradient's Jacobian is symmetric, and its integral around every circle is 0."""
    for rows, columns in ((2, 2), (3, 2)):
        point = generic(x, rows, 1)
        values = {delta: generic(delta, rows, columns), W: generic(W, rows, columns), b: generic(b, columns, 1)}
        field = sympy.Matrix(notation.at(RESIDUAL_SHIFT, values | {x: point}))
        jacobian = field.jacobian([entry for (entry,) in point])
        moved = sympy.Matrix(notation.at(A, values))
        wrong = sum(sympy.expand(entry) != 0 for entry in (jacobian - jacobian.T) - (moved - moved.T))
        yield equal(f"entries of the Jacobian's skew part that are not A's, d={rows}", wrong, 0)
    angle = sympy.Symbol("angle", real=True)
    circle = sympy.Matrix([sympy.cos(angle), sympy.sin(angle)])
    values = {delta: generic(delta, 2, 2), W: generic(W, 2, 2), b: generic(b, 2, 1)}
    along = sympy.Matrix(notation.at(RESIDUAL_SHIFT, values | {x: circle.tolist()})).dot(circle.diff(angle))
    circulation = sympy.integrate(sympy.expand(along), (angle, 0, 2 * sympy.pi))
    moved = sympy.Matrix(notation.at(A, values))
    yield equal("integral of delta phi/m around the unit circle", circulation, sympy.pi * (moved[1, 0] - moved[0, 1]))


def _bracket_of_a_symmetric_perturbation() -> Iterable[Comparison]:
    """In A's eigenbasis it sums (tau - log(1 + tau) + c^2/(1 + tau))/2: convex in tau, and 0 at 0 without c."""
    kl = DIVERGENCES["kl"]
    eigenvalues, means = sympy.symbols("s_1:3", positive=True), sympy.symbols("c_1:3", real=True)
    terms = sum(kl.term_formula.subs(TAU, s - 1) for s in eigenvalues)
    terms += sum(mean**2 * kl.weight_formula.subs(TAU, s - 1) for s, mean in zip(eigenvalues, means, strict=True))
    covariance = sympy.diag(*(1 / s for s in eigenvalues))
    bracket = bracket_at(-covariance * sympy.Matrix(means), covariance)
    difference = sympy.expand_log(sympy.simplify(bracket - terms / 2), force=True)
    yield equal("bracket, minus its sum over eigenvalues", difference, sympy.Integer(0))
    for order, name in enumerate(("tau - log(1 + tau)", "its derivative")):
        yield equal(f"{name} at 0", sympy.diff(kl.term_formula, TAU, order).subs(TAU, 0), sympy.Integer(0))
    for name, positive in (
        ("its second derivative", sympy.diff(kl.term_formula, TAU, 2)),
        ("the weight of c^2", kl.weight_formula),
    ):
        held = sympy.sympify(positive.subs(TAU, eigenvalues[0] - 1).is_positive)
        yield equal(f"{name} is positive for 1 + tau > 0", held, sympy.true)


BECAUSE = "first-order effect of the rounding of delta W^T / m and of its inverse"


def _tolerance(instance: strategies.Perturbed) -> float:
    """A change E of A moves the bracket by at most about |E| (|Sigma| + |mu|^2)."""
    inverse = np.eye(instance.d) + instance.delta @ instance.W.T / instance.m
    covariance = np.linalg.inv(inverse)
    mean = -covariance @ (instance.delta @ instance.b / instance.m)
    entries = 1 + np.linalg.norm(instance.delta) * np.linalg.norm(instance.W) / instance.m
    effect = np.linalg.norm(covariance) + mean @ mean + abs(mean @ inverse @ mean) + instance.d
    return 1e-13 * float(entries * effect)


def check_bracket(instance: strategies.Perturbed) -> Iterable[Comparison]:
    """The bracket of (18) is nonnegative, as a divergence is."""
    yield at_most("0 against the bracket of (18)", 0.0, bracket_of(instance), _tolerance(instance), BECAUSE)


def check_divergence(instance: strategies.Perturbed) -> Iterable[Comparison]:
    """The bracket of (18) is nonnegative, and is KL(p || p_hat)."""
    yield from check_bracket(instance)
    kl = perturbations.perturbation_divergence(instance.delta, instance.W, instance.b)
    yield equal("bracket of (18)", bracket_of(instance), kl, _tolerance(instance), BECAUSE)


def _without_admissible_part(instance: strategies.Perturbed) -> strategies.Perturbed:
    rest = instance.delta - perturbations.project_admissible(instance.delta, instance.W)
    return strategies.Perturbed(instance.W, instance.b, rest)


_potential_of = sympy.exp(-POTENTIAL_OF(delta)) * p
_ball = sympy.Le(Norm(delta), Delta)
_set = PerturbedSet(p, Delta)

STATEMENT = Statement(
    label="appendix-symmetry",
    title="the symmetry of delta W^T",
    source="Appendix Theorem 1 and Definition 3, Eq. (43); the maximum in Eq. (18)",
    verdict=Verdict.FALSE,
    fault=Fault.SLIP,
    reason=(
        "Appendix Theorem 1 and Definition 3 as stated, and the maximum in (18), drop the condition that delta W^T is "
        "symmetric. Without it delta phi / m is no gradient, (11) fails, and the bracket of (18) is no divergence: at "
        "A = [[0, 1], [-1, 0]]/2 it is -log(5/4)/2."
    ),
    printed=sympy.Eq(_set, SetOf(_potential_of, _ball)),
    holds=sympy.Eq(_set, SetOf(_potential_of, Both(Both(_ball, SYMMETRIC), PositiveDefinite(identity + A)))),
    evidence=(
        counterexample("the bracket of (18) is negative", _negative_divergence),
        counterexample("(11) fails: 5/4 of the loss on one side", _losses_differ),
        symbolic("delta phi/m has a potential only where A is symmetric", _no_potential_exists),
        symbolic("for symmetric A the bracket is at least 0", _bracket_of_a_symmetric_perturbation),
        holds_for_all("there it is at least 0 and KL(p || p_hat)", strategies.admissible(), check_divergence),
        fails_without("delta W^T is symmetric", strategies.inadmissible().map(_without_admissible_part), check_bracket),
    ),
    paper_labels=("Definition 3", "Eq. (43)"),
)
