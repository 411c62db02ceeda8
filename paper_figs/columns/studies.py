"""The columns of tables that come from trained networks: a study's numbers by row, and what is said of them.

What rounding the weights does, for Tables 1 and 4, has columns of the paper and the toy beside them here: distances,
their changes, and rises of the loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from findings import names, trained
from findings.columns import PER_FEATURE
from findings.names import FULL, NINE, PAPER_RADIUS, RowName
from findings.trained import LEVEL, combined
from paper_figs.columns import sources
from paper_figs.columns.columns import Cells, Columns, Numbers, changes, labelled, misprints, of_toy, printed


def name_of(study: trained.Study) -> str:
    """A study's group."""
    return f"ours, {study.title}"


def describe_study(columns: Columns, study: trained.Study) -> None:
    """A study's group."""
    seeds = len(study.seeds)
    spread = (
        "± one standard error over images and draws, not over training seeds; methods share images and noise"
        if seeds == 1
        else f"± half of the {LEVEL:.0%} interval over {seeds} training seeds"
    )
    radius = "" if study.main_rho is None else f"; SAM with rho = {study.main_rho:g} where no other is named"
    words = f"{study.face()}, {sources.place(study)}{radius}; {spread}"
    bars = "1 standard error" if seeds == 1 else f"{LEVEL:.0%} intervals"
    face = f"ours, {study.face()}; bars: {bars}"
    size = f"{study.image_size} × {study.image_size}"
    short = f"ours, {study.title} {size}, {seeds} seed{'' if seeds == 1 else 's'}"
    columns.group(name_of(study), words, study.dataset, face, sources.place(study), short)
    if len(study.radii) > 1 or study.main_rho not in (None, PAPER_RADIUS):
        columns.face_also(study.dataset, f"SAM: ρ = {study.main_rho:g}")


def rows_of(study: trained.Study) -> dict[str, tuple[str, float | None]]:
    """A study's rows by label, each with its method and its radius where that is not the main one."""
    radii: list[float | None] = [rho for rho in study.radii if rho != study.main_rho]
    rows = {}
    for method in NINE:
        for rho in [None, *(radii if RowName.of(method).method == "sam" else [])]:
            if study.rows_of(method, rho):
                rows[labelled(method, rho)] = (method, rho)
    return rows


def of_study(study: trained.Study, measure: str, *keys: str) -> Cells:
    """A study's numbers with their intervals; a measure that failed with its reason; none that was not taken."""
    cells = {}
    for label, (method, rho) in rows_of(study).items():
        cell = as_cell(study.value(method, measure, *keys, rho=rho), study.failed(method, measure, rho))
        if cell is not None:
            cells[label] = cell
    return cells


def change_of_study(study: trained.Study, steps: int, bits: int) -> Cells:
    """What rounding the weights does to the distance of samples that start from the same noise.

    The error of one seed is the jackknife's of the difference (Busing et al., 1999), group by group of the same images.
    """
    cells = {}
    full, rounded = names.distance(steps), names.distance(steps, bits)
    for label, (method, rho) in rows_of(study).items():
        missing = next((one for one in (full, rounded) if study.why_missing(method, one, rho) is not None), None)
        if missing is None:
            cell = as_cell(combined([row.change(rounded, full) for row in study.rows_of(method, rho)]))
        else:
            why = study.why_missing(method, missing, rho)
            cell = as_cell({"missing": why}, study.failed(method, missing, rho))
        if cell is not None:
            cells[label] = cell
    return cells


def as_cell(number: Mapping[str, Any], failed: bool = False) -> dict[str, Any] | None:
    """A number of `trained` as a table's cell; None where it was not measured, which needs no reason.

    Args:
        number: with its interval, or why it is missing.
        failed: it is missing because its measure failed.
    """
    if "missing" in number:
        return {"value": None, "missing": str(number["missing"])} if failed else None
    if number["standard_error"] is None:
        return {"value": number["mean"]}
    return {"value": number["mean"], "low": number["low"], "high": number["high"]}


def measured(study: trained.Study) -> list[str]:
    """The names of all measures that any row has."""
    return list(dict.fromkeys(name for row in study.rows for name in row.document["measures"]))


