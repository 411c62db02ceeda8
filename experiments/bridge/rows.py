"""Predictions about rows as data: what is claimed, in which region numbers must lie, and the numbers with their errors.

A comparison is one number of one row, or of one row against another, for each training seed. Where there is one seed,
its error is over images, draws and samples, and it speaks of these networks, not of the methods; where there are more,
the error is over seeds. Verdicts are given in `findings.verdicts` and nowhere else.

What the bridge reads: rows, their files of the first stage, snapshots, and the paper's printed numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from experiments.configuration import Configuration
from experiments.measures.layer_rows import LAYERS, SNAPSHOTS, Plan
from findings.documents import FAILED, ResultError, read_document, refuse_other
from findings.estimates import Cell
from findings.ladder_claims import Owner
from findings.names import AVERAGES, Average, RowName, group_of
from findings.verdicts import Region

INFINITE = math.inf
Kept = Mapping[str, Any]


class Entry(NamedTuple):
    """One row of the folder: an average of a run.

    Attributes:
        run, average, method, rho, seed: which; rho 0 where the method moves no weights.
        label: method, rho where there are several, average: the same for every training seed.
        row: its result file; None where there is none.
        layers: its file of the first stage; None where there is none.
    """

    run: str
    average: Average
    method: str
    rho: float
    seed: int
    label: str
    row: Kept | None
    layers: Kept | None

    def measure(self, name: str) -> Any:
        """A measure of the row; None where it is missing or failed."""
        return _measure(self.row, name)

    def layered(self, name: str) -> Any:
        """A measure of the first stage; None where it is missing or failed."""
        return _measure(self.layers, name)


def _measure(document: Kept | None, name: str) -> Any:
    result = None if document is None else document["measures"].get(name)
    return None if result is None or (isinstance(result, Mapping) and FAILED in result) else result


@dataclass(frozen=True)
class Comparison:
    """A number, and where it is from.

    Attributes:
        label: what is compared with what.
        values: one for each training seed; one alone with an error over images and draws.
        interval: where it was computed already, at the judge's level; None to take it from the values.
        rows: the labels of the rows that it is of; none where it is of all, or of none.
    """

    label: str
    values: tuple[Cell, ...]
    interval: tuple[float, float] | None = None
    rows: tuple[str, ...] = ()


class By(NamedTuple):
    """Whose a claim is.

    Attributes:
        owner: the paper's, of our theory (or of the toy, which computes it), or an open question.
        words: which theorem, section or prediction.
    """

    owner: Owner
    words: str


@dataclass(frozen=True)
class Claim:
    """A prediction.

    Attributes:
        identifier: B, a number and a letter.
        statement: what is claimed.
        source: by whom.
        region: the open interval in which the numbers must lie.
        comparisons: all must; none where nothing was measured.
        how: how it is measured, and what its error is over.
        where: the files and keys that the numbers are from.
        predicted: the number that is predicted, where there is one.
        predicted_interval: of it, where there is one.
        note: what else has to be said.
        printed: it is of the paper's printed numbers, and not of these networks.
    """

    identifier: str
    statement: str
    source: By
    region: tuple[float, float]
    comparisons: tuple[Comparison, ...]
    how: str
    where: str
    predicted: float | None = None
    predicted_interval: tuple[float, float] | None = None
    note: str = ""
    printed: bool = False

    @property
    def group(self) -> str:
        """B1, ..., B7: the comparisons of a group are corrected together."""
        return group_of(self.identifier)

    @property
    def regions(self) -> tuple[Region, ...]:
        """The region, for each comparison."""
        return (Region(*self.region),) * len(self.comparisons)


class Rows:
    """All entries of a folder.

    Attributes:
        entries: as given.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        """In the order given."""
        self.entries = list(entries)

    @property
    def labels(self) -> list[str]:
        """Each once."""
        return list(dict.fromkeys(entry.label for entry in self.entries))

    @property
    def seeds(self) -> int:
        """Training seeds of the row that has fewest."""
        return min((len(self.of(label)) for label in self.labels), default=0)

    def of(self, label: str) -> list[Entry]:
        """A row's entries, one for each training seed."""
        return [entry for entry in self.entries if entry.label == label]

    def pairs(self, label: str, against: str) -> list[tuple[Entry, Entry]]:
        """Two rows' entries of the same training seeds."""
        others = {entry.seed: entry for entry in self.of(against)}
        return [(entry, others[entry.seed]) for entry in self.of(label) if entry.seed in others]

    def counterparts(self, method: str, against: str) -> list[tuple[str, str]]:
        """Labels of a method's rows (every rho), each with that of the other method's row of the same average."""
        counterparts = {}
        for entry in self.entries:
            if entry.method == method:
                same = [e.label for e in self.entries if e.method == against and e.average == entry.average]
                if same:
                    counterparts[entry.label] = same[0]
        return list(counterparts.items())

    def averages(self) -> list[tuple[str, str]]:
        """Labels of averages, each with that of the raw weights of the same run."""
        pairs = {}
        for entry in self.entries:
            raw = [e.label for e in self.entries if e.run == entry.run and e.average == "raw"]
            if entry.average != "raw" and raw:
                pairs[entry.label] = raw[0]
        return list(pairs.items())

    def each(self, number: Callable[[Entry], Cell | None]) -> tuple[Comparison, ...]:
        """A comparison for each row that has the number."""
        comparisons = [
            Comparison(label, _all(number(entry) for entry in self.of(label)), rows=(label,)) for label in self.labels
        ]
        return tuple(one for one in comparisons if one.values)

    def against(
        self, pairs: Iterable[tuple[str, str]], number: Callable[[Entry, Entry], Cell | None]
    ) -> tuple[Comparison, ...]:
        """A comparison for each pair of rows that has the number."""
        comparisons = [
            Comparison(f"{a} against {b}", _all(number(*entries) for entries in self.pairs(a, b)), rows=(a, b))
            for a, b in pairs
        ]
        return tuple(one for one in comparisons if one.values)


