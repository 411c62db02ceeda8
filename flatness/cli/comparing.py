"""What networks differ by: each against the first, number by number, paired sample by sample and draw by draw."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flatness.cli.runner import Measured
from flatness.cli.statistics import Uncertain, paired_difference


@dataclass(frozen=True)
class Difference:
    """One number of one network less that of the first.

    Attributes:
        name, words: of the number.
        label, against: of the networks.
        number: the difference with its errors.
        paired: whether it was taken sample by sample; else the two numbers' errors were added as if independent.
    """

    name: str
    words: str
    label: str
    against: str
    number: Uncertain
    paired: bool

    @property
    def verdict(self) -> str:
        """Lower or higher where the 95% interval leaves 0 out; undecided otherwise."""
        value, half = self.number.value, self.number.half_width
        if not half < float("inf") or not abs(value) > half:
            return "undecided"
        return "lower" if value < 0 else "higher"

    def entry(self) -> dict[str, Any]:
        """For JSON."""
        about = {"number": self.name, "source": self.label, "against": self.against, "verdict": self.verdict}
        return about | {"paired": self.paired, **dataclasses.asdict(self.number)}


def differences(networks: Sequence[Measured], samples: int) -> list[Difference]:
    """All that the first network and another both have, in the first one's order.

    Args:
        networks: measured on the same data.
        samples: how many, for numbers of which single values are not known.
    """
    first, differing = networks[0].quantities, []
    for name, ours in first.items():
        for other in networks[1:]:
            theirs = other.quantities.get(name)
            if theirs is None:
                continue
            paired = paired_difference(theirs.parts, ours.parts) if ours.parts else None
            difference = paired or theirs.number.minus(ours.number, samples)
            differing.append(
                Difference(name, ours.words, other.label, networks[0].label, difference, paired is not None)
            )
    return differing
