"""What the check of a GPU is asked for, and how it shares its minutes out among the sections.

Nothing but the standard library is imported, so that --check can answer where nothing is installed yet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Section = Literal["parity", "speed", "processes", "rung4"]
SECTIONS: tuple[Section, ...] = get_args(Section)
TITLES: dict[Section, str] = {
    "parity": "the card's numbers against the CPU's, and a resumed run against one that was not interrupted",
    "speed": "training steps by precision, compilation and method; memory; the loader",
    "processes": "two processes on the one card against one",
    "rung4": "the ladder's fourth rung: adm and SAM at two radii on Fashion-MNIST at 32 x 32",
}
SHARES: dict[Section, float] = {"parity": 1.0, "speed": 2.5, "processes": 1.0, "rung4": 4.5}
"""Of the minutes, to one another; what a section leaves goes to those after it."""
RADII = (0.01, 0.03)
"""Where neither the command line nor recorded results name others."""


@dataclass(frozen=True, kw_only=True)
class GPUOptions:
    """What was asked for.

    Raises:
        ValueError: a field is not as its line says.
    """

    out: Path
    """The folder of the sections' JSON files."""
    minutes: float = 9.0
    """For all sections together."""
    sections: tuple[Section, ...] = SECTIONS
    """Which, in this order."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes CUDA, and refuses where there is none; the CPU only with tiny."""
    tiny: bool = False
    """A rehearsal: everything at its smallest, on made images. Its numbers mean nothing."""
    data: Path | None = None
    """The data root; FLATNESS_DATA, or ./data, by default."""
    radii: tuple[float, ...] = ()
    """SAM's two radii on rung 4; by default those of recorded studies, else RADII."""
    reference: Path | None = None
    """A folder that holds the package guided_diffusion, the public reference, to be timed beside ours."""

    def __post_init__(self) -> None:
        """Check all fields."""
        _positive("minutes", self.minutes)
        if not self.sections or len(set(self.sections)) != len(self.sections) or set(self.sections) - set(SECTIONS):
            raise _refused("sections", self.sections, f"at least one of {', '.join(SECTIONS)}, each once")
        if self.device not in ("auto", "cpu", "cuda") or (self.device == "cpu" and not self.tiny):
            raise _refused("device", self.device, "cuda or auto; the CPU takes --tiny alone")
        for radius in self.radii:
            _positive("radii", radius)
        if self.radii and (len(self.radii) != 2 or len(set(self.radii)) != 2):
            raise _refused("radii", self.radii, "two different ones")
        if self.reference is not None and not (self.reference / "guided_diffusion" / "unet.py").is_file():
            raise _refused("reference", str(self.reference), "a folder that holds guided_diffusion/unet.py")


def _positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise _refused(name, value, "a finite number above 0")


def _refused(name: str, value: object, allowed: str) -> ValueError:
    return ValueError(f"{name} is {value!r}; allowed: {allowed}")


def shares(minutes: float, sections: Sequence[Section]) -> dict[Section, float]:
    """Minutes of each section, which add up to all."""
    whole = sum(SHARES[name] for name in sections)
    return {name: minutes * SHARES[name] / whole for name in sections}


def plan_lines(options: GPUOptions) -> list[str]:
    """The plan, a line a section: when it begins at the latest, what it may take, what it is."""
    lines, begin = [f"{options.minutes:.3g} minutes, into {options.out}"], 0.0
    for name, minutes in shares(options.minutes, options.sections).items():
        lines.append(f"  from {begin:4.1f}, {minutes:4.1f} minutes  {name:9} {TITLES[name]}")
        begin += minutes
    return lines
