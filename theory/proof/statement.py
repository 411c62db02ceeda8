"""The contract that every statement module fulfils: STATEMENT, with its formulas, its verdict and its evidence.

A module on one subject with many small claims has STATEMENTS instead.

A check yields `Comparison`s: two sides and the relation claimed between them. Evidence is a check with the means by
which it is made: symbolic, in exact arithmetic, by certified enclosure, by a search over generated instances, by
optimisation or quadrature, from the numbers that the paper prints, by running its algorithm. A falsifier is a search
that must fail the check: it drops an assumption and looks for the violation that the assumption was there to exclude.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from functools import partial
from typing import Any

import hypothesis
import numpy as np
import sympy
from flint import arb
from hypothesis.strategies import SearchStrategy

from theory.proof import exact, notation


class Verdict(StrEnum):
    """What became of a claim."""

    HOLDS = "holds"
    CONDITIONAL = "holds under conditions"
    FALSE = "false as printed"
    VACUOUS = "vacuous"


class Fault(StrEnum):
    """How much is wrong with a claim that does not simply hold."""

    SLIP = "slip"
    """A reader repairs it from the paper itself or from the work that it cites; nothing that is built on it changes."""
    FLAW = "flaw"
    """It does not say or do what it is meant to, and no such repair is at hand."""
    CONSEQUENCE = "consequence"
    """Wrong, empty or limited only because another claim is, on which it stands."""


class Kind(StrEnum):
    """The means by which a piece of evidence is made."""

    MACHINE = "machine-checked proof"
    SYMBOLIC = "symbolic proof"
    EXACT = "exact counterexample"
    ENCLOSURE = "certified enclosure"
    PROPERTY = "property test"
    FALSIFIER = "falsifier"
    OPTIMISATION = "brute-force optimisation"
    QUADRATURE = "quadrature"
    PRINTED = "printed numbers"
    ALGORITHM = "algorithm"


REFUTING = frozenset({Kind.EXACT, Kind.PRINTED, Kind.ALGORITHM})
"""The kinds of evidence of which a claim that is called false must have one."""


class Relation(StrEnum):
    """The relation claimed between two sides."""

    EQUAL = "="
    DIFFERENT = "!="
    AT_MOST = "<="
    AT_LEAST = ">="
    LESS = "<"
    MORE = ">"


@dataclass(frozen=True)
class Comparison:
    """Two sides and the relation claimed between them.

    Exact sides (sympy, Fraction, int) are compared exactly: identities by simplification, signs by ball arithmetic.
    Balls (arb) are compared as wholes. Floats are compared up to `tolerance`, which must then say where it comes from.

    Args:
        what: what is compared.
        left, relation, right: the claim.
        tolerance: absolute slack allowed between floats, towards the claim.
        because: where the tolerance comes from.
    """

    what: str
    left: Any
    relation: Relation
    right: Any
    tolerance: float = 0.0
    because: str = ""

    def __post_init__(self) -> None:
        """Refuse a tolerance without a reason, and one for exact sides."""
        if self.tolerance and not self.because:
            raise ValueError(
                f"because is empty for tolerance {self.tolerance}; allowed: where the tolerance comes from"
            )
        if self.tolerance and self._exact:
            raise ValueError(f"tolerance is {self.tolerance} between exact sides; allowed: 0")

    @property
    def _exact(self) -> bool:
        kinds = (sympy.Basic, sympy.MatrixBase, Fraction, int)
        return isinstance(self.left, kinds) and isinstance(self.right, kinds)

    def holds(self) -> bool:
        """Whether the claim holds; a NaN on either side never does."""
        if isinstance(self.left, arb) or isinstance(self.right, arb):
            return _balls_hold(arb(self.left), self.relation, arb(self.right))
        if self._exact:
            return _exact_holds(sympy.sympify(self.left), self.relation, sympy.sympify(self.right))
        return _floats_hold(np.asarray(self.left, float), self.relation, np.asarray(self.right, float), self.tolerance)

    def __str__(self) -> str:
        """The comparison on one line, with numbers."""
        slack = f" (up to {self.tolerance:.1e}: {self.because})" if self.tolerance else ""
        return f"{self.what}: {_shown(self.left)} {self.relation.value} {_shown(self.right)}{slack}"


def _shown(value: Any) -> str:
    if isinstance(value, arb):
        return value.str(8)
    if isinstance(value, sympy.Basic | sympy.MatrixBase | Fraction):
        value = sympy.sympify(value)
        shown = notation.text(value)
        if isinstance(value, sympy.Expr) and value.is_number and not value.is_Integer and not value.is_Matrix:
            shown += f" (= {float(value):.5g})"
        return shown
    if isinstance(value, np.ndarray) and value.ndim:
        return np.array2string(value, precision=5, separator=", ")
    return f"{float(value):.10g}"


def _balls_hold(left: arb, relation: Relation, right: arb) -> bool:
    tests: dict[Relation, Callable[[], bool]] = {
        Relation.LESS: lambda: left < right,
        Relation.MORE: lambda: left > right,
        Relation.AT_MOST: lambda: left <= right,
        Relation.AT_LEAST: lambda: left >= right,
        Relation.DIFFERENT: lambda: left != right,
    }
    if relation not in tests:
        raise ValueError("relation is '=' between balls; allowed: an inequality")
    return bool(tests[relation]())


def _is_zero(difference: Any) -> bool:
    if isinstance(difference, sympy.MatrixBase):
        return all(_is_zero(entry) for entry in difference)
    if isinstance(difference, sympy.MatrixExpr):
        return bool(difference.doit().is_ZeroMatrix)
    return difference == 0 or sympy.simplify(difference) == 0


def _exact_holds(left: Any, relation: Relation, right: Any) -> bool:
    if relation in (Relation.EQUAL, Relation.DIFFERENT):
        identical = left == right if isinstance(left, sympy.logic.boolalg.Boolean) else _is_zero(left - right)
        return identical is (relation is Relation.EQUAL)
    sign = exact.sign(left - right)
    return {
        Relation.LESS: sign < 0,
        Relation.MORE: sign > 0,
        Relation.AT_MOST: sign <= 0,
        Relation.AT_LEAST: sign >= 0,
    }[relation]


def _floats_hold(left: np.ndarray, relation: Relation, right: np.ndarray, tolerance: float) -> bool:
    if np.isnan(left).any() or np.isnan(right).any():
        return False
    with np.errstate(invalid="ignore"):
        # equal infinities make a NaN difference; they are equal
        difference = np.where(left == right, 0.0, left - right)
    outcome = {
        Relation.EQUAL: np.abs(difference) <= tolerance,
        Relation.DIFFERENT: np.abs(difference) > tolerance,
        Relation.AT_MOST: difference <= tolerance,
        Relation.AT_LEAST: difference >= -tolerance,
        Relation.LESS: difference < tolerance if tolerance else difference < 0,
        Relation.MORE: difference > -tolerance if tolerance else difference > 0,
    }[relation]
    return bool(np.all(outcome))


Check = Callable[[], Iterable[Comparison]]
InstanceCheck = Callable[[Any], Iterable[Comparison]]


@dataclass(frozen=True)
class Report:
    """What came of running one piece of evidence: whether it holds, and lines with the numbers."""

    holds: bool
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Evidence:
    """A check, the means by which it is made, and one line that says what it shows."""

    kind: Kind
    shows: str
    check: Check

    def run(self) -> Report:
        """Make the check: every comparison must hold, and there must be at least one."""
        comparisons = tuple(self.check())
        held = [comparison.holds() for comparison in comparisons]
        lines = tuple(f"{'' if ok else 'FAILS: '}{c}" for ok, c in zip(held, comparisons, strict=True))
        return Report(bool(held) and all(held), lines or ("FAILS: no comparison was made",))


@dataclass(frozen=True)
class PropertyEvidence(Evidence):
    """A check of generated instances; Hypothesis looks for one that fails.

    Args:
        instances: the strategy that generates them.
        check_instance: yields the comparisons for one instance.
    """

    instances: SearchStrategy[Any]
    check_instance: InstanceCheck

    def run(self) -> Report:
        """Search with the current Hypothesis profile for an instance that fails the check."""
        tried = 0

        @hypothesis.settings(suppress_health_check=list(hypothesis.HealthCheck))
        @hypothesis.given(self.instances)
        def search(instance: Any) -> None:
            nonlocal tried
            tried += 1
            failing = [str(c) for c in self.check_instance(instance) if not c.holds()]
            assert not failing, f"{'; '.join(failing)} at {instance}"

        try:
            search()
        except AssertionError as failure:
            return Report(False, (f"FAILS: {failure}",))
        return Report(tried > 0, (f"{tried} instances, none fails",))


@dataclass(frozen=True)
class Falsifier(Evidence):
    """A search that must succeed: with `dropped` dropped, some instance fails the check.

    Args:
        instances: the strategy, wider by what is dropped.
        check_instance: the same check as of the property it guards.
        dropped: the assumption that is dropped.
    """

    instances: SearchStrategy[Any]
    check_instance: InstanceCheck
    dropped: str

    def run(self) -> Report:
        """Search for an instance that fails the check."""
        try:
            instance = violation(self.instances, self.check_instance)
        except hypothesis.errors.NoSuchExample:
            return Report(False, (f"FAILS: no violation found without: {self.dropped}",))
        lines = tuple(str(c) for c in self.check_instance(instance) if not c.holds())
        return Report(
            True, (f"without: {self.dropped}, violated at {instance}", *(f"violated: {line}" for line in lines))
        )


def violation(instances: SearchStrategy[Any], check: InstanceCheck, examples: int = 2000, shrink: bool = True) -> Any:
    """An instance that fails a check, by a search always from the same seed.

    Args:
        instances: the strategy that generates them.
        check: yields the comparisons for one instance.
        examples: how many are tried at most.
        shrink: whether the simplest such instance is looked for.

    Raises:
        NoSuchExample: Hypothesis' error where none fails.
    """
    phases = [hypothesis.Phase.generate, *([hypothesis.Phase.shrink] if shrink else [])]
    settings = hypothesis.settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=phases,
    )
    return hypothesis.find(
        instances, lambda one: not all(comparison.holds() for comparison in check(one)), settings=settings
    )


def register_profiles() -> None:
    """Register Hypothesis' profiles `default`, 200 examples a property, and `thorough`, 10,000, and load `default`.

    There are no deadlines, and in CI the search is derandomised. `fixed-default` and `fixed-thorough` are derandomised
    everywhere: for the command line, which prints the instance that fails.
    """
    in_ci = bool(os.environ.get("CI"))
    for name, examples in (("default", 200), ("thorough", 10_000)):
        hypothesis.settings.register_profile(
            name, max_examples=examples, deadline=None, derandomize=in_ci, print_blob=not in_ci
        )
        hypothesis.settings.register_profile(
            f"fixed-{name}", max_examples=examples, deadline=None, derandomize=True, database=None
        )
    hypothesis.settings.load_profile("default")


def _nothing() -> Iterable[Comparison]:
    return ()


symbolic = partial(Evidence, Kind.SYMBOLIC)
"""Evidence that sympy derives, of what it shows and its check; the next six alike."""
counterexample = partial(Evidence, Kind.EXACT)
"""In exact arithmetic, signs certified by ball arithmetic."""
enclosure = partial(Evidence, Kind.ENCLOSURE)
"""That holds over a whole range, by interval arithmetic or series with rigorous remainders."""
optimisation = partial(Evidence, Kind.OPTIMISATION)
"""By brute-force constrained optimisation from many starts."""
quadrature = partial(Evidence, Kind.QUADRATURE)
"""By numerical integration with an error estimate."""
printed_numbers = partial(Evidence, Kind.PRINTED)
"""Computed exactly from what the paper prints (`theory.proof.printed`)."""
algorithm = partial(Evidence, Kind.ALGORITHM)
"""By running the paper's algorithm, in exact arithmetic."""


