"""The classes that a network was trained with, and whether labels are among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from flatness.cli.errors import CommandError


@dataclass(frozen=True)
class Classes:
    """The classes that a network knows.

    Attributes:
        count: rows of its table of labels; None where it takes labels and has no table.
        numbers: of the classes by name, where its configuration has names.
        needed: whether it cannot be run without labels.
    """

    count: int | None
    numbers: Mapping[str, int] = field(default_factory=dict)
    needed: bool = True

    def check(self, labels: Tensor | None, network: str, data: str) -> None:
        """Raise where labels (n, ...) are missing, or not among the classes.

        Args:
            labels: of all samples that are known.
            network, data: names, for messages.

        Raises:
            CommandError: the labels do not fit.
        """
        if labels is None:
            if self.needed:
                raise CommandError(
                    f"{network} is class-conditional, and {data} has no labels: labels in an .npz, folders named by "
                    "class, or metadata.jsonl"
                )
            return
        if self.count is None or labels.is_floating_point():
            return
        outside = labels[(labels < 0) | (labels >= self.count)]
        if len(outside):
            raise CommandError(
                f"{data} has the label {int(outside[0])}; {network} knows {self.count} classes, labels 0 to "
                f"{self.count - 1}" + (" (labels count from 0)" if int(outside.max()) == self.count else "")
            )
