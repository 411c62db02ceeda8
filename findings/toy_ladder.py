"""The ladder's claims judged on the toy's rungs: from rows with a number a seed to a verdict a claim and regime.

A regime of a rung is a study of its own: the claims of `findings.ladder_claims` and those of `toy_ladder_claims` are
judged in it, comparisons of a group corrected together within the regime. Claims between regimes are judged once a
rung. Selections of doses are those of `findings.ladder`, with one distance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from findings.ladder import (
    CANNOT_SAY,
    Compared,
    LadderError,
    Quantity,
    Study,
    gaps_per_rise,
    in_words,
    log_ratio,
    refuse_the_same_rows,
)
from findings.ladder_claims import CLAIMS, LEVEL, LadderClaim, Selection, Weights
from findings.toy_ladder_claims import BETWEEN_REGIMES, WITHIN_A_REGIME, BetweenRegimes
from findings.verdicts import Region, Verdict, mean_interval, together

RowKey = tuple[str, float, str]
"""Method, dose, weights."""
OVER = " over "
RATIOS = {"distance-20 at 8 bits over 32": ("distance-20-bits-8", "distance-20")}
GAPS_PER_RISE = "log ratio of gaps per rise"


class JudgedClaim(NamedTuple):
    """A claim with its verdict.

    Attributes:
        identifier, owner, statement: the claim's.
        verdict: confirmed, refuted, undecided, or cannot say.
        comparisons: of each quantity and dose.
        why: in words, where it cannot be said.
    """

    identifier: str
    owner: str
    statement: str
    verdict: str
    comparisons: tuple[Compared, ...]
    why: str = ""

    def entry(self) -> dict[str, Any]:
        """For JSON; an infinite bound is None."""
        return {
            "identifier": self.identifier,
            "owner": self.owner,
            "statement": self.statement,
            "verdict": self.verdict,
            **({"why": self.why} if self.why else {}),
            "comparisons": [_entry(one) for one in self.comparisons],
        }


def _entry(one: Compared) -> dict[str, Any]:
    found = {"quantity": one.quantity, "dose": one.dose, "verdict": one.verdict}
    if one.interval is None:
        return found
    numbers = {name: float(f"{getattr(one.interval, name):.4g}") for name in ("mean", "low", "high")}
    return found | numbers | {"seeds": one.interval.seeds}


class RegimeStudy(Study):
    """The rows of one regime at the end of its runs.

    Args:
        rows: of a rung, of several regimes.
        regime: which.

    Raises:
        LadderError: the regime has no plain training.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], regime: str) -> None:
        """Take out the regime's rows."""
        self.name = regime
        self.table: dict[RowKey, dict[str, ndarray]] = {
            (row["method"], float(row["dose"]), row["weights"]): {k: np.array(v) for k, v in row["measures"].items()}
            for row in rows
            if row["regime"] == regime and row["last"]
        }
        if ("adm", 0.0, "raw") not in self.table:
            raise LadderError(f"{regime} has no run of plain training")

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Numbered from 0."""
        return tuple(range(len(self.table["adm", 0.0, "raw"]["held_out_loss"])))

    def doses(self, method: str) -> list[float]:
        """Those that the method was trained at, ascending."""
        return sorted({dose for name, dose, _ in self.table if name == method})

    def numbers(self, method: str, dose: float, weights: Weights, quantity: Quantity | str) -> ndarray:
        """One a seed, (S,).

        Raises:
            LadderError: there is no such row, or it lacks the quantity.
        """
        name = quantity if isinstance(quantity, str) else self._name(quantity)
        if name in RATIOS or OVER in name:
            above, below = RATIOS.get(name) or name.split(OVER, 1)
            top, bottom = (self.numbers(method, dose, weights, one) for one in (above, below))
            return np.asarray(top / bottom)
        row = self.table.get((method, dose, weights))
        if row is None:
            raise LadderError(f"{self.name} has no {weights} weights of {method} at the dose {dose:g}")
        if name == "train_loss" and name not in row:
            name = "held_out_loss"  # fresh draws: nothing is seen twice
        if name not in row:
            raise LadderError(f"the toy measures no {name}")
        return row[name]

    @staticmethod
    def _name(quantity: Quantity) -> str:
        """Of what `findings.ladder` asks for when it says which dose or regime is meant."""
        if quantity.kind == "distance" and quantity.path[0] == "choosing":
            return f"choice_distance-{quantity.sampling_steps}"
        names = {
            ("losses", "held_out_mse"): "held_out_loss",
            ("losses", "training_mse"): "train_loss",
            ("lpf", "rise"): "lpf_rise",
            ("lpf", "value"): "lpf",
        }
        key = (quantity.kind, quantity.path[1] if quantity.kind == "lpf" else quantity.path[0])
        if key not in names:
            raise LadderError(f"the toy has no {quantity}")
        return names[key]

    def of(self, selection: Selection, name: str) -> ndarray:
        """One number a seed of a selection, interpolated in log dose and log value between two doses.

        Raises:
            LadderError: no dose is meant, or there is no row.
        """
        dose = self.dose_of(selection)
        if dose is None:
            raise LadderError(f"no dose of {self.name} is {selection.dose}")
        if isinstance(dose, float):
            return self.numbers(selection.method, dose, selection.weights, name)
        below, above, weight = dose
        a, b = (self.numbers(selection.method, d, selection.weights, name) for d in (below, above))
        _positive(name, a, b)
        return np.asarray(np.exp((1 - weight) * np.log(a) + weight * np.log(b)))


def _positive(name: str, *values: ndarray) -> None:
    if any((one <= 0).any() for one in values):
        raise LadderError(f"{name} is not above zero in every seed, so that it has no ratio")


def _comparisons(study: RegimeStudy, claim: LadderClaim) -> list[tuple[str, str, ndarray]]:
    """(quantity, dose, one number a seed) of each comparison of a claim.

    Raises:
        LadderError: a side has no number.
    """
    if claim.form == GAPS_PER_RISE:
        return gaps_per_rise(study, claim)
    found = []
    refuse_the_same_rows(study, claim)
    for name in claim.quantities:
        a = study.of(claim.subject, name)
        dose = study.dose_of(claim.subject)
        shown = in_words(dose)
        if claim.subject == claim.against:  # the quantity is itself a ratio
            _positive(name, a)
            found.append((name, shown, np.log(a)))
            continue
        b = study.of(claim.against, name)
        found.append((name, shown, a - b if claim.form == "difference" else log_ratio(name, a, b)))
    return found


def _between(studies: Mapping[str, RegimeStudy], claim: BetweenRegimes) -> ndarray:
    """The first side less the second, one number a seed.

    Raises:
        LadderError: a side has no number.
    """
    sides = []
    for regime, dose in claim.sides:
        if regime not in studies:
            raise LadderError(f"{regime} has no rows")
        study = studies[regime]
        if dose is None:
            which = "chosen" if claim.weights == "raw" else "chosen for the average"
            chosen = study.dose_of(Selection(claim.method, claim.weights, which))  # type: ignore[arg-type]
            assert isinstance(chosen, float)
            dose = chosen
        plain = study.numbers("adm", 0.0, claim.weights, claim.quantity)
        sides.append(log_ratio(claim.quantity, study.numbers(claim.method, dose, claim.weights, claim.quantity), plain))
    return np.asarray(sides[0] - sides[1])


def judged_regime(study: RegimeStudy, rung: str) -> list[JudgedClaim]:
    """Every claim that is made of a rung, in one of its regimes."""
    claims = [*CLAIMS, *(one.claim for one in WITHIN_A_REGIME if rung in one.rungs)]
    regimes = study.regime()["regimes"]
    pending: list[tuple[LadderClaim, list[tuple[str, str, ndarray]], str]] = []
    for claim in claims:
        if claim.regime not in ("any", *regimes):
            pending.append((claim, [], f"the regime is {' and '.join(regimes)}"))
            continue
        try:
            pending.append((claim, _comparisons(study, claim), ""))
        except LadderError as error:
            pending.append((claim, [], str(error)))
    sizes: dict[str, int] = {}
    for claim, numbers, _ in pending:
        sizes[claim.group] = sizes.get(claim.group, 0) + len(numbers)
    return [
        _judged(claim.identifier, claim.owner, claim.statement, claim.region, numbers, sizes[claim.group], why)
        for claim, numbers, why in pending
    ]


def judged_between(studies: Mapping[str, RegimeStudy], rung: str) -> list[JudgedClaim]:
    """The claims between regimes of a rung; groups' comparisons are corrected together."""
    claims = [claim for claim in BETWEEN_REGIMES if claim.rung == rung]
    sizes: dict[str, int] = {}
    pending: list[tuple[BetweenRegimes, list[tuple[str, str, ndarray]], str]] = []
    for claim in claims:
        group = claim.identifier.rstrip("abcdefghijklmnopqrstuvwxyz")
        sizes[group] = sizes.get(group, 0) + 1
        words = " less ".join(f"{regime}" for regime, _ in claim.sides)
        try:
            pending.append((claim, [(claim.quantity, words, _between(studies, claim))], ""))
        except LadderError as error:
            pending.append((claim, [], str(error)))
    return [
        _judged(
            claim.identifier, claim.owner, claim.statement, claim.region, numbers,
            sizes[claim.identifier.rstrip("abcdefghijklmnopqrstuvwxyz")], why,
        )
        for claim, numbers, why in pending
    ]  # fmt: skip


