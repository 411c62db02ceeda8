"""The contract itself: comparisons, evidence and falsifiers that cannot pass by accident."""

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import sympy
from hypothesis import strategies as st

from theory.proof import statement
from theory.proof.statement import Comparison, Fault, Relation, Statement, Verdict, at_most, different, equal, less

x = sympy.Symbol("x", positive=True)


@pytest.mark.parametrize(
    ("comparison", "holds"),
    [
        (equal("", 1.0, 1.0 + 1e-12, 1e-10, "rounding"), True),
        (equal("", 1.0, 1.1), False),
        (equal("", math.nan, math.nan), False),
        (at_most("", math.nan, 1.0), False),
        (at_most("", 1.0, math.inf), True),
        (equal("", math.inf, math.inf), True),
        (less("", 1.0, 1.0), False),
        (at_most("", np.array([0.0, 2.0]), 1.0), False),
        (equal("", (x + 1) ** 2, x**2 + 2 * x + 1), True),
        (equal("", (x + 1) ** 2, x**2 + 1), False),
        (equal("", sympy.eye(2), sympy.Matrix([[1, 0], [0, 1]])), True),
        (different("", sympy.eye(2), sympy.Matrix([[1, 0], [1, 1]])), True),
        (less("", Fraction(1, 3), sympy.log(2)), True),
        (less("", sympy.log(2), Fraction(1, 3)), False),
        (different("", sympy.sqrt(8), 2 * sympy.sqrt(2)), False),
    ],
)
def test_comparisons(comparison: Comparison, holds: bool) -> None:
    assert comparison.holds() is holds
    assert comparison.relation.value in str(comparison)


def test_a_tolerance_needs_a_reason_and_floats() -> None:
    with pytest.raises(ValueError, match="because is empty"):
        equal("", 1.0, 1.0, 1e-3)
    with pytest.raises(ValueError, match="between exact sides"):
        equal("", sympy.Integer(1), sympy.Integer(1), 1e-3, "none")


def test_evidence_without_a_comparison_fails() -> None:
    assert not statement.symbolic("nothing", lambda: ()).run().holds


def _below_nine(n: int) -> Iterable[Comparison]:
    yield less("n", n, 9)


def test_properties_and_falsifiers() -> None:
    assert statement.holds_for_all("small", st.integers(0, 8), _below_nine).run().holds
    report = statement.holds_for_all("small", st.integers(0, 1000), _below_nine).run()
    assert not report.holds
    assert "n: 9 < 9" in report.lines[0]  # shrunk
    outcome = statement.fails_without("small", st.integers(0, 1000), _below_nine).run()
    assert outcome.holds
    assert not statement.fails_without("small", st.integers(0, 8), _below_nine).run().holds


def test_an_error_inside_a_check_is_not_swallowed() -> None:
    def broken(_: int) -> Iterable[Comparison]:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        statement.holds_for_all("", st.integers(), broken).run()
    with pytest.raises(RuntimeError):
        statement.fails_without("", st.integers(), broken).run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evidence": ()}, "empty"),
        ({"verdict": Verdict.CONDITIONAL}, "conditions"),
        ({"verdict": Verdict.FALSE}, "without an exact counterexample"),
    ],
)
def test_a_statement_lacking_what_its_verdict_needs_is_refused(changes: dict[str, Any], message: str) -> None:
    whole: dict[str, Any] = {
        "label": "x", "title": "", "source": "", "verdict": Verdict.HOLDS, "reason": "", "printed": None, "holds": None,
        "evidence": (statement.symbolic("", lambda: [Comparison("", 1.0, Relation.EQUAL, 1.0)]),),
    }  # fmt: skip
    Statement(**whole)
    with pytest.raises(ValueError, match=message):
        Statement(**{**whole, **changes})


@pytest.mark.parametrize(
    ("verdict", "fault", "allowed"),
    [
        (Verdict.HOLDS, Fault.SLIP, "allowed: None"),
        (Verdict.VACUOUS, None, "allowed: how much is wrong"),
        (Verdict.FALSE, None, "allowed: how much is wrong"),
    ],
)
def test_a_claim_carries_a_fault_just_where_it_does_not_simply_hold(
    verdict: Verdict, fault: Fault | None, allowed: str
) -> None:
    evidence = (statement.counterexample("", lambda: [different("", 1, 2)]),)
    with pytest.raises(ValueError, match=allowed):
        Statement("x", "", "", verdict, "", None, None, evidence, fault=fault)
    standing = Statement("x", "", "", Verdict.FALSE, "", None, None, evidence, fault=Fault.FLAW).standing
    assert standing == "false as printed (flaw)"


@pytest.mark.parametrize("kind", [statement.counterexample, statement.printed_numbers, statement.algorithm])
def test_what_a_claim_is_called_false_by(
    kind: Callable[..., statement.Evidence],
) -> None:
    evidence = (kind("", lambda: [different("", 1, 2)]),)
    assert Statement("x", "", "", Verdict.FALSE, "", None, None, evidence, fault=Fault.SLIP).evidence[0].run().holds
