"""Certificates prove what is true, and refuse what is false, however narrowly."""

import pytest
import sympy
from flint import arb, ctx

from theory.proof import exact


def test_an_inequality_is_certified_over_its_whole_range() -> None:
    certificate = exact.certify_above(lambda t: t * t - t + arb(0.26), [(0.0, 1.0)])
    assert 0 < certificate.lower <= 0.01  # the true minimum is 0.26 - 0.25
    assert certificate.boxes > 1


@pytest.mark.parametrize("offset", [0.24, 0.2499999])
def test_a_false_inequality_is_refused(offset: float) -> None:
    """Between two grid points of spacing 1e-3 the second would go unseen."""
    with pytest.raises(ArithmeticError, match="not above"):
        exact.certify_above(lambda t: (t - arb(0.50031)) ** 2 + arb(offset) - arb(0.25), [(0.0, 1.0)])


def test_parts_outside_the_region_do_not_count() -> None:
    def outside(*sides: arb) -> bool:
        return sides[0] ** 2 + sides[1] ** 2 > arb(1)

    def function(x: arb, y: arb) -> arb:
        return arb(1.6) - x - y  # positive on the disc (up to sqrt 2), not on the square

    exact.certify_above(function, [(0.0, 1.0), (0.0, 1.0)], outside=outside)
    with pytest.raises(ArithmeticError):
        exact.certify_above(function, [(0.0, 1.0), (0.0, 1.0)])


def test_a_zero_at_the_end_is_divided_out() -> None:
    certificate = exact.certify_positive_from_zero(lambda t: t - (1 + t).log(), 2, 3.0)
    assert certificate.lower > 0
    with pytest.raises(ArithmeticError, match="order"):
        exact.quotient_near_zero(lambda t: t - (1 + t).log(), 3, 0.25)
    with pytest.raises(ArithmeticError):  # (t - log(1+t)) / t^2 falls below 1/2
        exact.certify_positive_from_zero(lambda t: t - (1 + t).log() - t * t / 2, 3, 1.0)


@pytest.mark.parametrize(
    ("expression", "sign"),
    [
        (sympy.log(2) - sympy.Rational(693147180559945, 10**15), 1),
        (sympy.log(2) - sympy.Rational(693147180559946, 10**15), -1),
        (sympy.sqrt(2) * sympy.sqrt(3) - sympy.sqrt(6), 0),
        (sympy.Rational(-1, 3), -1),
        (sympy.exp(sympy.pi * sympy.sqrt(163)) - 262537412640768744, -1),  # by 7.5e-13 of 2.6e17
        (sympy.Max(sympy.log(2), sympy.Rational(1, 2)) - sympy.log(2), 0),
    ],
)
def test_signs_are_certified(expression: sympy.Expr, sign: int) -> None:
    before = ctx.prec
    assert exact.sign(expression) == sign
    assert ctx.prec == before


def test_what_cannot_be_enclosed_is_refused() -> None:
    for expression in (sympy.Symbol("x"), sympy.Float(0.5), sympy.gamma(sympy.Rational(1, 3))):
        with pytest.raises(ValueError, match="allowed"):
            exact.enclose(expression)