def _judged(
    identifier: str,
    owner: str,
    statement: str,
    region: tuple[float, float],
    numbers: Sequence[tuple[str, str, ndarray]],
    comparisons: int,
    why: str,
) -> JudgedClaim:
    compared = []
    for quantity, dose, values in numbers:
        interval = mean_interval(values, comparisons, LEVEL)
        compared.append(Compared(quantity, dose, interval, Region(*region).verdict(interval).value))
    verdict = together(Verdict(one.verdict) for one in compared).value if compared else CANNOT_SAY
    return JudgedClaim(identifier, owner, statement, verdict, tuple(compared), why)


def verdicts(rows: Sequence[Mapping[str, Any]], rung: str) -> dict[str, Any]:
    """All verdicts of a rung for JSON: regimes that have plain training, by name, and what is between them."""
    studies = {}
    for name in dict.fromkeys(row["regime"] for row in rows):
        try:
            studies[name] = RegimeStudy(rows, name)
        except LadderError:
            continue
    regimes = {}
    for name, study in studies.items():
        state = study.regime()
        regimes[name] = {
            "regimes": state["regimes"],
            **{key: float(f"{state[key].mean:.4g}") for key in ("step_noise", "memorised")},
            "doses": _doses(study),
            "falls": _falls(study),
            "claims": [one.entry() for one in judged_regime(study, rung)],
        }
    return {"level": LEVEL, "regimes": regimes, "between": [one.entry() for one in judged_between(studies, rung)]}


