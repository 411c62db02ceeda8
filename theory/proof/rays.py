"""The scalar inequalities that Theorem T2's proof rests on, for each divergence: symbolic, and certified."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sympy
from flint import arb

from theory.model.divergences import DIVERGENCES, TAU
from theory.proof import exact, notation
from theory.proof.intervals import certify_above, quotient_near_zero
from theory.proof.statement import Comparison, at_most, equal, less


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
