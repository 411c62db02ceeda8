"""Claims that measurements decide, in one form: the toy's predictions, the bridge's, and the ladder's by study.

Whatever file a claim's verdict comes from, it is shown as a `Judgement`: whose claim it is, what region was claimed,
what was measured, the verdict, and where there is none the reason. The report and the site print the same fragments of
these (`fragments`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from findings import ladder_page, predictions
from findings.documents import read_document
from findings.ladder import CANNOT_SAY, DISPUTED
from findings.ladder_claims import LadderClaim
from findings.toy_study import COMMAND as TOY_COMMAND
from paper_figs.report import prose, sourced
from paper_figs.report.sourced import Number, Source

BRIDGE_COMMAND = "python -m experiments bridge"
LADDER_COMMAND = "python -m findings"
OWNERS = ladder_page.OWNERS
"""Whose a claim is, in words."""
DECIDED = ("confirmed", "refuted")
VERDICTS = (*DECIDED, DISPUTED, "undecided", "not measured", CANNOT_SAY)
"""In the order in which they are counted; an entry without any is "not said"."""
FORMS = {
    "change": "relative change, of geometric means",
    "excess": "relative excess",
    "difference": "difference",
    "ratio": "ratio",
    "value": "value",
}
"""What a comparison's mean is, by the name that the toy's file gives it."""
TOY_TITLES = {
    "P1": "Frozen features: every method is equally flat",
    "P2": "Learnt features: who flattens",
    "P3": "The mechanism: feature energy",
    "P4": "Rounded weights",
    "P5": "Exposure bias",
    "P6": "Sample quality",
    "P7": "Tolerated shifts of the data",
    "P8": "Flatness or scale",
    "P9": "Cheaper SAM",
}


@dataclass(frozen=True)
class Comparison:
    """One number of a claim with its interval, where there is one, against the region claimed."""

    what: Markup
    region: Number | Markup
    measured: Number | Markup
    verdict: str
    strip: Markup


@dataclass(frozen=True)
class Judgement:
    """A claim with its verdict.

    Attributes:
        identifier: short, unique within its document.
        anchor: of its place on a page.
        owner: a key of OWNERS.
        statement: what is claimed, in plain words.
        by: the source as the file names it, and what else is said of where the claim comes from.
        verdict: one of VERDICTS, or whatever the file says.
        why: the reason where it is not decided; empty where it is.
        deciding: the comparison that decides, or the first.
        comparisons: all of them.
    """

    identifier: Markup
    anchor: Markup
    owner: str
    statement: Markup
    by: Markup
    verdict: str
    why: Markup
    deciding: Comparison
    comparisons: tuple[Comparison, ...]

    @property
    def decided(self) -> bool:
        """Whether it is confirmed, refuted or disputed."""
        return self.verdict in (*DECIDED, DISPUTED)


@dataclass(frozen=True)
class Group:
    """Claims under one title."""

    anchor: Markup
    title: Markup
    judgements: tuple[Judgement, ...]

    def decided(self) -> list[Judgement]:
        """Those with a verdict."""
        return [one for one in self.judgements if one.decided]

    def undecided(self) -> list[Judgement]:
        """The others."""
        return [one for one in self.judgements if not one.decided]


@dataclass(frozen=True)
class Document:
    """All of a file.

    Attributes:
        anchor: of its place.
        name: the file.
        source: of its numbers.
        notes: what its intervals are over, and other words that hold for all of it.
        groups: in order.
        trial: whether the file says that its verdicts may not be quoted.
    """

    anchor: Markup
    name: str
    source: Source
    notes: tuple[Markup, ...]
    groups: tuple[Group, ...]
    trial: bool = False

    def all(self) -> list[Judgement]:
        """Of all groups."""
        return [one for group in self.groups for one in group.judgements]

    def counts(self, group: Group | None = None) -> list[tuple[str, list[tuple[str, Number]]]]:
        """By owner, how many claims there are of each verdict; without those that are none."""
        shown = self.all() if group is None else list(group.judgements)
        return counted(shown, self.source)


def counted(judgements: Sequence[Judgement], source: Source) -> list[tuple[str, list[tuple[str, Number]]]]:
    """By owner (in words), how many judgements of each verdict there are; what there is none of is left out."""
    return _numbered({of: Counter(one.verdict for one in judgements if one.owner == of) for of in OWNERS}, source)


def _numbered(totals: Mapping[str, Mapping[str, int]], source: Source) -> list[tuple[str, list[tuple[str, Number]]]]:
    """`counted`, of numbers by owner and verdict."""
    rows = []
    for owner, of in totals.items():
        there = [verdict for verdict in dict.fromkeys((*VERDICTS, *of)) if of.get(verdict)]
        keys = (f"claims: owner {owner}, verdict {verdict}" for verdict in there)
        numbers = [(v, sourced.counted(of[v], source.at(key))) for v, key in zip(there, keys, strict=True)]
        rows += [(OWNERS[owner], numbers)] if numbers else []
    return rows


def _owner(key: Any) -> str:
    if key not in OWNERS:
        raise ValueError(f"an owner is {key!r}; allowed: {', '.join(OWNERS)}")
    return str(key)


def strip(region: Sequence[float | None], mean: float, low: float, high: float) -> Markup:
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


NOTHING = Comparison(Markup(""), Markup("–"), Markup("–"), "", Markup(""))
"""Where a claim has no number."""


def _why(verdict: str, comparisons: Sequence[Comparison], note: str) -> Markup:
    """Why a claim is not decided: what the file says, or how many intervals cross the region's edge."""
    if verdict in (*DECIDED, DISPUTED):
        return Markup("")
    if note:
        return prose.quoted(note)
    if verdict != "undecided" or not comparisons:
        return prose.quoted("no number")
    inside = sum(one.verdict == "confirmed" for one in comparisons)
    crossing = sum(one.verdict == "undecided" for one in comparisons)
    if len(comparisons) == 1:
        return prose.quoted("the interval crosses the edge of the claimed region")
    return prose.quoted(
        f"{crossing} of {len(comparisons)} intervals cross the edge of the claimed region, {inside} lie inside"
    )


