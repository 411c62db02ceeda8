"""A section's document, written whole after each part: what a stop, an error or a full card leaves is what was done."""

from __future__ import annotations

import functools
import gc
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.provenance import provenance
from experiments.training.distributed import synchronize
from findings.documents import FAILED, VERSION, json_text
from findings.files import write_whole

SKIPPED = "skipped"
"""The key under which a part that was not begun says why."""
Part = Callable[[], Mapping[str, Any]]


class Record:
    """The parts of a section, in order.

    Args:
        path: of the document.
        section: its name.
        settings: what it was asked for, in JSON's types.
        device: where it computes.
        minutes: how long it may take, from now on.
        say: is told a line before each part.

    Attributes:
        parts: what each gave: a result, or why it failed or was skipped.
    """

    def __init__(
        self,
        path: Path,
        section: str,
        settings: Mapping[str, Any],
        device: torch.device,
        minutes: float,
        say: Callable[[str], None],
    ) -> None:
        """Begin the clock; nothing is written yet."""
        self.path, self.section, self.device = path, section, device
        self._settings, self._say = dict(settings), say
        self._begin, self._minutes = time.monotonic(), minutes
        self._about = provenance(device)
        self.parts: dict[str, Any] = {}
        self._seconds: dict[str, float] = {}

    @property
    def left(self) -> float:
        """Seconds until the section's time is over; negative after it."""
        return self._begin + 60.0 * self._minutes - time.monotonic()

    def part(self, name: str, compute: Part, needs: float = 0.0) -> None:
        """Carry a part out and write the document; an error is written down and ends this part alone.

        Args:
            name: of the part.
            compute: gives its result, in JSON's types.
            needs: seconds; with fewer left it is skipped.
        """
        if self.left < needs:
            self.parts[name] = {SKIPPED: f"{self.left:.0f} s are left, and it takes about {needs:.0f}"}
            self._say(f"{self.section}: {name}: skipped, too little time is left")
            self.write()
            return
        self._say(f"{self.section}: {name} ({max(self.left, 0):.0f} s left)")
        begin = time.perf_counter()
        try:
            self.parts[name] = dict(compute())
            json_text(self.parts[name])
        except Exception as error:
            self.parts[name] = {FAILED: f"{type(error).__name__}: {error}"}
            self._say(f"{self.section}: {name} failed: {type(error).__name__}: {error}")
            del error  # its frames hold the tensors that filled the card
        self._seconds[name] = round(time.perf_counter() - begin, 3)
        self.write()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def write(self, complete: bool = False) -> None:
        """Write the document as it stands."""
        document = {
            "version": VERSION,
            "what": "a section of the check of one GPU",
            "section": self.section,
            "complete": complete,
            "settings": self._settings,
            "provenance": self._about,
            "seconds": self._seconds,
            "parts": self.parts,
        }
        write_whole(self.path, json_text(document))

    def failures(self) -> list[str]:
        """The parts that failed, and those whose result says that they did not pass."""
        return [
            name
            for name, result in self.parts.items()
            if FAILED in result or result.get("passed") is False
        ]  # fmt: skip


def seconds_of(device: torch.device, run: Callable[[], object]) -> float:
    """Of one call, from an idle device to an idle device."""
    synchronize(device)
    begin = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - begin


def median_seconds(device: torch.device, calls: int, run: Callable[[int], object]) -> float:
    """Of one of so many calls with 1, 2, ...; the one with 0, which warms up, is not counted."""
    seconds = [seconds_of(device, functools.partial(run, index)) for index in range(calls + 1)]
    return statistics.median(seconds[1:])
