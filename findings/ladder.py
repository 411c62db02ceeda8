"""The ladder's claims on trained networks judged: from runs measured at their points to a verdict a claim and study.

Reads the files that `reproduce --at` writes, one a run; knows what a selection of rows is (`ladder_claims`), and gives
a number a seed for each side of a comparison. Nothing here is computed with weights.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy import ndarray

from findings.documents import read_document
from findings.ladder_claims import (
    AT_8_BITS,
    CLAIMS,
    LEVEL,
    MEMORISED,
    STEP_NOISE,
    LadderClaim,
    Selection,
    Weights,
)
from findings.toy_ladder_claims import BetweenRegimes
from findings.verdicts import Interval, Outcome, Region, Verdict, judge, mean_interval, seeds_to_decide, together

LATE = 0.8
"""Raw rows are means over points from this share of a run on, as the runs were measured."""
SPACES = ("features", "pixels")
PAPERS_FALL = 1 - 0.063 / 0.097
"""By which SAM lowers the low-pass filter's value on CIFAR-10 (the paper's Table 3)."""
NOTHING = 1e-6
"""What is left of a rise that is not above zero, as a share."""
CANNOT_SAY, DISPUTED = "cannot say", "disputed"


class LadderError(ValueError):
    """A study's files do not make a study."""


class RunKey(NamedTuple):
    """A run: method, dose (SAM's radius or the weights' noise; 0 for none) and seed."""

    method: str
    dose: float
    seed: int

    def __str__(self) -> str:
        """For people."""
        return f"{self.method} at {self.dose:g}, seed {self.seed},"


class RowKey(NamedTuple):
    """A row: method, dose (0 for plain training) and which of its weights."""

    method: str
    dose: float
    weights: Weights

    @property
    def plain(self) -> RowKey:
        """Plain training's row with the same weights."""
        return RowKey("adm", 0.0, self.weights)


class Measure(NamedTuple):
    """What a claim compares, by its name.

    Attributes:
        name: as claims have it.
        space: in which a distance is taken; "" where there is one alone, or no distance.
    """

    name: str
    space: str = ""

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.name} {self.space}" if self.space else self.name


@dataclass(frozen=True)
class Quantity:
    """A number of a row, by fields.

    Attributes:
        kind, sampling_steps, bits: of the measure, as a point's entry has them.
        path: of keys to the number inside its result.
        over: a second quantity; the number is then the ratio of the two means.
    """

    kind: str
    path: tuple[str, ...]
    sampling_steps: int = 0
    bits: int = 32
    over: Quantity | None = None


LOSS, TRAINING_LOSS = Measure("held_out_loss"), Measure("training_loss")
VALUE, RISE = Measure("lpf_value"), Measure("lpf_rise")
CHOOSING = Measure("choosing-20")
"""The distance by which a dose is chosen: of other samples, to other images, than those reported."""
QUANTITIES = {
    LOSS.name: Quantity("losses", ("held_out_mse", "value")),
    TRAINING_LOSS.name: Quantity("losses", ("training_mse", "value")),
    VALUE.name: Quantity("lpf", ("absolute", "value", "value")),
    RISE.name: Quantity("lpf", ("absolute", "rise", "value")),
    CHOOSING.name: Quantity("distance", ("choosing", "features", "value"), 20),
    "worst_case_rise": Quantity("worst-case", ("rise", "value")),
    "gradient_norm": Quantity("gradient", ("norm", "value")),
    "trained_loss": Quantity("gradient", ("loss", "value")),
    "copies-20": Quantity("distance", ("copies", "value"), 20),
    **{f"rounding_rise-{bits}": Quantity("rounding", ("rise", "value"), 0, bits) for bits in (8, 4, 3)},
    **{f"mean_absolute_gap-{t}": Quantity("exposure", ("mean_absolute_gap", "value"), t) for t in (20, 100)},
}
"""What a run's points hold, by the name that claims give it."""
DISTANCES = {"distance-20": (20, 32), "distance-100": (100, 32), AT_8_BITS: (20, 8)}
"""Those in two spaces: T' and the weights' width; at 8 bits over the distance at 32."""


NO_DOSE = {
    "matched": f"no dose of {{}} that was run lowers the value of the LPF by the paper's {PAPERS_FALL:.0%}",
    "matched rise": f"no dose of {{}} that was run lowers the rise by the paper's {PAPERS_FALL:.0%}",
    "equal fall": "no dose of {} that was run lowers the rise as sam's chosen one does",
}
"""Why a dose is none of those between which it would lie."""


