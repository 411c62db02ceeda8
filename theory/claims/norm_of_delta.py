"""The norm in |delta|_2 <= Delta: the paper does not say which, and the worst divergence depends on it.

Printed: |delta|_2 <= Delta

Holds: W = I, b = 0, eta = Delta/m < 1 implies max over |delta|_F <= Delta of KL(p || p_hat) = -eta/2 - log(1 - eta)/2 and max over |delta|_op <= Delta of KL(p || p_hat) = d*(-eta - log(1 - eta))/2

At W = I_2, Delta = 1, b = 0 the worst KL(p || p_hat) is h(1/2)/2 = .0966 over the Frobenius ball, the one that SAM's
perturbation lies in, and h(1/2) = .1931 over the spectral ball, with h(t) = -t - log(1 - t). For tau_i the eigenvalues
of A, the divergence is at most sum h(|tau_i|)/2, and h(t)/t^2 rises: where sum tau_i^2 <= r^2 the sum is at most h(r),
all on one eigenvalue, and where every |tau_i| <= r it is at most d h(r), each on the edge.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import sympy
from flint import arb
from hypothesis import strategies as st
from jaxtyping import Float
from numpy import ndarray

from theory.claims.corollary_3_4_perturbed_noise import of_perturbation
from theory.claims.corollary_3_9_first_line import BRACKET
from theory.model import perturbations
from theory.model.divergences import DIVERGENCES, TAU, excess
from theory.proof import exact, notation, strategies
from theory.proof.exact import certify_above
from theory.proof.notation import (
    KL,
    Both,
    Delta,
    Implies,
    Maximum,
    Rows,
    SpectralNorm,
    W,
    b,
    d,
    delta,
    eta,
    exactly,
    p,
    p_hat,
    words,
)
from theory.proof.statement import (
    Comparison,
    Fault,
    Statement,
    Verdict,
    at_most,
    counterexample,
    enclosure,
    equal,
    fails_without,
    holds_for_all,
    less,
    relative,
    symbolic,
)

TwoNorm = notation.operator("TwoNorm", r"\left\|{0}\right\|_2", "|{0}|_2")
FrobeniusNorm = notation.operator("FrobeniusNorm", r"\left\|{0}\right\|_{{\mathrm{{F}}}}", "|{0}|_F")

_KL = DIVERGENCES["kl"]
WORST_EIGENVALUE = _KL.term_formula.subs(TAU, -eta)
"""h(eta) = -eta - log(1 - eta): twice what an eigenvalue -eta of A contributes."""
FROBENIUS_WORST = WORST_EIGENVALUE / 2
SPECTRAL_WORST = d * WORST_EIGENVALUE / 2
_HALF = sympy.Rational(1, 2)


def _norms(rows: Rows) -> tuple[sympy.Expr, sympy.Expr]:
    """Frobenius and spectral norm, squared, of a 2 x 2 matrix."""
    matrix = sympy.Matrix(rows)
    return (matrix.T * matrix).trace(), sympy.Max(*(matrix.T * matrix).eigenvals())


def _two_balls_two_numbers() -> Iterable[Comparison]:
    """W = I_2, Delta = 1, b = 0, m = 2, eta = 1/2."""
    at_half = {eta: _HALF, d: 2}
    frame: dict[sympy.MatrixSymbol, Rows] = {W: [[1, 0], [0, 1]], b: [[0], [0]]}
    rank_one: Rows = [[-1, 0], [0, 0]]
    full: Rows = [[-1, 0], [0, -1]]
    yield equal("Frobenius norm of delta = -e_1 e_1^T, squared", _norms(rank_one)[0], sympy.Integer(1))
    yield equal("spectral norm of delta = -I, squared", _norms(full)[1], sympy.Integer(1))
    one, both = (exactly(of_perturbation(BRACKET), {**frame, delta: rows}) for rows in (rank_one, full))
    yield equal("KL at delta = -e_1 e_1^T", one, FROBENIUS_WORST.subs(at_half))
    yield equal("KL at delta = -I", both, SPECTRAL_WORST.subs(at_half))
    yield less("Frobenius against spectral", one, both)
    yield less("1 against the Frobenius norm of delta = -I, squared", sympy.Integer(1), _norms(full)[0])


def _worst_is_one_or_all() -> Iterable[Comparison]:
    """On (0, 1), each function vanishing at 0 with a derivative that is a square times a positive factor.

    Then sum h(t_i) = sum t_i^2 h(t_i)/t_i^2 <= sum t_i^2 h(r)/r^2 = h(r) where sum t_i^2 = r^2.
    """
    inside = 1 / (1 + sympy.Symbol("u", positive=True))  # every number of (0, 1)
    slope = sympy.diff(WORST_EIGENVALUE, eta)
    negative_costs_more = WORST_EIGENVALUE - _KL.term_formula.subs(TAU, eta)
    rising = eta * slope - 2 * WORST_EIGENVALUE  # eta^3 times the derivative of h(eta)/eta^2
    for what, function, expected in (
        ("h", WORST_EIGENVALUE, eta / (1 - eta)),
        ("h(t) minus the term of tau = t", negative_costs_more, 2 * eta**2 / ((1 - eta) * (1 + eta))),
        ("t^3 times the derivative of h(t)/t^2", rising, (eta / (1 - eta)) ** 2),
    ):
        yield equal(f"{what}, at 0", function.subs(eta, 0), sympy.Integer(0))
        yield equal(f"{what}: its derivative", sympy.diff(function, eta), expected)
        positive = sympy.simplify(expected.subs(eta, inside)).is_positive
        yield equal(f"{what}: its derivative is positive", sympy.sympify(positive), sympy.true)


MARGIN = sympy.Rational(1, 10**3)
"""By how much the certificate may exceed a maximum, which is attained, so that no margin of 0 can be certified."""


def _branch_and_bound() -> Iterable[Comparison]:
    """W = I_2, Delta = 1: A = delta / 2 has its eigenvalues in the disk, or the square, of radius 1/2."""
    taus = sympy.symbols("tau_1 tau_2")
    divergence = sum(_KL.term_formula.subs(TAU, tau) for tau in taus) / 2
    square = [(-0.5, 0.5)] * 2
    for ball, worst, outside in (
        ("Frobenius", FROBENIUS_WORST, lambda first, last: first**2 + last**2 > arb(0.25)),
        ("spectral", SPECTRAL_WORST, None),
    ):
        spare = worst.subs({eta: _HALF, d: 2}) + MARGIN - divergence
        certificate = certify_above(
            lambda *balls, e=spare: arb(exact.enclose(e, dict(zip(taus, balls, strict=True)))), square, outside=outside
        )
        yield less(f"0 against the {ball} maximum + {MARGIN} minus KL, over the ball", 0.0, certificate.lower)


@dataclass(frozen=True)
class Ball(strategies.Perturbed):
    """A model with b = 0 and a perturbation; the balls are those on whose boundary delta lies."""

    @property
    def singular_values(self) -> Float[ndarray, " k"]:
        """Of W."""
        return np.linalg.svd(self.W, compute_uv=False)

    def frobenius_worst(self, norm: float) -> float:
        """h(norm |W| / m) / 2, the worst divergence over the Frobenius ball of that radius."""
        return float(excess(np.array(-norm * self.norm / self.m))) / 2

    def spectral_worst(self, norm: float) -> float:
        """sum h(norm s_i / m) / 2, the worst divergence over the spectral ball of that radius."""
        return float(excess(-norm * self.singular_values / self.m).sum()) / 2


@st.composite
def balls(draw: st.DrawFn) -> Ball:
    """Admissible delta with b = 0, or along -U V^T of W's singular vectors; |delta|_F |W| / m in RATIOS."""
    drawn = draw(strategies.admissible())
    direction = drawn.delta
    if draw(st.booleans()):
        left, _, right = np.linalg.svd(drawn.W, full_matrices=False)
        direction = -left @ right
    size = np.linalg.norm(direction) * drawn.norm / drawn.m
    ratio = draw(strategies.RATIOS)
    return Ball(drawn.W, np.zeros(drawn.m), direction * (ratio / size if size > 1e-12 else 1.0))


