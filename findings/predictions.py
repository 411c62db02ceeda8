"""The bridge's document for people: tables of predictions by group and a summary in words, all from the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from findings.names import group_of
from findings.verdicts import Verdict

Document = Mapping[str, Any]
VERDICTS = tuple(verdict.value for verdict in Verdict)
TITLES = {
    "B1": "The last layer as theta of Eq. (9): closed forms against measured rises",
    "B2": "The mechanism: does SAM shrink the last layer's features?",
    "B3": "The whole network and its layers",
    "B4": "Flatness or scale",
    "B5": "Flatness against exposure bias, rounding and samples, and the same of the paper's printed tables",
    "B6": "The tolerated divergence of the noise's law",
    "B7": "SAM's radius as a dose, in the toy's order",
}


def subject(printed: bool, seeds: int) -> str:
    """What a verdict speaks of: with one training seed of networks, not of methods."""
    if printed:
        return "the paper's printed numbers, one run a method"
    return f"methods, over {seeds} training seeds" if seeds >= 2 else "these networks, one training seed a method"


def group(prediction: Document) -> str:
    """B1, ..., B7."""
    return group_of(prediction["identifier"])


def number(value: float | None) -> str:
    """Four significant digits."""
    return "" if value is None else f"{value:.4g}"


def interval(prediction: Document) -> str:
    """The number that decides, with its interval."""
    if prediction["measured"] is None:
        return ""
    ends = prediction["interval"]
    return number(prediction["measured"]) + ("" if ends is None else f" [{number(ends[0])}, {number(ends[1])}]")


def region(prediction: Document) -> str:
    """Where numbers must lie, in signs."""
    low, high = prediction["region"]
    if low is None:
        return f"< {number(high)}"
    return f"> {number(low)}" if high is None else f"{number(low)} to {number(high)}"


def predicted(prediction: Document) -> str:
    """The predicted number with its interval, where there is one."""
    ends = prediction["predicted_interval"]
    return number(prediction["predicted"]) + ("" if ends is None else f" [{number(ends[0])}, {number(ends[1])}]")


def about_seeds(document: Document) -> str:
    """What the intervals are over."""
    seeds = document["seeds"]
    if seeds >= 2:
        return f"{seeds} training seeds: intervals are Student's over seeds."
    return (
        "One training seed: intervals are over images, draws and samples, so verdicts are on these networks and not on "
        "the methods."
    )


REVISED = (
    "After the results of a first run (fashion-mnist-tiny, one seed) had been seen, B1d-...-mean, B4i to B4l and "
    "B7-snapshots-... were added, B1d and B1e were reworded, and B6e was given the radius in the place of a bound that "
    "is infinite. These claims were not set blind."
)
"""Which claims that run could have suggested."""


def summary(document: Document) -> list[str]:
    """What came out, a line a group, and the refuted ones in words."""
    lines = [about_seeds(document), REVISED]
    for name, title in TITLES.items():
        ours = [one for one in document["predictions"] if group(one) == name]
        counted = {verdict: [one for one in ours if one["verdict"] == verdict] for verdict in VERDICTS}
        counts = [f"{len(judged)} {verdict}" for verdict, judged in counted.items() if judged]
        lines.append(f"{name} ({title}): {', '.join(counts) or 'nothing to say'}.")
        for one in counted["refuted"]:
            deciding = f"{one['deciding']}: {interval(one)}; claimed {region(one)}"
            lines.append(f"{one['identifier']} refuted ({one['of']}): {one['statement']}. {deciding}.")
    return lines


def markdown(document: Document) -> str:
    """The page."""
    lines = ["# The bridge", "", about_seeds(document), "", str(document["rule"]), ""]
    for name, title in TITLES.items():
        ours = [one for one in document["predictions"] if group(one) == name]
        if not ours:
            continue
        lines += [f"## {name}: {title}", "", "| | claim | by | claimed | predicted | verdict | measured | deciding |"]
        lines.append("|---|---|---|---|---|---|---|---|")
        for one in ours:
            words = str(one["statement"]) + (f" ({one['note']})" if one["note"] else "")
            cells = [one["identifier"], words, one["source"], region(one), predicted(one), one["verdict"]]
            cells += [interval(one), one["deciding"] or ""]
            lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    lines += _layers(document) + _tolerated(document)
    lines += ["## Summary", "", *(f"- {line}" for line in document["summary"]), ""]
    return "\n".join(lines)


def _layers(document: Document) -> list[str]:
    """Which kinds of layers carry the absolute rise."""
    if not document["layers"]:
        return []
    kinds = list(dict.fromkeys(kind for one in document["layers"] for kind in one["shares"]))
    lines = ["## Which layers carry the rise", "", "Shares of the sum of the layers' absolute rises, first seed.", ""]
    lines += ["| row | sum | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 2) + "|"]
    for one in document["layers"]:
        shares = [f"{one['shares'].get(kind, 0.0):.0%}" for kind in kinds]
        lines.append("| " + " | ".join([one["row"], number(one["sum"]), *shares]) + " |")
    return [*lines, ""]


def _errors(document: Document) -> str:
    """The range of the linearisation's error."""
    errors = [error for one in document["tolerated"] for error in one.get("linearisation_error", ())]
    return f"{min(errors):.0%} to {max(errors):.0%}" if errors else "an unknown share"


def _tolerated(document: Document) -> list[str]:
    """What B6 compares, in nats."""
    if not document["tolerated"]:
        return []
    heads = ["row", "t", "share", "kappa", "E_kappa", "rescored", "sampled"]
    heads += [f"{radius} {name}" for radius in ("dense", "kernel") for name in ("rho", "exact", "corrected", "printed")]
    lines = [
        "## Tolerated divergences and the theory's bounds",
        "",
        "In nats; kappa is the rise of the loss summed over coordinates, a share of the row's own. rescored and "
        "sampled are the least over laws; rho = eta |W|_op; a bound that is infinite is left empty. The theory's "
        "setting does not cover these networks: its activation is linear, its target a function of x, its Jacobian "
        f"constant. Features differ from their linearisation at another draw of the noise by {_errors(document)} of "
        "their change (squared).",
        "",
        "| " + " | ".join(heads) + " |",
        "|---" * len(heads) + "|",
    ]
    for one in document["tolerated"]:
        cells = [one["row"], one["t"], f"{one['share']:.0%}", number(one["kappa"]), number(one["gap_radius"])]
        cells += [number(one["rescored"]["least"]), number(one["sampled"]["least"])]
        for radius in ("dense", "kernel"):
            bounds = one.get("bounds", {}).get(radius, {})
            cells += [number(bounds.get(name)) for name in ("rho", "exact", "corrected", "printed")]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]