def quantity_of(measure: Measure) -> Quantity:
    """A measure as what is read from points.

    Raises:
        LadderError: there is none of this name.
    """
    if measure.name in DISTANCES and measure.space in SPACES:
        steps, bits = DISTANCES[measure.name]
        whole = Quantity("distance", ("reported", measure.space, "value"), steps)
        return whole if bits == whole.bits else dataclasses.replace(whole, bits=bits, over=whole)
    if measure.name not in QUANTITIES or measure.space:
        raise LadderError(f"{measure.words} is no quantity of the ladder")
    return QUANTITIES[measure.name]


class Comparison(NamedTuple):
    """One comparison of a claim, not yet judged.

    Attributes:
        measure: what is compared.
        dose: of the subject, in words; a claim on each dose has a comparison a dose.
        values: one a seed, (S,).
    """

    measure: Measure
    dose: str
    values: ndarray


class Study:
    """A folder of runs measured at their points.

    Args:
        folder: of files, one a run.

    Raises:
        LadderError: there are none, or two files of one run.
    """

    def __init__(self, folder: Path) -> None:
        """Read everything."""
        self.name = folder.name
        self.documents: dict[RunKey, dict[str, Any]] = {}
        for path in sorted(folder.glob("*.json")):
            document = read_document(path)
            if "points" not in document.get("settings", {}):
                continue
            c = document["settings"]["configuration"]
            dose = c["sam"]["rho"] if "sam" in c["method"] else 0.0
            dose = c["weight_noise"]["noise_sigma"] if c["method"] == "rwp" else dose
            key = RunKey(c["method"], dose, c["seed"])
            if key in self.documents:
                raise LadderError(f"{path} is a second file of the run {key}")
            self.documents[key] = document
        if not self.documents:
            raise LadderError(f"{folder} holds no run that was measured at its points")

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Those of plain training."""
        return tuple(sorted(key.seed for key in self.documents if key.method == "adm"))

    def doses(self, method: str) -> list[float]:
        """Those that every seed of plain training was trained at, ascending."""
        of = {key.dose for key in self.documents if key.method == method}
        return sorted(d for d in of if all(RunKey(method, d, seed) in self.documents for seed in self.seeds))

    @property
    def methods(self) -> tuple[str, ...]:
        """All but plain training, as their runs come."""
        return tuple(dict.fromkeys(key.method for key in self.documents if key.method != "adm"))

    def passes(self, method: str, dose: float) -> float | None:
        """Gradients a step in the mean over the run; None where a schedule decides."""
        if "sam" not in method:
            return 1.0
        of = self.documents[RunKey(method, dose, self.seeds[0])]["settings"]["configuration"]["sam"]
        return 1.0 + of.get("ascent_share", 1.0) if of.get("sam_schedule", "always") == "always" else None

    def measures(self, name: str) -> list[Measure]:
        """A claim's quantity: one measure, or one for each space of a distance."""
        return [Measure(name, space) for space in SPACES] if name in DISTANCES else [Measure(name)]

    def number(self, key: RunKey, weights: Weights, quantity: Quantity) -> float:
        """Of a run: raw weights in the mean over late points that have it, averages at the end.

        Raises:
            LadderError: no point has it.
        """
        steps = self.documents[key]["settings"]["configuration"]["steps"]
        first = LATE * steps if weights == "raw" else steps
        values = self._values(key, weights, quantity, first)
        # At the same points: one checkpoint over the mean of five would bring in the scatter between them
        over = self._values(key, weights, quantity.over, first) if quantity.over else dict.fromkeys(values, 1.0)
        both = values.keys() & over.keys()
        if not both:
            raise LadderError(f"{key} has no {quantity.kind} ({' '.join(quantity.path)}) of its {weights} weights")
        return sum(values[step] for step in both) / sum(over[step] for step in both)

    def _values(self, key: RunKey, weights: Weights, quantity: Quantity, first: float) -> dict[int, float]:
        """By step, at each point from one on that has the quantity."""
        document = self.documents[key]
        wanted = (weights, quantity.kind, quantity.sampling_steps, quantity.bits)
        values = {}
        for point in document["points"]:
            result = document["measures"][point["name"]]
            fields = (point["weights"], point["kind"], point["sampling_steps"], point["bits"])
            if fields == wanted and point["step"] >= first and "failed" not in result:
                *path, last = quantity.path
                for part in path:
                    result = result.get(part, {})  # a part may not have been measured: copies, of all images
                if last in result:
                    values[point["step"]] = float(result[last])
        return values

    def numbers(self, method: str, dose: float, weights: Weights, measure: Measure) -> ndarray:
        """One a seed, (S,).

        Raises:
            LadderError: the study has no such runs, or they lack the measure.
        """
        quantity = quantity_of(measure)
        return np.array([self.number(RunKey(method, dose, seed), weights, quantity) for seed in self.seeds])

    def log_ratio(self, subject: RowKey, against: RowKey, measure: Measure) -> Interval:
        """The mean over seeds of log(subject / against), paired by seed, with Student's interval at LEVEL.

        Raises:
            LadderError: a row is not there, lacks the measure, or is not above zero in every seed.
            ValueError: there is one seed.
        """
        return mean_interval(
            log_ratio(measure, self.numbers(*subject, measure), self.numbers(*against, measure)), 1, LEVEL
        )

    def _of(self, method: str, dose: float, weights: Weights, measure: Measure) -> ndarray:
        """The same, where no dose at all is plain training."""
        return self.numbers(method if dose else "adm", dose, weights, measure)

    def late(self, key: RunKey, measure: Measure) -> ndarray:
        """A raw row's number at each late point of its run, (P,).

        Raises:
            LadderError: no point has it.
        """
        steps = self.documents[key]["settings"]["configuration"]["steps"]
        values = self._values(key, "raw", quantity_of(measure), LATE * steps)
        if not values:
            raise LadderError(f"{key} has no {measure.words} of its raw weights")
        return np.array([values[step] for step in sorted(values)])

    def regime(self) -> dict[str, Any]:
        """Which regimes the study is in, with the numbers that say so: relative excesses, intervals at LEVEL."""
        raw, ema = (self.numbers("adm", 0.0, weights, LOSS) for weights in ("raw", "ema"))
        own = self.numbers("adm", 0.0, "ema", TRAINING_LOSS)
        step_noise, memorised = (mean_interval(np.log(a / b), 1, LEVEL) for a, b in ((raw, ema), (ema, own)))
        regimes = [
            name
            for name, measured, limit in (("step noise", step_noise, STEP_NOISE), ("memorised", memorised, MEMORISED))
            if measured.mean > math.log1p(limit)
        ]
        return {"regimes": regimes or ["neither"], "step_noise": step_noise, "memorised": memorised}

    def dose_of(self, selection: Selection) -> float | tuple[float, float, float] | None:
        """A selection's dose; two doses and the weight of the second where it lies between them; None where no dose is.

        Raises:
            LadderError: the study has no such run.
        """
        method, doses = selection.method, self.doses(selection.method)
        if not doses:
            raise LadderError(f"not every seed has a run of {method}")
        if selection.dose == "none":
            return 0.0
        if selection.dose == "largest":
            return doses[-1]
        if selection.dose in ("chosen", "chosen for the average"):
            weights: Weights = "raw" if selection.dose == "chosen" else selection.weights
            return min(doses, key=lambda dose: float(self.numbers(method, dose, weights, CHOOSING).mean()))
        if selection.dose == "matched":
            return self._between(method, VALUE, 1 - PAPERS_FALL)
        if selection.dose == "matched rise":
            return self._between(method, RISE, 1 - PAPERS_FALL)
        if selection.dose == "equal fall":
            sam = self.dose_of(Selection("sam", "raw", "chosen"))
            assert isinstance(sam, float)
            plain = self.numbers("adm", 0.0, "raw", RISE).mean()
            return self._between(method, RISE, float(self.numbers("sam", sam, "raw", RISE).mean() / plain))
        raise LadderError(f"{selection} names no single dose")

    def _between(self, method: str, measure: Measure, share: float) -> tuple[float, float, float] | None:
        """The doses around that at which a quantity of raw weights has this share of plain training's; log dose.

        Below the smallest dose the one side is plain training, dose 0.
        """
        plain = self.numbers("adm", 0.0, "raw", measure).mean()
        doses = [0.0, *self.doses(method)]
        means = [float(self._of(method, dose, "raw", measure).mean() / plain) for dose in doses]
        # A rise can be within its error of nothing, and below it: it has then fallen by all there is
        ratios = [math.log(max(mean, NOTHING)) for mean in means]
        wanted = math.log(max(share, NOTHING))
        for index in range(len(doses) - 1):
            a, b = ratios[index], ratios[index + 1]
            if a >= wanted >= b and a > b:
                return doses[index], doses[index + 1], (a - wanted) / (a - b)
        return None

    def selected(self, selection: Selection, measure: Measure) -> ndarray:
        """One number a seed, interpolated in log dose and log value between two doses.

        Raises:
            LadderError: no dose is meant, or the study lacks its rows.
        """
        dose = self.dose_of(selection)
        if dose is None:
            raise LadderError(NO_DOSE[selection.dose].format(selection.method))
        if isinstance(dose, float):
            return self.numbers(selection.method, dose, selection.weights, measure)
        below, above, weight = dose
        a, b = (self._of(selection.method, d, selection.weights, measure) for d in (below, above))
        refuse_not_positive(measure, a, b)
        return np.asarray(np.exp((1 - weight) * np.log(a) + weight * np.log(b)))

    def comparisons(self, claim: LadderClaim) -> tuple[Comparison, ...]:
        """All of a claim.

        Raises:
            LadderError: a side has no number.
        """
        if claim.form == "log ratio of gaps per rise":
            return self._gaps_per_rise(claim)
        if claim.form == "log ratio of samplers":
            return self._samplers(claim.subject.weights)
        self._refuse_the_same_rows(claim)
        compared = []
        for measure in (one for name in claim.quantities for one in self.measures(name)):
            subject, dose = self.selected(claim.subject, measure), in_words(self.dose_of(claim.subject))
            if claim.subject == claim.against:  # the measure is itself a ratio
                refuse_not_positive(measure, subject)
                values = np.log(subject)
            else:
                against = self.selected(claim.against, measure)
                difference = claim.form == "difference"
                values = subject - against if difference else log_ratio(measure, subject, against)
            compared.append(Comparison(measure, dose, values))
        return tuple(compared)

    def _refuse_the_same_rows(self, claim: LadderClaim) -> None:
        """Two selections can come to one dose: the chosen one is the largest that was trained.

        Raises:
            LadderError: they do, so that rows would be compared with themselves.
        """
        subject, against = claim.subject, claim.against
        if subject == against or (subject.method, subject.weights) != (against.method, against.weights):
            return
        dose = self.dose_of(subject)
        if dose is not None and dose == self.dose_of(against):
            raise LadderError(f"{subject.dose} and {against.dose} are the same dose, {in_words(dose)}")

    def _gaps_per_rise(self, claim: LadderClaim) -> tuple[Comparison, ...]:
        """log of (raw less averaged loss, over the rise of the raw weights) at each dose, against plain training's."""

        def share(method: str, dose: float) -> ndarray:
            raw, ema = (self.numbers(method, dose, weights, LOSS) for weights in ("raw", "ema"))
            return (raw - ema) / self.numbers(method, dose, "raw", RISE)

        chosen = self.dose_of(Selection("sam", "raw", "chosen"))
        assert isinstance(chosen, float)
        method, plain, measure = claim.subject.method, share("adm", 0.0), Measure("raw less averaged loss over rise")
        doses = [dose for dose in self.doses(method) if dose <= chosen]
        return tuple(Comparison(measure, f"{d:g}", log_ratio(measure, share(method, d), plain)) for d in doses)

    def _samplers(self, weights: Weights) -> tuple[Comparison, ...]:
        """log of (noisy over clean by DDIM) over (noisy over clean by ancestral sampling), for both distances."""
        compared = []
        for space in SPACES:
            parts = {
                name: self._plain(weights, Quantity("samplers", (name, "reported", space, "value"), 100))
                for name in ("noisy_ddim", "clean_ddim", "noisy_ddpm", "clean_ddpm")
            }
            measure = Measure("noisy over clean distance-100, ddim over ancestral", space)
            of_ddim, of_ddpm = (log_ratio(measure, parts[f"noisy_{s}"], parts[f"clean_{s}"]) for s in ("ddim", "ddpm"))
            compared.append(Comparison(measure, "", of_ddim - of_ddpm))
        return tuple(compared)

    def _plain(self, weights: Weights, quantity: Quantity) -> ndarray:
        return np.array([self.number(RunKey("adm", 0.0, seed), weights, quantity) for seed in self.seeds])


