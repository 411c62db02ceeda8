"""The predictions P1 to P9 of results/toy.json, predicted beside measured, every number with its source."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from findings.documents import read_document
from findings.toy_study import COMMAND
from findings.verdicts import DECIDED
from paper_figs.report import prose, sourced
from paper_figs.report.sourced import Number, Source

VERDICTS = tuple(verdict.value for verdict in DECIDED)
FORMS = {
    "change": "relative change, of geometric means",
    "excess": "relative excess",
    "difference": "difference",
    "ratio": "ratio",
    "value": "value",
}
"""What a comparison's mean is, by the name that the file gives it."""


@dataclass(frozen=True)
class Comparison:
    """One comparison of a prediction: the region claimed and the mean with its interval."""

    what: Markup
    form: Markup
    region: Number
    measured: Number
    verdict: str
    strip: Markup


@dataclass(frozen=True)
class Prediction:
    """One prediction, ready for a template; `deciding` is its first comparison of the prediction's own verdict."""

    identifier: Markup
    anchor: Markup
    group: str
    statement: Markup
    by: Markup
    expected: Markup
    how: Markup
    verdict: str
    deciding: Comparison
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Study:
    """The toy study's result file.

    Attributes:
        document: its content.
        name: the file, as the page names it.
        source: of its numbers, without a key.
        predictions: in the file's order.
    """

    document: dict[str, Any]
    name: str
    source: Source
    predictions: tuple[Prediction, ...]

    @property
    def trial(self) -> bool:
        """Whether the file says that its verdicts may not be quoted."""
        return not self.document.get("verdicts_may_be_quoted", False)

    @property
    def device(self) -> Markup:
        """What computed it."""
        return prose.quoted(str(self.document.get("device", "not recorded")))

    @property
    def interval(self) -> Markup:
        """What its intervals are, in the file's words."""
        return prose.quoted(str(self.document.get("interval", "not recorded")))

    def groups(self) -> dict[str, list[Prediction]]:
        """The predictions by what is before their letter: P1, P2, ..."""
        found: dict[str, list[Prediction]] = {}
        for prediction in self.predictions:
            found.setdefault(prediction.group, []).append(prediction)
        return found

    def one(self, identifier: str) -> Prediction | None:
        """The prediction of that name; None where the file has none."""
        return next((found for found in self.predictions if found.identifier == prose.quoted(identifier)), None)

    def count(self, verdict: str | None = None, group: str | None = None) -> Number:
        """How many predictions, of this verdict and group where they are named, there are."""
        chosen = [p for p in self.predictions if verdict in (None, p.verdict) and group in (None, p.group)]
        key = f"predictions: identifier {group or 'P1 to P9'}, verdict {verdict or 'any'}"
        return sourced.counted(len(chosen), self.source.at(key))


def strip(region: list[float | None], mean: float, low: float, high: float) -> Markup:
    """A small drawing of a region and an interval on one axis, for the eye; the numbers stand beside it.

    The axis reaches a tenth beyond all that is finite; a region that is open to one side reaches the end.
    """
    width, height, middle = 120.0, 16.0, 8.0
    finite = [end for end in (*region, mean, low, high) if end is not None]
    margin = 0.1 * (max(finite) - min(finite)) or max(abs(mean), 1.0)
    least, span = min(finite) - margin, max(finite) - min(finite) + 2 * margin

    def place(value: float) -> float:
        return width * (value - least) / span

    left = 0.0 if region[0] is None else place(region[0])
    right = width if region[1] is None else place(region[1])
    return Markup(
        f'<svg class="strip" viewBox="0 0 {width:g} {height:g}" aria-hidden="true" focusable="false">'
        f'<rect class="region" x="{left:.1f}" y="1" width="{max(right - left, 1.0):.1f}" height="{height - 2:g}"/>'
        f'<line class="interval" x1="{place(low):.1f}" x2="{place(high):.1f}" y1="{middle:g}" y2="{middle:g}"/>'
        f'<circle class="mean" cx="{place(mean):.1f}" cy="{middle:g}" r="2.5"/></svg>'
    )


def _comparison(found: dict[str, Any], source: Source, key: str) -> Comparison:
    numbers = found["mean"], found["low"], found["high"]
    level = f"mean and {found['level']:.6g} interval over {found['seeds']} seeds"
    return Comparison(
        prose.quoted(found["what"]),
        prose.prose(FORMS.get(found["form"], found["form"])),
        sourced.region(found["region"], source.at(f"{key}.region")),
        sourced.with_interval(*numbers, source.at(f"{key}: {level}")),
        found["verdict"],
        strip(found["region"], *numbers),
    )


def _prediction(found: dict[str, Any], source: Source, place: int) -> Prediction:
    comparisons = tuple(
        _comparison(comparison, source, f"predictions[{place}].comparisons[{number}]")
        for number, comparison in enumerate(found["comparisons"])
    )
    if not comparisons:
        raise ValueError(f"prediction {found['identifier']} has no comparisons; allowed: at least one")
    revised = f" ({found['revised']} after a first run)" if found.get("revised") else ""
    named = re.match(r"[A-Z]+\d+", found["identifier"])
    return Prediction(
        identifier=prose.quoted(found["identifier"]),
        anchor=sourced.anchor(f"prediction-{found['identifier']}"),
        group=named[0] if named else found["identifier"],
        statement=prose.quoted(found["statement"]),
        by=prose.quoted(f"{found['source']}{revised}"),
        expected=prose.quoted(found["expected"]),
        how=prose.quoted(found["measured"]),
        verdict=found["verdict"],
        deciding=next((c for c in comparisons if c.verdict == found["verdict"]), comparisons[0]),
        comparisons=comparisons,
    )


def checked(build: Callable[[], Any], path: Path, command: str) -> Any:
    """What `build` makes of a result file, or an error that names the file.

    Raises:
        ValueError: something in it is missing or of another kind.
    """
    try:
        return build()
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is not as it should be ({error!r}); `{command}` writes it anew") from error


def study(path: Path, name: str) -> Study:
    """The toy study.

    Args:
        path: of its file.
        name: how the page calls the file.

    Raises:
        ValueError: it cannot be read, or lacks something that the page shows.
    """
    document = read_document(path, version=None)

    def build() -> Study:
        seeds = document["configuration"]["seed_numbers"]
        words = f"{len(seeds)}: {', '.join(map(str, seeds))}"
        source = Source(name, "whole file", words, str(document["commit"]), str(document["command"]))
        predictions = tuple(_prediction(p, source, place) for place, p in enumerate(document["predictions"]))
        return Study(document, name, source, predictions)

    made: Study = checked(build, path, COMMAND)
    return made
