"""What the tests of the statements share."""

from __future__ import annotations

import pytest

from theory.verification import Evidence, Statement


def every_evidence(statement: Statement) -> pytest.MarkDecorator:
    """Parametrise a test over a statement's evidence: `@every_evidence(STATEMENT)`, argument `evidence`."""
    ids = [f"{evidence.kind.value}: {evidence.shows}" for evidence in statement.evidence]
    return pytest.mark.parametrize("evidence", statement.evidence, ids=ids)


def require(evidence: Evidence) -> None:
    """Run a piece of evidence and fail, with its numbers, where it does not hold."""
    report = evidence.run()
    assert report.holds, "\n".join(report.lines)