def _deciding(verdict: str, comparisons: Sequence[Comparison]) -> Comparison:
    return next((c for c in comparisons if c.verdict == verdict), comparisons[0] if comparisons else NOTHING)


def checked(build: Callable[[], Any], path: Path, command: str) -> Any:
    """What `build` makes of a result file, or an error that names the file.

    Raises:
        ValueError: something in it is missing or of another kind.
    """
    try:
        return build()
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is not as it should be ({error!r}); `{command}` writes it anew") from error


def _grouped(judgements: Iterable[tuple[str, Judgement]], titles: dict[str, str], prefix: str) -> tuple[Group, ...]:
    """Groups in the order in which they come, each with its title, or its own name where it has none."""
    groups: dict[str, list[Judgement]] = {}
    for name, judgement in judgements:
        groups.setdefault(name, []).append(judgement)
    return tuple(
        Group(sourced.anchor(f"{prefix}-{name}"), prose.quoted(titles.get(name, name)), tuple(members))
        for name, members in groups.items()
    )


# The toy's predictions


def _toy_comparison(entry: dict[str, Any], source: Source, key: str) -> Comparison:
    numbers = entry["mean"], entry["low"], entry["high"]
    level = f"mean and {entry['level']:.6g} interval over {entry['seeds']} seeds"
    form = FORMS.get(entry["form"], entry["form"])
    return Comparison(
        prose.quoted(f"{entry['what']}, {form}"),
        sourced.region(entry["region"], source.at(f"{key}.region")),
        sourced.with_interval(*numbers, source.at(f"{key}: {level}")),
        entry["verdict"],
        strip(entry["region"], *numbers),
    )


