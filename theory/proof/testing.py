"""What the tests of the statements share."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from hypothesis.strategies import SearchStrategy

from theory.proof.statement import Evidence, InstanceCheck, Statement, violation


def every_evidence(*statements: Statement) -> pytest.MarkDecorator:
    """Parametrise a test over the evidence of statements: `@every_evidence(STATEMENT)`, argument `evidence`."""
    pairs = [(statement.label, evidence) for statement in statements for evidence in statement.evidence]
    ids = [f"{label}, {evidence.kind.value}: {evidence.shows}" for label, evidence in pairs]
    return pytest.mark.parametrize("evidence", [evidence for _, evidence in pairs], ids=ids)


def require(evidence: Evidence) -> None:
    """Run a piece of evidence and fail, with its numbers, where it does not hold."""
    report = evidence.run()
    assert report.holds, "\n".join(report.lines)


def finds_violation(instances: SearchStrategy[Any], check: InstanceCheck) -> bool:
    """Whether the search finds an instance that fails a check: what must happen when the check is of a mutant.

    Nothing is shrunk, so this costs less than a falsifier.
    """
    try:
        violation(instances, check, examples=500, shrink=False)
    except hypothesis.errors.NoSuchExample:
        return False
    return True
