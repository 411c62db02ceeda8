"""Columns of what rounding the weights does, for Tables 1 and 4: distances, their changes, and rises of the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from findings import names, trained
from findings.names import FULL
from paper_figs.columns import studies
from paper_figs.columns.columns import Columns, Numbers, changes, misprints, of_toy, printed
from paper_figs.columns.studies import of_study

BITS = 8
"""The paper's."""
TOY_STEPS = 20
"""T' at which the toy's rounded models are sampled."""
TOY_SAMPLED, TOY_LOSSES = (8, 4), (8, 4, 3)
"""Bits at which the toy has distances, and rises of the loss."""
CHANGE = "change"
"""The measure of our columns of what rounding adds to a distance."""


def add_paper(columns: Columns, key: str, group: str, paper: dict[str, Any], dataset: str, steps: int) -> None:
    """FID at 32 and 8 bits, the difference, and the difference as printed, for the methods that are at both.

    A printed difference that is none becomes a note.
    """
    full: Numbers = paper["fid"][dataset][str(steps)]
    rounded: Numbers = paper["fid_at_8_bits"][dataset][str(steps)]
    in_print: Numbers = paper["fid_change_at_8_bits"][dataset][str(steps)]
    both = {method: full[method] for method in rounded}
    decimals = paper["fid"]["decimals"]
    for name, heading, numbers, signed in (
        ("full", f"FID, {FULL} bits, T' = {steps}", both, False),
        ("8", f"FID, {BITS} bits, T' = {steps}", rounded, False),
        ("change-8", f"change, T' = {steps}", changes(rounded, full), True),
        ("printed", f"change as printed, T' = {steps}", in_print, True),
    ):
        columns.add(f"{key}/{steps}/{name}", group, heading, printed(numbers), decimals=decimals, signed=signed)
    for sentence in misprints(f"{group}, T' = {steps}", in_print, rounded, full):
        columns.note(sentence)


def add_toy(columns: Columns, results: dict[str, Any], bits: Sequence[int] = TOY_SAMPLED) -> None:
    """Sliced distances at 32 bits and rounded, with their changes."""
    columns.add("toy/full", "toy", f"sliced W2, {FULL} bits, T' = {TOY_STEPS}", of_toy(results, f"sw_{TOY_STEPS}"))
    for width in bits:
        columns.add(f"toy/{width}", "toy", f"sliced W2, {width} bits", of_toy(results, f"sw_at_{width}"))
        cells = of_toy(results, f"sw_rise_{width}")
        heading = f"change at {width} bits"
        columns.add(f"toy/change-{width}", "toy", heading, cells, signed=True, measure=CHANGE, bits=width)


def add_toy_rises(columns: Columns, results: dict[str, Any]) -> None:
    """What rounding adds to the toy's loss."""
    for width in TOY_LOSSES:
        cells = of_toy(results, f"quantized_rise_{width}")
        columns.add(f"toy/rise-{width}", "toy", f"loss rise at {width} bits", cells, signed=True)


def add_study(columns: Columns, study: trained.Study, steps: int, bits: Sequence[int]) -> None:
    """A study's distances at 32 bits and rounded, with their changes."""
    group, key = studies.name_of(study), f"{study.dataset}/{steps}"
    name = studies.distance_name(study)
    columns.add(f"{key}/full", group, f"{name}, {FULL} bits, T' = {steps}", of_study(study, names.distance(steps)))
    for width in bits:
        columns.add(
            f"{key}/{width}",
            group,
            f"{name}, {width} bits, T' = {steps}",
            of_study(study, names.distance(steps, width)),
        )
        cells = studies.change_of_study(study, steps, width)
        heading = f"change at {width} bits, T' = {steps}"
        columns.add(f"{key}/change-{width}", group, heading, cells, signed=True, measure=CHANGE, bits=width)


def add_study_rises(columns: Columns, study: trained.Study) -> None:
    """What rounding adds to a study's loss."""
    for width in studies.loss_bits(study):
        cells = of_study(study, names.quantization(width), "rise")
        key = f"{study.dataset}/rise-{width}"
        columns.add(key, studies.name_of(study), f"loss rise at {width} bits", cells, signed=True)
