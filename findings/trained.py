"""Trained networks' result files, as `python -m experiments reproduce` writes them: found, checked and read.

A study is a folder with plan.json, rows/<run>-<average>.json and samples/. Those of the checkout are results/*/; others
are looked for in the folder that FLATNESS_RUNS names (`use`), itself a study or a folder of studies. What a run is of
(method, radius, seed) is read from the plan's configuration, never from its name.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from findings.documents import FAILED, at, read_document
from findings.estimates import FEWEST, Cell, change_of, estimate, over_seeds
from findings.files import plain_name
from findings.names import AVERAGES, FULL, PAPER_RADIUS, Average, RowName, low_pass
from findings.provenance import ROOT

RUNS_VARIABLE = "FLATNESS_RUNS"
"""The environment variable that names a folder with studies of trained networks outside the checkout."""
TITLES = {"cifar10": "CIFAR-10", "lsun-tower": "LSUN Tower", "ffhq": "FFHQ", "fashion-mnist": "Fashion-MNIST"}
PAPERS = ("cifar10", "lsun-tower", "ffhq")
"""The paper's data sets."""
LEVEL = 0.95
"""Of the interval over seeds."""

Found = dict[str, Any]


def outside() -> Path | None:
    """The folder that RUNS_VARIABLE names: a study, or a folder of studies; None where it is not set."""
    named = os.environ.get(RUNS_VARIABLE)
    return Path(named).resolve() if named else None


@dataclass(frozen=True, eq=False)
class Row:
    """One average of one run.

    Attributes:
        path: of its file.
        run: the run's name.
        method: "adm", "ip", "sam" or "ip+sam".
        average: "raw", "ema" or "swa".
        rho: SAM's radius; None for a method that has none.
        seed: of training.
        document: the file's content.
    """

    path: Path
    run: str
    method: str
    average: Average
    rho: float | None
    seed: int
    document: dict[str, Any]

    def why_missing(self, measure: str) -> str | None:
        """Why there is no such measure: it was not taken, or it failed; None where it is there."""
        measures = at(self.document, ["measures"], self.path)
        if measure not in measures:
            return "not measured"
        reason = measures[measure].get(FAILED)
        return None if reason is None else f"failed ({self.run}): {reason}"

    def failed(self, measure: str) -> bool:
        """Whether the measure could not be taken."""
        return FAILED in at(self.document, ["measures"], self.path).get(measure, {})

    def measure(self, *keys: str | int) -> Any:
        """What stands in a measure, its name first, as in the file.

        Raises:
            ValueError: it is not there; the file and the key are named.
        """
        return at(self.document, ["measures", *keys], self.path)

    def estimate(self, *keys: str | int) -> Cell:
        """A number with its standard error: over images and over draws, in quadrature; None where it has none.

        The key "extrapolated" of a distance has the distance's own error.

        Raises:
            ValueError: what stands there is no number.
        """
        entry = self.measure(*keys)
        holder = self.measure(*keys[:-1]) if keys[-1] == "extrapolated" else entry
        value = entry["value"] if isinstance(entry, dict) and "value" in entry else entry
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{self.path}: {'.'.join(map(str, keys))} is no number")
        with_error = isinstance(holder, dict) and ("standard_error" in holder or "draw_standard_error" in holder)
        return estimate(holder)._replace(value=float(value)) if with_error else Cell(float(value))

    def change(self, after: str, before: str) -> Cell:
        """The difference of two distances, with the jackknife's error over the same groups of images.

        Raises:
            ValueError: the two were not taken over the same groups.
        """
        try:
            return change_of(self.document, after, before)
        except ValueError as error:
            raise ValueError(f"{self.path}: {after} less {before}: {error}") from error


