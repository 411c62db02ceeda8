"""Section 4.2: input perturbation works since a perturbation of the data is one of the parameters ("Theorem 1").

Printed: the perturbation in the data distribution translates into parameter perturbations (Theorem 1)

Holds: p standard normal, W of rank d and W*b = 0 implies delta = (-m*g^2/(1 + g^2))*(W*W^T)^-1*W

Theorem 3.3 goes from parameters to densities; this is its converse. Input perturbation trains on y = x + g z. For
p = N(0, I) the law of y is N(0, (1 + g^2) I), the perturbed density of delta = -m g^2/(1 + g^2) (W^+)^T, W^+ the
pseudo-inverse, if W has rank d and W b = 0, so that delta W^T / m = -g^2/(1 + g^2) I and delta b = 0. For a mixture the
blurred score less the score is not affine, so that no perturbation of linear features makes it; nor does one of
piecewise linear features, since it is analytic.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import sympy
from hypothesis import strategies as st

from theory.model.gaussians import Gaussian
from theory.model.perturbations import perturbed_noise
from theory.proof import strategies
from theory.proof.notation import Both, Implies, W, b, d, delta, identity, m, words
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

strength = sympy.Symbol("g", positive=True)
SHRINKAGE = strength**2 / (1 + strength**2)
PERTURBATION = -m * SHRINKAGE * sympy.Inverse(W * W.T) * W
"""-m g^2/(1 + g^2) (W^+)^T for W of rank d."""


def _gaussian_data() -> Iterable[Comparison]:
    """For all d and m: A, c and I + A of PERTURBATION."""
    product = (PERTURBATION * W.T).doit()
    claimed = -m * SHRINKAGE * identity
    yield equal("delta W^T / m + g^2/(1 + g^2) I", (product - claimed).doit(), sympy.ZeroMatrix(d, d))
    yield equal("1 - g^2/(1 + g^2), the precision", sympy.simplify(1 - SHRINKAGE - 1 / (1 + strength**2)), 0)
    x, z = sympy.symbols("x z", real=True)
    square = sympy.expand((x + strength * z) ** 2)
    variance = square.coeff(x, 2) + square.coeff(z, 2)
    yield equal("variance of x + g z", variance, 1 + strength**2)


def _two_modes_are_not_affine() -> Iterable[Comparison]:
    """Modes at -1 and 1 of variance 1, g = 1: second difference of the scores' difference at 0, 1, 2."""

    def score(x: sympy.Expr, variance: int) -> sympy.Expr:
        """-x/v + tanh(x/v)/v."""
        power = sympy.exp(sympy.Integer(2) * x / variance)
        return (-x + (power - 1) / (power + 1)) / variance

    moved = [score(sympy.Integer(n), 2) - score(sympy.Integer(n), 1) for n in range(3)]
    yield equal("difference of the scores at 0", sympy.simplify(moved[0]), sympy.Integer(0))
    yield different(
        "its second difference, 0 for an affine function", moved[2] - 2 * moved[1] + moved[0], sympy.Integer(0)
    )


@st.composite
def blurred(draw: st.DrawFn, orthogonal: bool = True, full: bool = True) -> tuple[strategies.Perturbed, float]:
    """W of rank d or not, b orthogonal to its rows or not, and g; delta by the formula."""
    rows = draw(st.integers(1, 4))
    columns = rows + draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(strategies.seeds))
    reader = rng.standard_normal((rows, columns))
    if not full:
        reader[0] = 0
    bias = rng.standard_normal(columns)
    inverse = np.linalg.pinv(reader)
    if orthogonal:
        bias -= inverse @ (reader @ bias)
    g_value = draw(st.sampled_from([0.1, 1.0, 5.0]))
    moved = -columns * float(SHRINKAGE.subs(strength, g_value)) * inverse.T
    return strategies.Perturbed(reader, bias, moved), g_value


def check_blur(instance: tuple[strategies.Perturbed, float]) -> Iterable[Comparison]:
    """The perturbed density is N(0, (1 + g^2) I)."""
    perturbed, g_value = instance
    gaussian = perturbed_noise(perturbed.delta, perturbed.W, perturbed.b)
    wanted = Gaussian(np.zeros(perturbed.d), (1 + g_value**2) * np.eye(perturbed.d))
    because = "rounding, for W's condition number of up to 1e3 and precisions down to 1/26"
    yield equal("mean", gaussian.mean, wanted.mean, 1e-8 * (1 + g_value**2), because)
    yield equal("covariance", gaussian.covariance, wanted.covariance, 1e-8 * (1 + g_value**2), because)


STATEMENT = Statement(
    label="section-4.2-data-as-parameters",
    title="perturbing the data is perturbing the parameters",
    source="Section 4.2, of IP",
    verdict=Verdict.CONDITIONAL,
    fault=Fault.FLAW,
    reason=(
        "It is the converse of the theorem that is cited. For p = N(0, I) and W of rank d with W b = 0 it is true of "
        "input perturbation; for a mixture no delta does what the blur does."
    ),
    printed=words("the perturbation in the data distribution translates into parameter perturbations (Theorem 1)"),
    holds=Implies(
        Both(words("p standard normal, W of rank d"), sympy.Eq(W * b, sympy.ZeroMatrix(d, 1))),
        sympy.Eq(delta, PERTURBATION, evaluate=False),
    ),
    conditions=("p = N(0, I)", "linear activation", "W has rank d and W b = 0"),
    rescue="For Gaussian data input perturbation is one perturbation of theta, which shrinks the score by 1/(1 + g^2).",
    evidence=(
        symbolic("for N(0, I) the blur is that delta, for all d and m", _gaussian_data),
        counterexample("for two modes the difference of the scores is not affine", _two_modes_are_not_affine),
        holds_for_all("the blurred law is the perturbed density", blurred(), check_blur),
        fails_without("W b = 0", blurred(orthogonal=False), check_blur),
        fails_without("W has rank d", blurred(full=False), check_blur),
    ),
)