def _all(values: Iterable[Cell | None]) -> tuple[Cell, ...]:
    """None at all where one is missing, as a mean over other seeds would be another number."""
    cells = list(values)
    return tuple(cell for cell in cells if cell is not None) if None not in cells else ()


SHARED = ("options", "noise", "device")
"""Settings that all files of the first stage have to share."""


def row_documents(plan: Plan) -> dict[tuple[str, Average], dict[str, Any]]:
    """The rows' documents by run and average, each held against the plan.

    Raises:
        ResultError: rows are missing, cannot be read, or are of another plan.
    """
    documents: dict[tuple[str, Average], dict[str, Any]] = {}
    missing = []
    for run, configuration in plan.runs.items():
        for average in AVERAGES:
            path = plan.folder / "rows" / f"{run}-{average}.json"
            if path.exists():
                document = read_document(path)
                try:  # of an older version, perhaps
                    there = Configuration.from_dict(document["settings"]["configuration"])
                except (KeyError, TypeError, AttributeError, ValueError) as error:
                    raise ResultError(f"{path} names no configuration that can be read: {error!r}") from error
                refuse_other(path, {"configuration": there.to_dict()}, {"configuration": configuration.to_dict()})
                documents[run, average] = document
            elif average != "swa" or configuration.swa_models:
                missing.append(path.name)
    if missing:
        raise ResultError(
            f"{plan.folder / 'rows'} lacks {', '.join(missing)}; give the same `reproduce` again, or only "
            "--stage measure"
        )
    return documents


def read(plan: Plan) -> tuple[Rows, dict[str, dict[str, Any]]]:
    """All rows with their files of the first stage, and the runs' snapshots.

    Raises:
        ResultError: a file is missing, cannot be read, or is of other settings than the others.
    """
    radii = {c.sam.rho for c in plan.runs.values() if c.perturbs_weights}
    entries: list[Entry] = []
    settings: dict[str, Any] = {}
    for (run, average), document in row_documents(plan).items():
        layers = _first_stage(plan, f"{run}-{average}", settings)
        wanted = {"checkpoint": document["settings"]["checkpoint"]}
        there = {"checkpoint": layers["settings"].get("checkpoint")}
        refuse_other(plan.folder / LAYERS / f"{run}-{average}.json", there, wanted)
        configuration = plan.runs[run]
        rho = configuration.sam.rho if configuration.perturbs_weights else 0.0
        label = str(RowName(configuration.method, average, rho if rho and len(radii) > 1 else None))
        entries.append(Entry(run, average, configuration.method, rho, configuration.seed, label, document, layers))
    names = {run: f"{run}-{SNAPSHOTS}" for run in plan.runs}
    snapshots = {run: name for run, name in names.items() if (plan.folder / LAYERS / f"{name}.json").exists()}
    return Rows(entries), {run: _first_stage(plan, name, settings) for run, name in snapshots.items()}


def _first_stage(plan: Plan, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """A file of the first stage; its settings are held against those of the first one read, which are noted.

    Raises:
        ResultError: it is missing, cannot be read, or is of other settings.
    """
    path = plan.folder / LAYERS / f"{name}.json"
    if not path.exists():
        raise ResultError(f"{path} is missing; allowed: a folder that --stage measure is done with")
    document = read_document(path)
    shared = {key: document["settings"].get(key) for key in SHARED}
    settings.update({} if settings else shared)
    refuse_other(path, shared, settings)
    return document