def combined(cells: Sequence[Cell]) -> Found:
    """A number of each seed as {"mean", "low", "high", "seeds", "standard_error", "interval"}.

    Several seeds: their mean with Student's t interval. One: the number, and one standard error to either side.
    """
    whole = over_seeds(cells)
    if len(cells) >= FEWEST:
        from findings.verdicts import mean_interval  # loads scipy, which asking for a study does not need

        interval = mean_interval([cell.value for cell in cells], level=LEVEL)
        low, high, words = interval.low, interval.high, f"{LEVEL:.0%} interval over seeds"
    else:
        half = whole.error or 0.0
        low, high = whole.value - half, whole.value + half
        words = "none" if whole.error is None else "1 standard error over images and draws"
    return {
        "mean": whole.value,
        "low": low,
        "high": high,
        "seeds": len(cells),
        "standard_error": whole.error,
        "interval": words,
    }


@dataclass(frozen=True, eq=False)
class Study:
    """A folder of trained networks and their measures; rows are read when they are first asked for.

    Attributes:
        folder: where it is.
        name: the folder's name.
        plan: plan.json.

    In all methods `method` is a row's name as the paper writes it: "adm", "sam+ema". `rho` is a radius of SAM's;
    `main_rho` where it is None.
    """

    folder: Path
    name: str
    plan: dict[str, Any]

    def __post_init__(self) -> None:
        """Check the plan.

        Raises:
            ValueError: it lacks something, or its runs are of several data sets.
        """
        if not isinstance(at(self.plan, ["settings", "runs"], self._plan_file), dict) or not self.configurations:
            raise ValueError(f"{self._plan_file}: settings.runs names no run; allowed: configurations by name")
        for name in self.configurations:
            plain_name(name)
            for keys in (("dataset",), ("method",), ("seed",), ("steps",), ("sam", "rho"), ("network", "image_size")):
                at(self.plan, ["settings", "runs", name, *keys], self._plan_file)
        datasets = {configuration["dataset"] for configuration in self.configurations.values()}
        if len(datasets) != 1:
            raise ValueError(f"{self._plan_file}: settings.runs are of data sets {sorted(datasets)}; allowed: one")

    @property
    def _plan_file(self) -> Path:
        return self.folder / "plan.json"

    @property
    def configurations(self) -> dict[str, dict[str, Any]]:
        """Of each run, by its name."""
        return dict(at(self.plan, ["settings", "runs"], self._plan_file))

    @property
    def evaluation(self) -> dict[str, Any]:
        """The settings of all measures."""
        return dict(at(self.plan, ["settings", "evaluation"], self._plan_file))

    @property
    def _first(self) -> dict[str, Any]:
        return next(iter(self.configurations.values()))

    @property
    def dataset(self) -> str:
        """Its name in the plan, as "cifar10"."""
        return str(self._first["dataset"])

    @property
    def title(self) -> str:
        """The data set's name in words."""
        return TITLES.get(self.dataset, self.dataset)

    @property
    def image_size(self) -> int:
        """Pixels a side."""
        return int(self._first["network"]["image_size"])

    @property
    def steps(self) -> int:
        """Of training."""
        return int(self._first["steps"])

    @property
    def seeds(self) -> list[int]:
        """Of training."""
        return sorted({int(configuration["seed"]) for configuration in self.configurations.values()})

    @property
    def radii(self) -> list[float]:
        """SAM's, from the smallest up."""
        return sorted({float(c["sam"]["rho"]) for c in self.configurations.values() if "sam" in c["method"]})

    @property
    def main_rho(self) -> float | None:
        """The radius shown where one is: the paper's first, else the largest; None where no run is SAM's."""
        return PAPER_RADIUS if PAPER_RADIUS in self.radii else max(self.radii, default=None)

    @property
    def sampling_steps(self) -> list[int]:
        """T' of samples and of exposure bias."""
        return [int(steps) for steps in at(self.evaluation, ["sampling_steps"], self._plan_file)]

    def shortest(self, wanted: int = 20) -> int:
        """The T' asked for where it was measured, else the least that was."""
        return wanted if wanted in self.sampling_steps else min(self.sampling_steps)

    @cached_property
    def rows(self) -> list[Row]:
        """All that are there, in the plan's order.

        Raises:
            ValueError: a file is broken, of another version, or of another configuration than the plan's.
        """
        rows = []
        for run, configuration in self.configurations.items():
            rho = float(configuration["sam"]["rho"]) if "sam" in configuration["method"] else None
            for average in AVERAGES:
                path = self.folder / "rows" / f"{run}-{average}.json"
                if not path.is_file():
                    continue
                document = read_document(path)
                if not _of_one_run(at(document, ["settings", "configuration"], path), configuration):
                    raise ValueError(f"{path}: settings.configuration is not that of {run} in {self._plan_file}")
                row = Row(path, run, configuration["method"], average, rho, int(configuration["seed"]), document)
                at(document, ["measures"], path)
                rows.append(row)
        return rows

    @cached_property
    def parameters(self) -> int | None:
        """How many weights a network has; None before there is a row that says so."""
        for row in self.rows:
            for keys in (("readout", "weights", "count"), (low_pass("absolute"), "settings", "weights")):
                if row.why_missing(keys[0]) is None:
                    return int(row.measure(*keys))
        return None

    def scale(self) -> str:
        """Data set and scale in words: "Fashion-MNIST 16 x 16, 1.4 M parameters, 2,000 steps"."""
        count = (
            "" if self.parameters is None else f"{self.parameters / 1e6:.{int(self.parameters < 1e7)}f} M parameters, "
        )
        return f"{self.title} {self.image_size} × {self.image_size}, {count}{self.steps:,} steps"

    def replicates(self) -> str:
        """How many runs a method has, in words: "1 run a method", "3 seeds a method"."""
        return "1 run a method" if len(self.seeds) == 1 else f"{len(self.seeds)} seeds a method"

    def face(self) -> str:
        """What a panel says of its data: data set, scale, number of runs."""
        return f"{self.scale()}, {self.replicates()}"

    def rows_of(self, method: str, rho: float | None = None) -> list[Row]:
        """A row's files, one a seed."""
        name = RowName.of(method)
        wanted = (self.main_rho if rho is None else rho) if "sam" in name.method else None
        return [row for row in self.rows if (row.method, row.average, row.rho) == (name.method, name.average, wanted)]

    def row(
        self, method: str, average: Average = "raw", rho: float | None = None, seed: int | None = None
    ) -> Row | None:
        """One file, of the first seed where none is named; None where it is not there.

        Args:
            method: of training, "adm", "ip", "sam" or "ip+sam".
            average: "raw", "ema" or "swa".
            rho: SAM's radius.
            seed: of training.
        """
        rows = [row for row in self.rows_of(str(RowName(method, average)), rho) if seed in (None, row.seed)]
        return min(rows, key=lambda row: row.seed, default=None)

    def why_missing(self, method: str, measure: str, rho: float | None = None) -> str | None:
        """Why a row has no such number; None where every seed has it."""
        rows = self.rows_of(method, rho)
        reasons = [why for row in rows if (why := row.why_missing(measure)) is not None]
        return reasons[0] if reasons else None if rows else "no row yet"

    def failed(self, method: str, measure: str, rho: float | None = None) -> bool:
        """Whether `why_missing` tells of a failure: the first row that lacks the measure has failed in it."""
        lacking = (row for row in self.rows_of(method, rho) if row.why_missing(measure) is not None)
        first = next(lacking, None)
        return first is not None and first.failed(measure)

    def value(self, method: str, measure: str, *keys: str | int, rho: float | None = None) -> Found:
        """A number of a row with its interval, as `combined` makes it, or {"missing": why}.

        Args:
            method: the row, "sam+ema".
            measure: "lpf-absolute", "frechet-20-8", ...
            keys: where it stands in the measure: "value", or "rise"; none for a measure that is a value itself.
            rho: SAM's radius.
        """
        why = self.why_missing(method, measure, rho)
        if why is not None:
            return {"missing": why}
        return combined([row.estimate(measure, *keys) for row in self.rows_of(method, rho)])

    def series(self, method: str, measure: str, *keys: str | int, rho: float | None = None) -> Found:
        """The same of a list of numbers: each key of `combined` holds a list, but for seeds and interval."""
        why = self.why_missing(method, measure, rho)
        if why is not None:
            return {"missing": why}
        count = len(self.rows_of(method, rho)[0].measure(measure, *keys))
        numbers = [self.value(method, measure, *keys, place, rho=rho) for place in range(count)]
        lists = {key: [one[key] for one in numbers] for key in ("mean", "low", "high", "standard_error")}
        return lists | {key: numbers[0][key] for key in ("seeds", "interval") if numbers}

    def samples(self, method: str, steps: int, bits: int = FULL, rho: float | None = None) -> Path | None:
        """The PNG of 8 x 8 samples of the EMA of a method's first seed; None where there is none.

        Args:
            method: of training, "adm", "ip", "sam".
            steps: T'.
            bits: of the weights.
            rho: SAM's radius.
        """
        row = self.row(method, "ema", rho)
        path = self.folder / "samples" / f"{row.run}-T{steps}-{bits}bit.png" if row else None
        return path if path is not None and path.is_file() else None

    def bridge(self) -> dict[str, Any] | None:
        """What `python -m experiments bridge` wrote; None where it did not."""
        path = self.folder / "bridge.json"
        return read_document(path, version=None) if path.is_file() else None