class Compared(NamedTuple):
    """One comparison of a claim, judged.

    Attributes:
        measure, dose: as in `Comparison`.
        interval: of the mean over seeds.
        verdict: confirmed, refuted or undecided.
        deciding: how many seeds would decide what is undecided; None where it is decided, and where none would.
    """

    measure: Measure
    dose: str
    interval: Interval
    verdict: Verdict
    deciding: int | None = None

    def entry(self) -> dict[str, Any]:
        """For JSON."""
        space = {"space": self.measure.space} if self.measure.space else {}
        about = {"quantity": self.measure.name, **space, "dose": self.dose, "verdict": self.verdict.value}
        undecided = {"deciding_seeds": self.deciding} if self.verdict is Verdict.UNDECIDED else {}
        return {**about, **self.interval.ends(), "seeds": self.interval.seeds, **undecided}


C = TypeVar("C", LadderClaim, BetweenRegimes)


@dataclass(frozen=True)
class Case(Generic[C]):
    """A claim with what it compares in a study, for `findings.verdicts.judge`.

    Attributes:
        claim: the claim.
        comparisons: none where it cannot be said.
        why: it cannot be said.
    """

    claim: C
    comparisons: tuple[Comparison, ...] = ()
    why: str = ""

    @property
    def group(self) -> str:
        """The claim's."""
        return self.claim.group

    @property
    def regions(self) -> tuple[Region, ...]:
        """One for each comparison."""
        return (Region(*self.claim.region),) * len(self.comparisons)


