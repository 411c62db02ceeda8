"""The ladder's claims on trained networks judged: from runs measured at their points to a verdict a claim and study.

Reads the files that `reproduce --at` writes, one a run; knows what a selection of rows is (`ladder_claims`), and gives
a number a seed for each side of a comparison. Nothing here is computed with weights.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from findings.documents import read_document
from findings.ladder_claims import (
    CLAIMS,
    LEVEL,
    MEMORISED,
    STEP_NOISE,
    LadderClaim,
    Selection,
    Weights,
)
from findings.verdicts import Interval, Region, Verdict, mean_interval, together

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


def quantities(name: str) -> dict[str, Quantity]:
    """A claim's quantity as what is read from points: one, or one for each distance."""
    fixed = {
        "held_out_loss": Quantity("losses", ("held_out_mse", "value")),
        "training_loss": Quantity("losses", ("training_mse", "value")),
        "lpf_value": Quantity("lpf", ("absolute", "value", "value")),
        "lpf_rise": Quantity("lpf", ("absolute", "rise", "value")),
        "worst_case_rise": Quantity("worst-case", ("rise", "value")),
        "copies-20": Quantity("distance", ("copies", "value"), 20),
        **{f"rounding_rise-{bits}": Quantity("rounding", ("rise", "value"), 0, bits) for bits in (8, 4, 3)},
        **{f"mean_absolute_gap-{t}": Quantity("exposure", ("mean_absolute_gap", "value"), t) for t in (20, 100)},
    }
    if name in fixed:
        return {name: fixed[name]}
    distances = {f"distance-{t}": t for t in (20, 100)}
    if name in distances:
        return {
            f"{name} {space}": Quantity("distance", ("reported", space, "value"), distances[name]) for space in SPACES
        }
    if name == "distance-20 at 8 bits over 32":
        reported = {space: Quantity("distance", ("reported", space, "value"), 20) for space in SPACES}
        return {f"{name} {space}": dataclasses.replace(whole, bits=8, over=whole) for space, whole in reported.items()}
    raise LadderError(f"{name} is no quantity of the ladder")


