"""What the tests of the statements share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import hypothesis
import pytest
from hypothesis.strategies import SearchStrategy

from theory.proof.statement import Comparison, Evidence, Statement


def every_evidence(*statements: Statement) -> pytest.MarkDecorator:
    """Parametrise a test over the evidence of statements: `@every_evidence(STATEMENT)`, argument `evidence`."""
    pairs = [(statement.label, evidence) for statement in statements for evidence in statement.evidence]
    ids = [f"{label}, {evidence.kind.value}: {evidence.shows}" for label, evidence in pairs]
    return pytest.mark.parametrize("evidence", [evidence for _, evidence in pairs], ids=ids)


def require(evidence: Evidence) -> None:
    """Run a piece of evidence and fail, with its numbers, where it does not hold."""
    report = evidence.run()
    assert report.holds, "\n".join(report.lines)


def finds_violation(instances: SearchStrategy[Any], check: Callable[[Any], Iterable[Comparison]]) -> bool:
    """Whether the search finds an instance that fails a check: what must happen when the check is of a mutant.

    Nothing is shrunk, so this costs less than a falsifier.
    """
    settings = hypothesis.settings(
        max_examples=500,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )

    def violates(instance: Any) -> bool:
        return not all(comparison.holds() for comparison in check(instance))

    try:
        hypothesis.find(instances, violates, settings=settings)
    except hypothesis.errors.NoSuchExample:
        return False
    return True