@dataclass(frozen=True)
class Judged(Generic[C]):
    """A claim in a study: its comparisons, and what they say together.

    Attributes:
        claim: the claim.
        verdict: refuted where a comparison is, confirmed where all are, "cannot say" where the regime or a row is
            missing, "disputed" where one distance confirms and the other refutes.
        comparisons: of each measure and dose.
        why: in words, where it cannot be said.
    """

    claim: C
    verdict: str
    comparisons: tuple[Compared, ...]
    why: str = ""

    def entry(self) -> dict[str, Any]:
        """For JSON."""
        claim = self.claim
        about = {"identifier": claim.identifier, "owner": claim.owner, "statement": claim.statement}
        about |= {"verdict": self.verdict, **({"why": self.why} if self.why else {})}
        return {**about, "comparisons": [one.entry() for one in self.comparisons]}


def case(claim: C, comparisons: Callable[[C], tuple[Comparison, ...]]) -> Case[C]:
    """A claim with what it compares, or why it compares nothing."""
    try:
        return Case(claim, comparisons(claim))
    except LadderError as error:
        return Case(claim, why=str(error))


def judged(study: Study, claims: Sequence[LadderClaim] = CLAIMS) -> list[Judged[LadderClaim]]:
    """Every claim in a study; groups' comparisons are corrected together."""
    regimes = study.regime()["regimes"]
    elsewhere = f"claimed of another regime than {' and '.join(regimes)}"
    return decided(case(one, study.comparisons) if one.is_of(regimes) else Case(one, why=elsewhere) for one in claims)