def _toy_prediction(entry: dict[str, Any], source: Source, place: int) -> tuple[str, Judgement]:
    comparisons = tuple(
        _toy_comparison(comparison, source, f"predictions[{place}].comparisons[{number}]")
        for number, comparison in enumerate(entry["comparisons"])
    )
    if not comparisons:
        raise ValueError(f"prediction {entry['identifier']} has no comparisons; allowed: at least one")
    revised = f"; {entry['revised']} after a first run" if entry.get("revised") else ""
    named = re.match(r"[A-Z]+\d+", entry["identifier"])
    verdict = str(entry["verdict"])
    judgement = Judgement(
        identifier=prose.quoted(entry["identifier"]),
        anchor=sourced.anchor(f"prediction-{entry['identifier']}"),
        owner=_owner(entry["source"]),
        statement=prose.quoted(entry["statement"]),
        by=prose.quoted(f"expected: {entry['expected']}; measured: {entry['measured']}{revised}"),
        verdict=verdict,
        why=_why(verdict, comparisons, ""),
        deciding=_deciding(verdict, comparisons),
        comparisons=comparisons,
    )
    return (named[0] if named else entry["identifier"]), judgement


def toy(path: Path, name: str) -> Document:
    """The toy's predictions.

    Args:
        path: of the file.
        name: how the page calls it.

    Raises:
        ValueError: it cannot be read, or lacks something that is shown.
    """
    document = read_document(path, version=None)

    def build() -> Document:
        seeds = document["configuration"]["seed_numbers"]
        words = f"{len(seeds)}: {', '.join(map(str, seeds))}"
        source = Source(name, "whole file", words, str(document["commit"]), str(document["command"]))
        predicted = [_toy_prediction(p, source, place) for place, p in enumerate(document["predictions"])]
        interval = str(document.get("interval", "intervals as the file says"))
        return Document(
            Markup("predictions"),
            name,
            source,
            (prose.quoted(f"{interval}; {len(seeds)} seeds."),),
            _grouped(predicted, TOY_TITLES, "group"),
            trial=not document.get("verdicts_may_be_quoted", False),
        )

    made: Document = checked(build, path, TOY_COMMAND)
    return made


# The bridge's predictions


def _number(value: Any, source: Source) -> Number | Markup:
    """A number of a file; "–" where there is none."""
    if value is None:
        return Markup("–")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return prose.quoted(str(value))
    return sourced.plain(value, source)


def _measured(entry: dict[str, Any], source: Source) -> Number | Markup:
    value, ends = entry.get("measured"), entry.get("interval")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and isinstance(ends, list) and len(ends) == 2 and all(isinstance(end, int | float) for end in ends):
        return sourced.with_interval(float(value or 0.0), float(ends[0]), float(ends[1]), source)
    return _number(value, source)


def _bridge_comparison(
    entry: dict[str, Any], region: Sequence[float | None] | None, source: Source, key: str
) -> Comparison:
    ends = entry.get("interval")
    drawn = Markup("")
    if region is not None and isinstance(ends, list) and isinstance(entry.get("measured"), int | float):
        drawn = strip(region, entry["measured"], *ends)
    claimed: Number | Markup = Markup("–")
    if region is not None:
        claimed = sourced.region(list(region), source.at(f"{key}.region"))
    return Comparison(
        prose.quoted(str(entry.get("what") or "")),
        claimed,
        _measured(entry, source.at(f"{key}.measured")),
        str(entry.get("verdict") or "not said"),
        drawn,
    )


