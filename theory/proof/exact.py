"""Exact numbers and certified signs: sympy expressions enclosed by ball arithmetic (python-flint)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import add, mul
from typing import Any

import sympy
from flint import arb, ctx, fmpq

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
