"""Options that do nothing without others are refused at any value; every option of a measure is in the table."""

import argparse
import dataclasses
import shlex
from collections.abc import Callable

import pytest

from flatness.cli.command import parser
from flatness.cli.errors import CommandError
from flatness.cli.options import (
    NEEDS,
    DataOptions,
    MeasureOptions,
    PathOptions,
    PlaceOptions,
    SourceOptions,
    taken,
)

MEASURES = {
    "scales", "curve_rms", "bits", "steps", "by_timestep", "curvature", "spectrum", "worst_case", "surface", "readout",
}  # fmt: skip
"""Options that say what is measured."""
ALWAYS = {"images", "times", "seed", "precision"}
NOTHING = shlex.split("--scales --curve-rms --bits --steps --no-readout")
"""Of any measure."""
WITH = {
    "sigma": "--scales absolute", "relative_sigma": "--scales layer", "draws": "--by-timestep 2",
    "curve_draws": "--curve-rms .01", "granularity": "--bits 4", "exposure_images": "--steps 2",
    "probes": "--curvature", "lanczos_steps": "--spectrum 2", "rho": "--worst-case", "ascent_steps": "--worst-case",
    "surface_range": "--surface 3", "gradient_batch": "--worst-case",
}  # fmt: skip
"""What makes an option do something."""
DEFAULTS = dataclasses.asdict(MeasureOptions()) | dataclasses.asdict(PlaceOptions())
Parser = Callable[[bool], argparse.ArgumentParser]
"""The parser of a command, of --quick or not."""


def options(words: list[str], command: str = "measure", of: Parser = parser) -> MeasureOptions:
    """As a command reads them."""
    given = of("--quick" in words).parse_args([*command.split(), "x", *words])
    return taken(MeasureOptions, given, quick=given.quick)


def check_option(name: str, command: str, of: Parser = parser) -> None:
    """It is refused alone, also at its default's value, and taken with what it needs."""
    flag = f"--{name.replace('_', '-')}"
    words = [*NOTHING, flag, str(DEFAULTS[name])]
    with pytest.raises(CommandError, match=f"{flag} does nothing without --"):
        options(words, command, of)
    with_what_it_needs = options([*words, *WITH[name].split()], command, of)
    if name != "gradient_batch":
        assert getattr(with_what_it_needs, name) == DEFAULTS[name]
    options(NOTHING, command, of)


def test_every_option_of_a_measure_is_in_the_table() -> None:
    fields = {field.name for field in dataclasses.fields(MeasureOptions) if "help" in field.metadata}
    assert fields == (set(NEEDS) - {"gradient_batch"}) | MEASURES | ALWAYS
    assert set(WITH) == set(NEEDS)


def test_every_option_of_a_path_applies_or_is_one_of_the_datas_or_the_sources() -> None:
    fields = {field.name for field in dataclasses.fields(PathOptions) if "help" in field.metadata}
    assert fields == ALWAYS | {"points"}
    given = parser().parse_args(["path", "x", "y"])
    assert not {*NEEDS} & vars(given).keys()
    of_data = {field.name: getattr(given, field.name) for field in dataclasses.fields(DataOptions)}
    of_sources = {field.name: getattr(given, field.name) for field in dataclasses.fields(SourceOptions)}
    assert set((of_data | of_sources).values()) == {None}, "a default could not be told from what was given"


@pytest.mark.parametrize("command", ["measure", "compare"])
@pytest.mark.parametrize("name", NEEDS)
def test_it_is_refused_alone_also_at_its_default_and_taken_with_what_it_needs(name: str, command: str) -> None:
    check_option(name, command)


def test_quick_takes_no_curve_and_no_chains_and_so_none_of_their_options() -> None:
    for words in (["--curve-draws", "5"], ["--exposure-images", "64"], ["--sigma", "0.01"]):
        with pytest.raises(CommandError, match=f"{words[0]} does nothing without"):
            options(["--quick", *words])
    assert options(["--quick", "--scales"]).draws == 3