BECAUSE = "rounding of 1 - rho, down to 1e-4"


def _divergence(instance: Ball, delta_value: ndarray) -> float:
    return perturbations.perturbation_divergence(delta_value, instance.W, instance.b)


def check_balls(instance: Ball) -> Iterable[Comparison]:
    """The worst of each norm's ball is not exceeded by delta, and reached at -Delta u_1 v_1^T and at -Delta U V^T."""
    kl = _divergence(instance, instance.delta)
    left, _, right = np.linalg.svd(instance.W, full_matrices=False)
    for name, norm, worst_of, direction in (
        ("Frobenius", None, instance.frobenius_worst, np.outer(left[:, 0], right[0])),
        ("spectral", 2, instance.spectral_worst, left @ right),
    ):
        radius = float(np.linalg.norm(instance.delta, norm))
        worst = worst_of(radius)
        tolerance = relative(worst, 1e-11)
        yield at_most(f"KL against the worst of the {name} ball", kl, worst, tolerance, BECAUSE)
        reached = _divergence(instance, -radius * direction)
        yield equal(f"KL where the {name} ball is worst", reached, worst, tolerance, BECAUSE)


def check_norm_exchanged(instance: Ball) -> Iterable[Comparison]:
    """The divergence against the Frobenius ball's worst at delta's spectral norm."""
    worst = instance.frobenius_worst(float(np.linalg.norm(instance.delta, 2)))
    kl = _divergence(instance, instance.delta)
    yield at_most("KL against the Frobenius worst", kl, worst, relative(worst, 1e-11), BECAUSE)


_WORST_IN_FROBENIUS = sympy.Eq(Maximum(sympy.Le(FrobeniusNorm(delta), Delta), KL(p, p_hat)), FROBENIUS_WORST)
_WORST_IN_SPECTRAL = sympy.Eq(Maximum(sympy.Le(SpectralNorm(delta), Delta), KL(p, p_hat)), SPECTRAL_WORST)

STATEMENT = Statement(
    label="norm-of-delta",
    title="the norm that bounds delta",
    source="Definition 3.1, Definition 3.6, Corollary 3.9",
    verdict=Verdict.CONDITIONAL,
    fault=Fault.SLIP,
    reason=(
        "The norm must be named: for W = I_2, Delta = 1, b = 0 the worst divergence is .0966 over the Frobenius ball, "
        "which SAM perturbs in, and .1931 over the spectral ball."
    ),
    printed=sympy.Le(TwoNorm(delta), Delta),
    holds=Implies(words("W = I, b = 0, eta = Delta/m < 1"), Both(_WORST_IN_FROBENIUS, _WORST_IN_SPECTRAL)),
    conditions=("the norm is named: Frobenius or spectral",),
    evidence=(
        counterexample("W = I_2, Delta = 1, b = 0: h(1/2)/2 and h(1/2) are reached", _two_balls_two_numbers),
        symbolic("the worst is one eigenvalue, or all of them, on the negative edge", _worst_is_one_or_all),
        enclosure("no delta of either ball exceeds those by 1e-3", _branch_and_bound),
        holds_for_all("for any W, b = 0: each ball's worst is reached and not exceeded", balls(), check_balls),
        fails_without("the norm is the one named", balls(), check_norm_exchanged),
    ),
)