def _bridge_prediction(entry: dict[str, Any], source: Source, place: int) -> tuple[str, Judgement]:
    key = f"predictions[{place}]"
    region = entry.get("region")
    if region is not None and (not isinstance(region, list) or len(region) != 2 or region == [None, None]):
        raise ValueError(f"{key}.region is {region!r}; allowed: two ends, one of which may be open")
    listed = entry.get("comparisons") or []
    comparisons = tuple(
        _bridge_comparison(one, region, source, f"{key}.comparisons[{number}]") for number, one in enumerate(listed)
    )
    own = _bridge_comparison({**entry, "what": entry.get("deciding")}, region, source, key)
    verdict = str(entry.get("verdict") or "not said")
    parts = [str(entry.get(name)) for name in ("source", "of", "rule", "where") if entry.get(name)]
    predicted = entry.get("predicted")
    if predicted is not None:
        ends = entry.get("predicted_interval")
        between = f" [{predictions.number(ends[0])}, {predictions.number(ends[1])}]" if ends else ""
        parts.append(f"predicted {sourced.shown(float(predicted), 4)}{between}")
    note = str(entry.get("note") or "")
    judgement = Judgement(
        identifier=prose.quoted(str(entry["identifier"])),
        anchor=sourced.anchor(f"{source.file}-{entry['identifier']}"),
        owner=_owner(entry.get("owner", "question")),
        statement=prose.quoted(str(entry.get("statement") or entry["identifier"])),
        by=prose.quoted("; ".join(parts)),
        verdict=verdict,
        why=_why(verdict, comparisons or (own,), note if verdict == "not measured" else ""),
        deciding=own,
        comparisons=comparisons,
    )
    return str(entry["identifier"])[:2], judgement


def bridge(path: Path, name: str) -> Document:
    """What trained networks say to the predictions: one bridge.json.

    Raises:
        ValueError: it cannot be read, or its predictions are no list of objects with an identifier.
    """
    document = read_document(path, version=None)

    def build() -> Document:
        def of(key: str, otherwise: str) -> str:
            value = document.get(key)
            return otherwise if value in (None, "", [], {}) else str(value)

        where = document.get("provenance") or {}
        commit = of("commit", str(where.get("commit") or "not recorded") if isinstance(where, dict) else "not recorded")
        seeds = of("seeds", "as the rows say")
        source = Source(name, "whole file", seeds, commit, of("command", BRIDGE_COMMAND))
        judgements = [_bridge_prediction(row, source, place) for place, row in enumerate(document["predictions"])]
        notes = [predictions.about_seeds(document)] if isinstance(document.get("seeds"), int) else []
        return Document(
            sourced.anchor(f"bridge-{name}"),
            name,
            source,
            tuple(prose.quoted(note) for note in [*notes, *([str(document["rule"])] if document.get("rule") else [])]),
            _grouped(judgements, predictions.TITLES, sourced.anchor(f"bridge-{name}")),
        )

    made: Document = checked(build, path, BRIDGE_COMMAND)
    return made


# The ladder's claims, study by study


@dataclass(frozen=True)
class LadderRow:
    """A claim of the ladder: a judgement a study, and what the paper's tables say.

    Attributes:
        claim: as data.
        anchor: of its place.
        statement, owner, regime: of the claim, in words.
        region: that is claimed, for every study alike.
        judgements: by the study's name.
    """

    claim: LadderClaim
    anchor: Markup
    statement: Markup
    owner: str
    regime: Markup
    region: Number
    judgements: dict[str, Judgement]

    @property
    def decided(self) -> bool:
        """Whether a study decides it."""
        return any(one.decided for one in self.judgements.values())


@dataclass(frozen=True)
class Ladder:
    """All claims by study.

    Attributes:
        studies: rung and name of each, in order.
        rows: a claim each.
        counts: by owner, how many claims and studies there are of each verdict; what is of another regime is none.
        unfinished: which rungs lack runs, in a sentence, or empty.
    """

    studies: tuple[tuple[Markup, Markup], ...]
    names: tuple[str, ...]
    rows: tuple[LadderRow, ...]
    counts: list[tuple[str, list[tuple[str, Number]]]]
    unfinished: Markup


def _ratio(value: float) -> str:
    return sourced.shown(math.exp(value))


