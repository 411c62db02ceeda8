"""What the check of a GPU is asked for, and how it shares its minutes out among the sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from flatness import arguments

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
        arguments.number("minutes", self.minutes, above=0)
        for name in self.sections:
            arguments.choice("sections", name, SECTIONS)
        if not self.sections or len(set(self.sections)) != len(self.sections):
            raise arguments.refuse("sections", self.sections, f"at least one of {', '.join(SECTIONS)}, each once")
        arguments.choice("device", self.device, ("auto", "cpu", "cuda"))
        if self.device == "cpu" and not self.tiny:
            raise arguments.refuse("device", self.device, "cuda or auto; the CPU takes --tiny alone")
        for radius in self.radii:
            arguments.number("radii", radius, above=0)
        if self.radii and (len(self.radii) != 2 or len(set(self.radii)) != 2):
            raise arguments.refuse("radii", self.radii, "two different ones")
        if self.reference is not None and not (self.reference / "guided_diffusion" / "unet.py").is_file():
            raise arguments.refuse("reference", str(self.reference), "a folder that holds guided_diffusion/unet.py")


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