class Study:
    """A folder of runs measured at their points.

    Args:
        folder: of files, one a run.

    Raises:
        LadderError: there are none, or two files of one run.
    """

    def __init__(self, folder: Path) -> None:
        """Read everything."""
        self.folder = folder
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

    def has(self, method: str) -> bool:
        """Whether a method was trained at every seed."""
        return bool(self.doses(method))

    def number(self, key: RunKey, weights: Weights, quantity: Quantity) -> float:
        """Of a run: raw weights in the mean over late points that have it, averages at the end.

        Raises:
            LadderError: no point has it.
        """
        steps = self.documents[key]["settings"]["configuration"]["steps"]
        values = self._values(key, weights, quantity, LATE * steps if weights == "raw" else steps)
        if not values:
            raise LadderError(f"{key} has no {quantity.kind} of its {weights} weights")
        mean = sum(values) / len(values)
        return mean if quantity.over is None else mean / self.number(key, weights, quantity.over)

    def _values(self, key: RunKey, weights: Weights, quantity: Quantity, first: float) -> list[float]:
        """At each point from a step on that has the quantity."""
        document = self.documents[key]
        wanted = (weights, quantity.kind, quantity.sampling_steps, quantity.bits)
        values = []
        for point in document["points"]:
            result = document["measures"][point["name"]]
            asked = (point["weights"], point["kind"], point["sampling_steps"], point["bits"])
            if asked == wanted and point["step"] >= first and "failed" not in result:
                for part in quantity.path:
                    result = result[part]
                values.append(float(result))
        return values

    def numbers(self, method: str, dose: float, weights: Weights, quantity: Quantity) -> ndarray:
        """One a seed, (S,)."""
        return np.array([self.number(RunKey(method, dose, seed), weights, quantity) for seed in self.seeds])

    def _of(self, method: str, dose: float, weights: Weights, quantity: Quantity) -> ndarray:
        """The same, where no dose at all is plain training."""
        return self.numbers(method if dose else "adm", dose, weights, quantity)

    def scatter(self, key: RunKey, quantity: Quantity) -> tuple[float, int]:
        """Standard deviation of a raw row's number over the late points of its run, and how many they are."""
        steps = self.documents[key]["settings"]["configuration"]["steps"]
        late = self._values(key, "raw", quantity, LATE * steps)
        return (float(np.std(late, ddof=1)) if len(late) > 1 else math.nan), len(late)

    def regime(self) -> dict[str, Any]:
        """Which regimes the study is in, with the numbers that say so: relative excesses, intervals at LEVEL."""
        loss = quantities("held_out_loss")["held_out_loss"]
        training = quantities("training_loss")["training_loss"]
        raw, ema = (self.numbers("adm", 0.0, weights, loss) for weights in ("raw", "ema"))
        own = self.numbers("adm", 0.0, "ema", training)
        step_noise, memorised = (mean_interval(np.log(a / b), 1, LEVEL) for a, b in ((raw, ema), (ema, own)))
        found = [
            name
            for name, measured, limit in (("step noise", step_noise, STEP_NOISE), ("memorised", memorised, MEMORISED))
            if measured.mean > math.log1p(limit)
        ]
        return {"regimes": found or ["neither"], "step_noise": step_noise, "memorised": memorised}

    def dose_of(self, selection: Selection) -> float | tuple[float, float, float] | None:
        """A selection's dose; two doses and the weight of the second where it lies between them; None where no dose is.

        Raises:
            LadderError: the study has no such run.
        """
        method, doses = selection.method, self.doses(selection.method)
        if not doses:
            raise LadderError(f"no run of {method} at every seed")
        if selection.dose == "none":
            return 0.0
        if selection.dose == "largest":
            return doses[-1]
        if selection.dose in ("chosen", "chosen for the average"):
            weights: Weights = "raw" if selection.dose == "chosen" else selection.weights
            by = Quantity("distance", ("choosing", "features", "value"), 20)
            return min(doses, key=lambda dose: float(self.numbers(method, dose, weights, by).mean()))
        if selection.dose == "matched":
            return self._between(method, "lpf_value", 1 - PAPERS_FALL)
        if selection.dose == "matched rise":
            return self._between(method, "lpf_rise", 1 - PAPERS_FALL)
        if selection.dose == "equal fall":
            rise = quantities("lpf_rise")["lpf_rise"]
            sam = self.dose_of(Selection("sam", "raw", "chosen"))
            assert isinstance(sam, float)
            plain = self.numbers("adm", 0.0, "raw", rise).mean()
            return self._between(method, "lpf_rise", float(self.numbers("sam", sam, "raw", rise).mean() / plain))
        raise LadderError(f"{selection} names no single dose")

    def _between(self, method: str, name: str, share: float) -> tuple[float, float, float] | None:
        """The doses around that at which a quantity of raw weights has this share of plain training's; log dose.

        Below the smallest dose the one side is plain training, dose 0.
        """
        quantity = quantities(name)[name]
        plain = self.numbers("adm", 0.0, "raw", quantity).mean()
        doses = [0.0, *self.doses(method)]
        means = [float(self._of(method, dose, "raw", quantity).mean() / plain) for dose in doses]
        # A rise can be within its error of nothing, and below it: it has then fallen by all there is
        ratios = [math.log(max(mean, NOTHING)) for mean in means]
        wanted = math.log(max(share, NOTHING))
        for index in range(len(doses) - 1):
            a, b = ratios[index], ratios[index + 1]
            if a >= wanted >= b and a > b:
                return doses[index], doses[index + 1], (a - wanted) / (a - b)
        return None

    def selected(self, selection: Selection, quantity: Quantity) -> ndarray | None:
        """One number a seed, interpolated in log dose and log value between two doses; None where no dose is meant."""
        dose = self.dose_of(selection)
        if dose is None:
            return None
        if isinstance(dose, float):
            return self.numbers(selection.method, dose, selection.weights, quantity)
        below, above, weight = dose
        a, b = (self._of(selection.method, d, selection.weights, quantity) for d in (below, above))
        return np.exp((1 - weight) * np.log(a) + weight * np.log(b))


class Compared(NamedTuple):
    """One comparison of a claim in a study.

    Attributes:
        quantity: its name, with the distance where there are two.
        dose: of the subject, in words; a claim on each dose has a comparison a dose.
        interval: of the mean over seeds, None where a side has no number.
        verdict: confirmed, refuted, undecided, or cannot say.
        why: what is missing, where it cannot be said.
    """

    quantity: str
    dose: str
    interval: Interval | None
    verdict: str
    why: str = ""


class Judged(NamedTuple):
    """A claim in a study: its comparisons, and what they say together.

    Attributes:
        claim: the claim.
        verdict: refuted where a comparison is, confirmed where all are, "cannot say" where the regime or a row is
            missing, "disputed" where one distance confirms and the other refutes.
        comparisons: of each quantity and dose.
        why: in words, where it cannot be said.
    """

    claim: LadderClaim
    verdict: str
    comparisons: tuple[Compared, ...]
    why: str = ""


def judged(study: Study, claims: Sequence[LadderClaim] = CLAIMS) -> list[Judged]:
    """Every claim in a study; groups' comparisons are corrected together."""
    regimes = study.regime()["regimes"]
    pending: list[tuple[LadderClaim, list[tuple[str, str, ndarray]], str]] = []
    for claim in claims:
        if claim.regime not in ("any", *regimes):
            pending.append((claim, [], f"the study is in the regime {' and '.join(regimes)}"))
            continue
        try:
            pending.append((claim, _numbers(study, claim), ""))
        except LadderError as error:
            pending.append((claim, [], str(error)))
    sizes: dict[str, int] = {}
    for claim, numbers, _ in pending:
        sizes[claim.group] = sizes.get(claim.group, 0) + len(numbers)
    outcomes = []
    for claim, numbers, why in pending:
        region = Region(*claim.region)
        compared = []
        for quantity, dose, values in numbers:
            found = mean_interval(values, sizes[claim.group], LEVEL)
            compared.append(Compared(quantity, dose, found, region.verdict(found).value))
        outcomes.append(Judged(claim, _together(compared), tuple(compared), why))
    return outcomes