def _doses(study: RegimeStudy) -> dict[str, Any]:
    """What was chosen and matched, by method; None where no dose is meant, or too few runs are there."""
    found: dict[str, Any] = {}
    for method in dict.fromkeys(name for name, dose, _ in study.table if dose):
        for which in ("chosen", "chosen for the average", "matched"):
            weights: Weights = "ema" if which == "chosen for the average" else "raw"
            try:
                dose = study.dose_of(Selection(method, weights, which))  # type: ignore[arg-type]
            except LadderError:
                dose = None
            found.setdefault(method, {})[which] = list(dose) if isinstance(dose, tuple) else dose
    return found


FALLS = ("lpf", "lpf_rise", "worst_case_rise")
"""The low-pass filter's value, its rise, and the rise in the worst direction."""


def _falls(study: RegimeStudy) -> list[dict[str, Any]]:
    """By how much each row has fallen against plain training with the same weights and seeds, and its dose.

    Each a relative change with an interval at LEVEL of its own, from logarithms; `dose` is rho E|grad L_B| / L at the
    end of training, of methods with a radius.
    """
    found = []
    for method, dose, weights in study.table:
        if not dose or ("adm", 0.0, weights) not in study.table:
            continue
        row: dict[str, Any] = {"method": method, "radius or deviation": dose, "weights": weights}
        measures = study.table[method, dose, weights]
        if "dose" in measures:
            row["dose"] = float(f"{measures['dose'].mean():.4g}")
        for name in FALLS:
            try:
                flat, plain = (study.numbers(*key, name) for key in ((method, dose, weights), ("adm", 0.0, weights)))  # type: ignore[arg-type]
                interval = mean_interval(log_ratio(name, flat, plain), 1, LEVEL)
            except LadderError:
                continue
            row[name] = [float(f"{np.expm1(value):.4g}") for value in (interval.mean, interval.low, interval.high)]
        found.append(row)
    return found