def _ladder_comparison(one: dict[str, Any], claim: LadderClaim, source: Source) -> Comparison:
    dose = (f" {one['space']}" if one.get("space") else "") + (f" at the dose {one['dose']}" if one["dose"] else "")
    ratios = claim.form != "difference"
    words = _ratio if ratios else sourced.shown
    ends = [None if math.isinf(end) else end for end in claim.region]
    if "low" not in one:
        text = words(one["mean"]) if "mean" in one else "–"
        measured: Number | Markup = Number(text, one["mean"], source) if "mean" in one else Markup("–")
        inside = "" if "holds" not in one else "confirmed" if one["holds"] else "refuted"
        return Comparison(prose.quoted(one["quantity"] + dose), Markup(""), measured, inside, Markup(""))
    text = f"{words(one['mean'])} [{words(one['low'])}, {words(one['high'])}]"
    return Comparison(
        prose.quoted(one["quantity"] + dose + (", ratio" if ratios else "")),
        Markup(""),
        Number(("× " if ratios else "") + text, one["mean"], source),
        one["verdict"],
        strip(ends, one["mean"], one["low"], one["high"]),
    )


def _claimed(claim: LadderClaim, source: Source) -> Number:
    """The claimed region, of ratios where the claim is of logarithms. It stands once a claim, not once a comparison."""
    low, high = claim.region
    words = _ratio if claim.form != "difference" else sourced.shown
    if math.isinf(low):
        return Number(f"below {words(high)}", high, source)
    if math.isinf(high):
        return Number(f"above {words(low)}", low, source)
    return Number(f"{words(low)} to {words(high)}", low, source)


def _seeds(cell: ladder_page.Cell) -> str:
    """How many seeds would decide what is open."""
    if cell.verdict != "undecided":
        return ""
    seeds = ladder_page.most_seeds(cell)
    crossing = "the interval crosses the edge of the claimed region"
    return f"{crossing}; {f'{seeds} seeds' if seeds is not None else f'no {ladder_page.MOST_SEEDS} seeds'} would decide"


def ladder(folder: Path) -> Ladder | None:
    """The ladder's claims, from the results that there are; None where there are none.

    Raises:
        ValueError: a result cannot be read.
    """
    columns = ladder_page.columns_of(folder)
    if not columns:
        return None
    source = Source(
        f"results/ladder/{ladder_page.DOCUMENT}",
        "whole file",
        "as the study says",
        "each result file has its own",
        LADDER_COMMAND,
    )
    rows = []
    for claim in ladder_page.all_claims():
        judgements = {}
        for column in columns:
            cell = column.cells.get(claim.identifier)
            if cell is None:
                continue
            origin = source.at(f"claims: {claim.identifier}, cells: {column.name}")
            compared = tuple(_ladder_comparison(one, claim, origin) for one in cell.comparisons)
            why = cell.why or _seeds(cell)
            judgements[column.name] = Judgement(
                identifier=prose.quoted(column.name),
                anchor=sourced.anchor(f"ladder-{claim.identifier}-{column.name}"),
                owner=claim.owner,
                statement=prose.quoted(column.name),
                by=Markup(""),
                verdict=cell.verdict,
                why=_why(cell.verdict, compared, why),
                deciding=_deciding(cell.verdict, compared),
                comparisons=compared,
            )
        rows.append(
            LadderRow(
                claim,
                sourced.anchor(f"ladder-{claim.identifier}"),
                prose.quoted(claim.statement),
                OWNERS[claim.owner],
                prose.quoted("every regime" if claim.regime == "any" else claim.regime),
                _claimed(claim, source.at(f"claims: {claim.identifier}.region")),
                judgements,
            )
        )
    studies = tuple((prose.quoted(column.rung), prose.quoted(column.regime or column.study)) for column in columns)
    return Ladder(
        studies,
        tuple(column.name for column in columns),
        tuple(rows),
        _numbered(ladder_page.counts(columns), source),
        prose.quoted(ladder_page.unfinished(columns)),
    )