def loss_bits(study: trained.Study) -> list[int]:
    """Bits at which the loss of rounded weights was measured, widest first."""
    there = measured(study)
    return sorted(
        (bits for bits in study.evaluation.get("rise_bits", ()) if names.quantization(bits) in there), reverse=True
    )


def sampled(study: trained.Study) -> dict[int, list[int]]:
    """By T', the bits of the rounded weights that were sampled from, widest first; T' at full width alone have none."""
    there = measured(study)
    widths = sorted(study.evaluation.get("bits", ()), reverse=True)
    return {
        steps: [bits for bits in widths if names.distance(steps, bits) in there]
        for steps in sorted(study.sampling_steps)
        if any(names.distance(steps, bits) in there for bits in (FULL, *widths))
    }


def samples_of(study: trained.Study, steps: int) -> int | None:
    """How many samples the distances at T' = steps are of, as the first row says; None where there are none."""
    measure = names.distance(steps)
    rows = (row for row in study.rows if row.why_missing(measure) is None)
    return next((int(row.measure(measure, "samples")) for row in rows), None)


def noise_words(study: trained.Study, scale: str) -> str:
    """The low-pass filter's noise in words, as far as the plan states it; see `paper_figs.drawing.lpf_tables`."""
    if scale == "absolute":
        sigma = study.evaluation.get("sigma")
        return "" if sigma is None else f", σ = {sigma:g}"
    size = study.evaluation.get("relative_sigma")
    return f", noise in proportion to each {scale}" if size is None else f", noise {size:.0%} of each {scale}"


def distance_name(study: trained.Study) -> str:
    """What the study's distances are: FID is Inception's alone."""
    features = _features(study)
    return "FID" if features is not None and features["name"] == names.FID_FEATURES else "Fréchet distance"


def extrapolates(study: trained.Study, steps: int) -> bool:
    """Whether the samples are enough for a distance without bias."""
    features, count = _features(study), samples_of(study, steps)
    return features is not None and count is not None and count >= PER_FEATURE * features["width"]


def describe_distance(columns: Columns, study: trained.Study) -> None:
    """What the study's distances are called, and a note on their features and their bias."""
    features, name = _features(study), distance_name(study)
    columns.data["distances"][study.dataset] = name
    counts = {steps: samples_of(study, steps) for steps in sampled(study)}
    if not counts:
        columns.note(f"{name_of(study)}: no distances were measured")
        return
    counted = " and ".join(f"{count} samples at T' = {steps}" for steps, count in counts.items())
    space = (
        "features that are not named" if features is None else f"the {features['width']} features of {features['name']}"
    )
    what = "" if name == "FID" else f" in {space}, which is not the FID"
    few = not all(extrapolates(study, steps) for steps in counts)
    bias = ", biased upwards, by an amount that differs from row to row" if few else ""
    columns.note(f"{name_of(study)}: {name}{what}, of {counted}{bias}")


def _features(study: trained.Study) -> dict[str, Any] | None:
    """Name and width of the features that distances are measured in, as the first row that has any says."""
    names = (row.document["settings"].get("features") for row in study.rows)
    return next((dict(features) for features in names if features is not None), None)


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
    group, key = name_of(study), f"{study.dataset}/{steps}"
    name = distance_name(study)
    columns.add(f"{key}/full", group, f"{name}, {FULL} bits, T' = {steps}", of_study(study, names.distance(steps)))
    for width in bits:
        columns.add(
            f"{key}/{width}",
            group,
            f"{name}, {width} bits, T' = {steps}",
            of_study(study, names.distance(steps, width)),
        )
        cells = change_of_study(study, steps, width)
        heading = f"change at {width} bits, T' = {steps}"
        columns.add(f"{key}/change-{width}", group, heading, cells, signed=True, measure=CHANGE, bits=width)


def add_study_rises(columns: Columns, study: trained.Study) -> None:
    """What rounding adds to a study's loss."""
    for width in loss_bits(study):
        cells = of_study(study, names.quantization(width), "rise")
        key = f"{study.dataset}/rise-{width}"
        columns.add(key, name_of(study), f"loss rise at {width} bits", cells, signed=True)