def decided(cases: Iterable[Case[C]]) -> list[Judged[C]]:
    """The verdict on each case; groups' comparisons are corrected together."""
    outcomes = judge(list(cases), lambda comparison, count: mean_interval(comparison.values, count, LEVEL))
    return [_decided(outcome) for outcome in outcomes]


def _decided(outcome: Outcome[Case[C]]) -> Judged[C]:
    one = outcome.claim
    compared = tuple(
        Compared(comparison.measure, comparison.dose, interval, verdict, _deciding(interval, region, verdict))
        for comparison, interval, region, verdict in zip(
            one.comparisons, outcome.intervals, one.regions, outcome.verdicts, strict=True
        )
        if interval is not None
    )
    return Judged(one.claim, _together(compared) if compared else CANNOT_SAY, compared, one.why)


def _deciding(interval: Interval, region: Region, verdict: Verdict) -> int | None:
    return seeds_to_decide(interval, region) if verdict is Verdict.UNDECIDED else None


def _together(compared: Sequence[Compared]) -> str:
    of = {space: {one.verdict for one in compared if one.measure.space == space} for space in SPACES}
    if any(of[a] == {Verdict.CONFIRMED} and Verdict.REFUTED in of[b] for a, b in (SPACES, SPACES[::-1])):
        return DISPUTED
    return together(one.verdict for one in compared).value


def refuse_not_positive(measure: Measure, *values: ndarray) -> None:
    """Refuse what has no logarithm.

    Raises:
        LadderError: a number is not above zero.
    """
    if any((one <= 0).any() for one in values):
        raise LadderError(f"{measure.words} is not above zero in every seed, so that it has no ratio")


def log_ratio(measure: Measure, a: ndarray, b: ndarray) -> ndarray:
    """log(a / b), one a seed.

    Raises:
        LadderError: a number is not above zero.
    """
    refuse_not_positive(measure, a, b)
    return np.log(a / b)


def in_words(dose: float | tuple[float, float, float] | None) -> str:
    """A dose for people."""
    if isinstance(dose, tuple):
        return f"between {dose[0]:g} and {dose[1]:g}"
    return f"{dose:g}" if dose else ""
