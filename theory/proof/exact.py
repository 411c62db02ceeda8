"""Exact numbers, certified signs and certified inequalities, by ball arithmetic (python-flint).

A sympy expression is enclosed by balls, which gives its sign. An inequality over a whole range is certified by branch
and bound and by series with rigorous remainders: functions are written once and called with whatever supports +, -, *,
/ and the methods log(), exp() and sqrt(): balls (arb) for branch and bound, power series over balls (arb_series) and
over the rationals (fmpq_series) for the neighbourhood of a zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add, mul
from typing import Any

import sympy
from flint import arb, arb_series, ctx, fmpq, fmpq_series

MOST_BITS = 4096
"""Precision at which a sign that is still open is given up: the number is then zero, or smaller than 2^-4000."""

_METHODS = {
    sympy.log: "log",
    sympy.exp: "exp",
    sympy.sin: "sin",
    sympy.cos: "cos",
    sympy.atan: "atan",
    sympy.erf: "erf",
}
_EXTREMES = {sympy.Max: "max", sympy.Min: "min"}
_CONSTANTS = {sympy.pi: arb.pi, sympy.E: lambda: arb(1).exp()}


def _ball_if_rational(value: Any) -> Any:
    return arb(value) if isinstance(value, fmpq) else value


def _power(expression: sympy.Pow, values: Mapping[sympy.Symbol, Any]) -> Any:
    base = enclose(expression.base, values)
    exponent = expression.exp
    if exponent.is_Integer:
        return base ** int(exponent) if exponent > 0 else 1 / base ** int(-exponent)
    if exponent.is_Rational and exponent.q == 2:
        root = _ball_if_rational(base).sqrt()
        return root ** int(exponent.p) if exponent.p > 0 else 1 / root ** int(-exponent.p)
    return _ball_if_rational(base) ** _ball_if_rational(enclose(exponent, values))


def enclose(expression: sympy.Expr, values: Mapping[sympy.Symbol, Any] | None = None) -> Any:
    """The expression evaluated rigorously at flint's present precision.

    Args:
        expression: built from rationals, pi, E, symbols, +, *, powers, log, exp, sin, cos, atan, erf, Max and Min.
        values: what stands for each symbol: a ball (arb), or a power series (arb_series, fmpq_series).

    Returns:
        A ball, or a series where one went in; an exact fmpq where only rationals did.

    Raises:
        ValueError: a part that has no rigorous form here (a symbol without value, a float, an unknown function).
    """
    values = {} if values is None else values
    expression = sympy.sympify(expression)
    if expression in values:
        return values[expression]
    if expression.is_Rational:
        return fmpq(int(expression.p), int(expression.q))
    if expression in _CONSTANTS:
        return _CONSTANTS[expression]()
    if expression.is_Add or expression.is_Mul:
        return reduce(add if expression.is_Add else mul, (enclose(part, values) for part in expression.args))
    if expression.is_Pow:
        return _power(expression, values)
    if expression.func in _METHODS:
        return getattr(_ball_if_rational(enclose(expression.args[0], values)), _METHODS[expression.func])()
    if expression.func in _EXTREMES:
        parts = [_ball_if_rational(enclose(part, values)) for part in expression.args]
        return reduce(lambda one, other: getattr(one, _EXTREMES[expression.func])(other), parts)
    raise ValueError(
        f"expression is {expression}; allowed: exact numbers, valued symbols and the functions named above"
    )


def sign(expression: sympy.Expr) -> int:
    """The certified sign of an exact number: -1, 0 or 1.

    0 is returned only where sympy proves that the number is zero; otherwise precision rises until the ball excludes 0.

    Raises:
        ArithmeticError: the sign is still open at MOST_BITS bits.
        ValueError: as `enclose`.
    """
    expression = sympy.sympify(expression)
    if expression.is_Rational:
        return int(sympy.sign(expression))
    saved = ctx.prec
    try:
        bits = 64
        while bits <= MOST_BITS:
            ctx.prec = bits
            ball = arb(enclose(expression))
            if ball > 0:
                return 1
            if ball < 0:
                return -1
            if bits == 256 and sympy.simplify(expression) == 0:
                return 0
            bits *= 2
    finally:
        ctx.prec = saved
    raise ArithmeticError(f"the sign of {expression} is still open at {MOST_BITS} bits")


Interval = tuple[float, float]
NEAR = 0.25
"""Up to where a function with a zero at 0 is taken as a series."""


@dataclass(frozen=True)
class Certificate:
    """What branch and bound established: `lower` bounds the function from below on the whole box."""

    lower: float
    boxes: int


def ball(low: float, high: float) -> arb:
    """The ball that covers [low, high]; both ends are exact as binary numbers."""
    return arb(low).union(arb(high))


def certify_above(
    function: Callable[..., arb],
    box: Sequence[Interval],
    bound: float | arb = 0.0,
    outside: Callable[..., bool] | None = None,
    most_boxes: int = 200_000,
) -> Certificate:
    """Prove function > bound on a box, by splitting it until ball arithmetic shows it on every part.

    Args:
        function: of one ball for each side of the box.
        box: (low, high) for each variable.
        bound: a number, or a ball (then above all of it).
        outside: true for a part (as balls) that certainly lies outside the region of interest; it is dropped.
        most_boxes: parts tried before giving up.

    Returns:
        The certificate: a lower bound of function over the box, and the number of parts it took.

    Raises:
        ArithmeticError: the inequality is not shown after `most_boxes` parts, or is disproved at one of them.
    """
    bound = arb(bound)
    pending = [tuple(box)]
    lowest = float("inf")
    boxes = 0
    while pending:
        part = pending.pop()
        boxes += 1
        sides = [ball(low, high) for low, high in part]
        if outside is not None and outside(*sides):
            continue
        value = function(*sides)
        if value > bound:
            lowest = min(lowest, float(value.lower()))
            continue
        if value < bound or boxes + len(pending) > most_boxes:
            raise ArithmeticError(f"not above {bound} on {part}: {value}")
        widest = max(range(len(part)), key=lambda side: part[side][1] - part[side][0])
        low, high = part[widest]
        middle = (low + high) / 2
        if not low < middle < high:
            raise ArithmeticError(f"not above {bound} at {part}, which cannot be split further: {value}")
        pending += [(*part[:widest], half, *part[widest + 1 :]) for half in ((low, middle), (middle, high))]
    return Certificate(lowest, boxes)


def quotient_near_zero(
    function: Callable[[Any], Any], order: int, radius: float, terms: int = 24
) -> Callable[[arb], arb]:
    """An enclosure of function(t) / t^order for t in [0, radius], of a function with a zero of that order at 0.

    The Taylor coefficients below `terms` are exact rationals; the remainder is the coefficient of t^terms of the
    expansion around the whole of [0, radius], which by Taylor's theorem contains it.

    Args:
        function: built from +, -, *, /, log(), exp() and sqrt() with rational constants.
        order: the order of the zero; checked exactly.
        radius: the end of the range.
        terms: order of the remainder.

    Raises:
        ArithmeticError: a coefficient below `order` does not vanish.
    """
    saved = ctx.cap
    ctx.cap = terms + 1
    try:
        exact = function(fmpq_series([0, 1]))
        coefficients = [exact[n] for n in range(terms)]
        if any(coefficients[:order]):
            raise ArithmeticError(f"the zero at 0 is not of order {order}: {coefficients[:order]}")
        remainder = function(arb_series([ball(0.0, radius), 1]))[terms]
    finally:
        ctx.cap = saved

    def quotient(t: arb) -> arb:
        value = remainder
        for coefficient in reversed(coefficients[order:]):
            value = arb(coefficient) + t * value
        return value

    return quotient


def certify_positive_from_zero(function: Callable[[Any], Any], order: int, end: float) -> Certificate:
    """Prove function(t) > 0 on (0, end], where function has a zero of that order at 0.

    Raises:
        ArithmeticError: it is not shown.
    """
    near = certify_above(quotient_near_zero(function, order, NEAR), [(0.0, NEAR)])
    if end <= NEAR:
        return near
    away = certify_above(function, [(NEAR, end)])
    return Certificate(near.lower, near.boxes + away.boxes)