def use(path: Path | str) -> None:
    """Look for studies in this folder too, from now on.

    Raises:
        ValueError: it is no folder, or neither a study nor a folder of studies.
    """
    folder = Path(path).resolve()
    if not folder.is_dir() or not _folders(folder):
        raise ValueError(f"runs is {folder}; allowed: a folder with plan.json, as reproduce writes it, or one of such")
    os.environ[RUNS_VARIABLE] = str(folder)


def _folders(base: Path) -> list[Path]:
    places = [base / "plan.json", *sorted(base.glob("*/plan.json"))]
    return [place.parent for place in places if place.is_file()]


def studies(root: Path | None = None) -> list[Study]:
    """All that are found: those of the folder named by `use` first, then the checkout's.

    Raises:
        ValueError: a plan is broken or of another version, or FLATNESS_RUNS names no folder.
    """
    other = outside()
    if other is not None and not other.is_dir():
        raise ValueError(f"{RUNS_VARIABLE} is {other}; allowed: a folder")
    folders = [*(_folders(other) if other is not None else []), *_folders((root or ROOT) / "results")]
    unique = dict.fromkeys(folder.resolve() for folder in folders)
    return [Study(folder, folder.name, read_document(folder / "plan.json")) for folder in unique]


def of_dataset(name: str, root: Path | None = None) -> Study | None:
    """The study of a data set: of several the first of `studies`; None where there is none.

    Within one place the one trained longest at the largest images comes first.
    """
    matching = [study for study in studies(root) if study.dataset == name]
    other = outside()

    def order(study: Study) -> tuple[bool, int, int]:
        ours = other is None or not study.folder.is_relative_to(other)
        return ours, -study.image_size, -study.steps

    return min(matching, key=order, default=None)


def small(root: Path | None = None) -> Study | None:
    """Ours: the study on Fashion-MNIST."""
    return of_dataset("fashion-mnist", root)


def _of_one_run(one: Any, other: Any) -> bool:
    """Whether two stored configurations are the same, but for fields that an earlier version had not.

    A plan may be older than the code that went on with it, which has held the two against each other.
    """
    if not isinstance(one, dict) or not isinstance(other, dict) or one.get("version") == other.get("version"):
        return bool(one == other)
    return all(_alike(one[name], other[name]) for name in one.keys() & other.keys() if name != "version")


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_alike(one[name], other[name]) for name in one.keys() & other.keys())
    return bool(one == other)