def holds_for_all(shows: str, instances: SearchStrategy[Any], check: InstanceCheck) -> PropertyEvidence:
    """Evidence by a search over instances that finds no failure."""
    return PropertyEvidence(Kind.PROPERTY, shows, _nothing, instances, check)


def fails_without(dropped: str, instances: SearchStrategy[Any], check: InstanceCheck) -> Falsifier:
    """Evidence that an assumption is needed: dropped, the search finds a violation."""
    return Falsifier(Kind.FALSIFIER, f"fails without: {dropped}", _nothing, instances, check, dropped)


@dataclass(frozen=True)
class Statement:
    """One claim: what is printed, what holds, the verdict and the evidence.

    Args:
        label: how it is called, e.g. "corollary-3.9".
        title: a few words.
        source: where the paper prints it, or "ours".
        verdict: what became of it.
        reason: why, in a sentence or two.
        printed: the formula as printed; None for our own theorems, and where the paper prints only words.
        holds: the formula that holds instead, or the same formula where it holds.
        conditions: what the printed claim needs and does not say; named exactly for "holds under conditions".
        evidence: at least one piece.
        paper_labels: every label of the paper that this module answers for.
        fault: how much is wrong; named exactly for claims that do not simply hold.
        rescue: the best that can be saved of what the paper intends, in a sentence; it is among `evidence`.
    """

    label: str
    title: str
    source: str
    verdict: Verdict
    reason: str
    printed: sympy.Basic | None
    holds: sympy.Basic | None
    evidence: tuple[Evidence, ...]
    conditions: tuple[str, ...] = ()
    paper_labels: tuple[str, ...] = field(default=())
    fault: Fault | None = None
    rescue: str = ""

    @property
    def standing(self) -> str:
        """The verdict and, where it does not simply hold, how much is wrong."""
        return self.verdict.value if self.fault is None else f"{self.verdict.value} ({self.fault.value})"

    def __post_init__(self) -> None:
        """Refuse a statement without evidence, or whose verdict lacks what it needs."""
        if not self.evidence:
            raise ValueError(f"evidence of {self.label} is empty; allowed: at least one piece")
        if self.verdict is Verdict.CONDITIONAL and not self.conditions:
            raise ValueError(f"conditions of {self.label} are empty; allowed: what the verdict depends on")
        kinds = {evidence.kind for evidence in self.evidence}
        if self.verdict is Verdict.FALSE and not kinds & REFUTING:
            raise ValueError(f"{self.label} is called false without an exact counterexample, printed numbers or a run")
        if (self.fault is None) is not (self.verdict is Verdict.HOLDS):
            allowed = "None" if self.verdict is Verdict.HOLDS else "how much is wrong"
            raise ValueError(f"fault of {self.label} is {self.fault} where it {self.verdict.value}; allowed: {allowed}")


def equal(what: str, left: Any, right: Any, tolerance: float = 0.0, because: str = "") -> Comparison:
    """left = right."""
    return Comparison(what, left, Relation.EQUAL, right, tolerance, because)


def at_most(what: str, left: Any, right: Any, tolerance: float = 0.0, because: str = "") -> Comparison:
    """left <= right."""
    return Comparison(what, left, Relation.AT_MOST, right, tolerance, because)


def less(what: str, left: Any, right: Any) -> Comparison:
    """left < right, strictly and without tolerance."""
    return Comparison(what, left, Relation.LESS, right)


def different(what: str, left: Any, right: Any) -> Comparison:
    """left and right differ; between floats, not equal at all."""
    return Comparison(what, left, Relation.DIFFERENT, right)


def relative(value: float, factor: float, floor: float = 1.0) -> float:
    """An absolute tolerance of `factor` relative to `value`, or to `floor` where the value is smaller."""
    return factor * max(abs(value), floor) if math.isfinite(value) else 0.0
