"""The ladder's claims judged on the toy's rungs: from rows with a number a seed to a verdict a claim and regime.

A regime of a rung is a study of its own: the claims of `findings.ladder_claims` and those of `toy_ladder_claims` are
judged in it, comparisons of a group corrected together within the regime. Claims between regimes are judged once a
rung. Selections of doses are those of `findings.ladder`, with one distance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy import ndarray

from findings.estimates import significant
from findings.ladder import (
    CHOOSING,
    RISE,
    TRAINING_LOSS,
    VALUE,
    Comparison,
    Judged,
    LadderError,
    Measure,
    Quantity,
    RowKey,
    Study,
    case,
    decided,
    judged,
    log_ratio,
)
from findings.ladder_claims import AT_8_BITS, CLAIMS, LEVEL, LadderClaim, Selection, Weights
from findings.toy_ladder_claims import BETWEEN_REGIMES, WITHIN_A_REGIME, BetweenRegimes

PLAIN = RowKey("adm", 0.0, "raw")
RATIOS = {
    AT_8_BITS: ("distance-20-bits-8", "distance-20"),
    "readout_rise over readout_rise_t3": ("readout_rise", "readout_rise_t3"),
    "dither_rise-4 over dither_rise-4_t5": ("dither_rise-4", "dither_rise-4_t5"),
}
"""Claims' quantities that are one of the toy's measures over another."""
TOY_NAMES = {CHOOSING.name: "choice_distance-20", TRAINING_LOSS.name: "train_loss", VALUE.name: "lpf"}
"""What the toy calls what the claims call otherwise."""


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
            RowKey(row["method"], float(row["dose"]), row["weights"]): {
                name: np.array(numbers) for name, numbers in row["measures"].items()
            }
            for row in rows
            if row["regime"] == regime and row["last"]
        }
        if PLAIN not in self.table:
            raise LadderError(f"{regime} has no run of plain training")

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Numbered from 0."""
        return tuple(range(len(self.table[PLAIN]["held_out_loss"])))

    def doses(self, method: str) -> list[float]:
        """Those that the method was trained at, ascending."""
        return sorted({dose for name, dose, _ in self.table if name == method})

    @property
    def methods(self) -> tuple[str, ...]:
        """All but plain training, as their rows come."""
        return tuple(dict.fromkeys(name for name, _, _ in self.table if name != "adm"))

    def passes(self, method: str, dose: float) -> float | None:
        """Gradients a step of plain training, in the mean over the run; None where it was not counted."""
        cost = self.table[RowKey(method, dose, "raw")].get("cost")
        return None if cost is None else float(cost.mean())

    def measures(self, name: str) -> list[Measure]:
        """One: the toy has one distance."""
        return [Measure(name)]

    def numbers(self, method: str, dose: float, weights: Weights, measure: Measure) -> ndarray:
        """One a seed, (S,).

        Raises:
            LadderError: there is no such row, or it lacks the measure.
        """
        if measure.name in RATIOS:
            above, below = (self.numbers(method, dose, weights, Measure(name)) for name in RATIOS[measure.name])
            return np.asarray(above / below)
        row = self.table.get(RowKey(method, dose, weights))
        if row is None:
            raise LadderError(f"{self.name} has no {weights} weights of {method} at the dose {dose:g}")
        name = TOY_NAMES.get(measure.name, measure.name)
        if measure == TRAINING_LOSS and name not in row:
            name = "held_out_loss"  # fresh draws: nothing is seen twice
        if measure.name == "trained_loss":
            name = "train_loss" if "train_loss" in row else "held_out_loss"
        if name not in row:
            raise LadderError(f"the toy measures no {name}")
        return row[name]

    def _plain(self, weights: Weights, quantity: Quantity) -> ndarray:
        raise LadderError(f"the toy measures no {quantity.kind}")


