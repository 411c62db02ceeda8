"""The page's three findings: their words follow from the verdicts in the ledger and in results/toy.json."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from paper_figs.report import claims, prose
from paper_figs.report.claims import Claim
from paper_figs.report.predictions import Prediction, Study
from paper_figs.report.sourced import Number

CENTRAL = ("definition-3.1", "theorem-3.8", "corollary-3.9", "remark-3.10", "theorem-t4")
"""The line of the paper's argument, and what holds instead."""


@dataclass(frozen=True)
class Finding:
    """A finding on the toy: its headline, chosen by the verdict of some predictions, and those that bear on it."""

    anchor: Markup
    headline: Markup
    predictions: tuple[Prediction, ...]


HEADLINES: tuple[tuple[str, tuple[str, ...], dict[str, str], tuple[str, ...]], ...] = (
    (
        "finding-flatter",
        ("P2a",),
        {
            "confirmed": "On the toy, SAM makes minima flatter",
            "refuted": "On the toy, SAM does not make minima flatter",
            "undecided": "On the toy, it is undecided whether SAM makes minima flatter",
        },
        ("P2a", "P2c", "P2d", "P2e", "P8a", "P9f"),
    ),
    (
        "finding-better",
        ("P6a-20", "P6a-100"),
        {
            "confirmed": "There, SAM's samples are closer to the data",
            "refuted": "There, SAM's samples are further from the data",
            "undecided": "There, it is undecided whether SAM's samples are closer to the data",
        },
        ("P6a-20", "P6a-100", "P6e-20", "P7c", "P7f-4", "P4b"),
    ),
)
"""Anchor, the predictions that decide, the headline by their common verdict, and the predictions listed under it."""


def common(verdicts: Iterable[str]) -> str:
    """The verdict that all have; "undecided" where they differ or there are none."""
    found = set(verdicts)
    return found.pop() if len(found) == 1 else "undecided"


def toy(study: Study) -> list[Finding]:
    """The findings on the toy; predictions that the file lacks are left out."""
    made = []
    for name, deciding, words, listed in HEADLINES:
        verdict = common(p.verdict for one in deciding if (p := study.one(one)) is not None)
        predictions = tuple(p for one in listed if (p := study.one(one)) is not None)
        made.append(Finding(prose.prose(name), prose.prose(words[verdict]), predictions))
    return made


@dataclass(frozen=True)
class Theory:
    """The finding on the theory: how many claims of the paper are of which verdict and fault, and the central ones."""

    total: Number
    counts: tuple[tuple[str, Number], ...]
    faults: tuple[tuple[str, Number], ...]
    proved: Number
    central: tuple[Claim, ...]


def theory(found: Sequence[Claim]) -> Theory:
    """Counted over the ledger."""
    return Theory(
        total=claims.count(found, ours=False),
        counts=tuple((verdict, claims.count(found, ours=False, verdict=verdict)) for verdict in claims.VERDICTS),
        faults=tuple((fault, claims.count(found, ours=False, fault=fault)) for fault in claims.FAULTS),
        proved=claims.count(found, ours=True, verdict=claims.VERDICTS[0]),
        central=tuple(claim for label in CENTRAL for claim in found if claim.label == prose.prose(label)),
    )