def _together(compared: Sequence[Compared]) -> str:
    verdicts = {one.verdict for one in compared}
    if not verdicts:
        return CANNOT_SAY
    spaces = {space: {c.verdict for c in compared if c.quantity.endswith(space)} for space in SPACES}
    confirmed, refuted = Verdict.CONFIRMED.value, Verdict.REFUTED.value
    if any(spaces[a] == {confirmed} and refuted in spaces[b] for a, b in (SPACES, SPACES[::-1])):
        return DISPUTED
    return together([Verdict(verdict) for verdict in verdicts]).value


def _numbers(study: Study, claim: LadderClaim) -> list[tuple[str, str, ndarray]]:
    """(quantity, dose, one number a seed) of each comparison of a claim.

    Raises:
        LadderError: a side has no number.
    """
    if claim.form == "log ratio of gaps per rise":
        return gaps_per_rise(study, claim)
    rows = []
    for name in claim.quantities:
        if name.startswith("noisy over clean"):
            rows += _samplers(study, claim.subject.weights)
            continue
        for label, quantity in quantities(name).items():
            refuse_the_same_rows(study, claim)
            a, b = study.selected(claim.subject, quantity), study.selected(claim.against, quantity)
            if a is None or b is None:
                raise LadderError(f"no dose of the study is {claim.subject.dose} or {claim.against.dose}")
            dose = study.dose_of(claim.subject)
            if claim.subject == claim.against:  # the quantity is itself a ratio
                rows.append((label, in_words(dose), np.log(a)))
            elif claim.form == "difference":
                rows.append((label, in_words(dose), a - b))
            else:
                rows.append((label, in_words(dose), log_ratio(label, a, b)))
    return rows


def refuse_the_same_rows(study: Study, claim: LadderClaim) -> None:
    """Two selections can come to one dose: the chosen one is the largest that was trained.

    Raises:
        LadderError: they do, so that rows would be compared with themselves.
    """
    subject, against = claim.subject, claim.against
    if subject == against or (subject.method, subject.weights) != (against.method, against.weights):
        return
    dose = study.dose_of(subject)
    if dose is not None and dose == study.dose_of(against):
        raise LadderError(f"{subject.dose} and {against.dose} are the same dose, {in_words(dose)}")


def log_ratio(label: str, a: ndarray, b: ndarray) -> ndarray:
    """log(a / b), one a seed.

    Raises:
        LadderError: a number is not above zero.
    """
    if (a <= 0).any() or (b <= 0).any():
        raise LadderError(f"{label} is not above zero in every seed, so that it has no ratio")
    return np.log(a / b)


def gaps_per_rise(study: Study, claim: LadderClaim) -> list[tuple[str, str, ndarray]]:
    """log of (raw less averaged loss, over the rise of the raw weights) at each dose, against plain training's."""
    loss, rise = quantities("held_out_loss")["held_out_loss"], quantities("lpf_rise")["lpf_rise"]

    def share(method: str, dose: float) -> ndarray:
        raw, ema = (study.numbers(method, dose, weights, loss) for weights in ("raw", "ema"))
        return (raw - ema) / study.numbers(method, dose, "raw", rise)

    chosen = study.dose_of(Selection("sam", "raw", "chosen"))
    assert isinstance(chosen, float)
    plain = share("adm", 0.0)
    doses = [dose for dose in study.doses(claim.subject.method) if dose <= chosen]
    label = "raw less averaged loss over rise"
    return [(label, f"{dose:g}", log_ratio(label, share(claim.subject.method, dose), plain)) for dose in doses]


def _samplers(study: Study, weights: Weights) -> list[tuple[str, str, ndarray]]:
    """log of (noisy over clean by DDIM) over (noisy over clean by ancestral sampling), for both distances."""
    rows = []
    for space in SPACES:
        parts = {
            name: study.numbers("adm", 0.0, weights, Quantity("samplers", (name, "reported", space, "value"), 100))
            for name in ("noisy_ddim", "clean_ddim", "noisy_ddpm", "clean_ddpm")
        }
        label = f"noisy over clean distance-100, ddim over ancestral {space}"
        of_ddim, of_ddpm = (log_ratio(label, parts[f"noisy_{s}"], parts[f"clean_{s}"]) for s in ("ddim", "ddpm"))
        rows.append((label, "", of_ddim - of_ddpm))
    return rows


def in_words(dose: float | tuple[float, float, float] | None) -> str:
    """A dose for people."""
    if isinstance(dose, tuple):
        return f"between {dose[0]:g} and {dose[1]:g}"
    return f"{dose:g}" if dose else ""