def _between(studies: Mapping[str, RegimeStudy], claim: BetweenRegimes) -> tuple[Comparison, ...]:
    """The first side less the second.

    Raises:
        LadderError: a side has no number.
    """
    sides, measure = [], Measure(claim.quantity)
    for regime, dose in claim.sides:
        if regime not in studies:
            raise LadderError(f"{regime} has no rows")
        study = studies[regime]
        if dose is None:
            which = "chosen" if claim.weights == "raw" else "chosen for the average"
            chosen = study.dose_of(Selection(claim.method, claim.weights, which))  # type: ignore[arg-type]
            assert isinstance(chosen, float)
            dose = chosen
        plain = study.numbers("adm", 0.0, claim.weights, measure)
        sides.append(log_ratio(measure, study.numbers(claim.method, dose, claim.weights, measure), plain))
    words = " less ".join(regime for regime, _ in claim.sides)
    return (Comparison(measure, words, np.asarray(sides[0] - sides[1])),)


def judged_regime(study: RegimeStudy, rung: str) -> list[Judged[LadderClaim]]:
    """Every claim that is made of a rung, in one of its regimes."""
    return judged(study, [*CLAIMS, *(one for one in WITHIN_A_REGIME if rung in one.rungs)])


def judged_between(studies: Mapping[str, RegimeStudy], rung: str) -> list[Judged[BetweenRegimes]]:
    """The claims between regimes of a rung; groups' comparisons are corrected together."""
    claims = [claim for claim in BETWEEN_REGIMES if claim.rung == rung]
    return decided(case(claim, lambda one: _between(studies, one)) for claim in claims)


def studies_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, RegimeStudy]:
    """By regime, those that have plain training."""
    studies = {}
    for name in dict.fromkeys(row["regime"] for row in rows):
        try:
            studies[name] = RegimeStudy(rows, name)
        except LadderError:
            continue
    return studies


def verdicts(rows: Sequence[Mapping[str, Any]], rung: str) -> dict[str, Any]:
    """All verdicts of a rung for JSON: regimes that have plain training, by name, and what is between them."""
    studies, regimes = studies_of(rows), {}
    for name, study in studies.items():
        claims = [one.entry() for one in judged_regime(study, rung)]
        regimes[name] = {**about(study), "falls": _falls(study), "claims": claims}
    return {"level": LEVEL, "regimes": regimes, "between": [one.entry() for one in judged_between(studies, rung)]}


def about(study: RegimeStudy) -> dict[str, Any]:
    """A regime for JSON: which it is, by which numbers, and the doses that were chosen and matched in it."""
    state = study.regime()
    excesses = {key: significant(state[key].mean) for key in ("step_noise", "memorised")}
    return {"regimes": state["regimes"], **excesses, "doses": _doses(study)}


def _doses(study: RegimeStudy) -> dict[str, Any]:
    """What was chosen and matched, by method; None where no dose is meant, or too few runs are there."""
    doses: dict[str, Any] = {}
    for method in dict.fromkeys(name for name, dose, _ in study.table if dose):
        for which in ("chosen", "chosen for the average", "matched"):
            weights: Weights = "ema" if which == "chosen for the average" else "raw"
            try:
                dose = study.dose_of(Selection(method, weights, which))  # type: ignore[arg-type]
            except LadderError:
                dose = None
            doses.setdefault(method, {})[which] = list(dose) if isinstance(dose, tuple) else dose
    return doses


FALLS = {"lpf": VALUE, "lpf_rise": RISE, "worst_case_rise": Measure("worst_case_rise")}
"""The low-pass filter's value, its rise, and the rise in the worst direction."""


def _falls(study: RegimeStudy) -> list[dict[str, Any]]:
    """By how much each row has fallen against plain training with the same weights and seeds, and its dose.

    Each a relative change with an interval at LEVEL of its own, from logarithms; `dose` is rho E|grad L_B| / L at the
    end of training, of methods with a radius.
    """
    entries = []
    for key, measures in study.table.items():
        if not key.dose or key.plain not in study.table:
            continue
        row: dict[str, Any] = {"method": key.method, "radius or deviation": key.dose, "weights": key.weights}
        if "dose" in measures:
            row["dose"] = significant(measures["dose"].mean())
        for name, measure in FALLS.items():
            try:
                interval = study.log_ratio(key, key.plain, measure)
            except LadderError:
                continue
            row[name] = [significant(np.expm1(value)) for value in (interval.mean, interval.low, interval.high)]
        entries.append(row)
    return entries
