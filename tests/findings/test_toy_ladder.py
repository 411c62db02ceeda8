"""The judge of the toy's rungs on made rows, of which the right verdicts are known, and on their mirror images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from findings.ladder import CANNOT_SAY, LadderError, Measure, RunKey
from findings.ladder_claims import AT_8_BITS
from findings.toy_ladder import RegimeStudy, judged_between, judged_regime, verdicts

SEEDS, STEPS = 20, 1000
RADII = (0.0055, 0.0156, 0.0442, 0.125, 1.0)


def number(value: float, seed: int, spread: float = 0.01) -> list[float]:
    """One a seed about the value."""
    return list(value * np.exp(spread * np.random.default_rng(seed).standard_normal(SEEDS)))


def row(regime: str, method: str, dose: float, weights: str, values: dict[str, float]) -> dict[str, Any]:
    """A row of which every measure scatters in its own way, by its name."""
    measures = {name: number(value, sum(map(ord, name)) + round(1e4 * dose)) for name, value in values.items()}
    measures["choice_distance-20"] = [1.001 * v for v in measures["distance-20"]]
    about = {"regime": regime, "method": method, "dose": dose, "weights": weights, "step": STEPS, "last": True}
    return {**about, "measures": measures}


def made(regime: str, helps: float, noise: float = 0.05, train: float | None = None) -> list[dict[str, Any]]:
    """Rows of a regime in which SAM at .0156 changes raw distances by the factor, and averages pay for every dose."""
    rows = []
    for dose in (0.0, *RADII):
        away = abs(np.log(dose / 0.0156)) if dose else 0.0
        factor = (1.0 if not dose else helps + 0.1 * away) if dose <= 0.2 else 1.6
        for weights in ("raw", "ema"):
            raw = weights == "raw"
            rise = 0.04 / (1 + 100 * dose)
            values = {
                "held_out_loss": 0.4 * (1 + noise * rise / 0.04 * raw) * (1 + 0.02 * bool(dose) * (not raw)),
                "lpf_rise": rise,
                "lpf": 0.4 + rise,
                "worst_case_rise": 0.1 * (1 if raw else 0.3) / (1 + 10 * dose),
                "distance-20": 0.2 * factor if raw else 0.12 * (1 + 0.5 * bool(dose)),
                "distance-100": 0.2 * factor if raw else 0.12 * (1 + 0.5 * bool(dose)),
                "mean_absolute_gap-20": 0.02,
                "mean_absolute_gap-100": 0.02,
                "distance-20-bits-8": 0.2 * factor if raw else 0.12,
                "rounding_rise-4": 0.02 * rise,
                "rounding_rise-3": 0.02 * rise,
            }
            if train is not None:
                values["train_loss"] = train
            rows.append(row(regime, "sam" if dose else "adm", dose, weights, values))
    return rows


def by_name(judgements: list[Any]) -> dict[str, Any]:
    return {one.claim.identifier: one for one in judgements}


def test_regimes_are_measured() -> None:
    assert RegimeStudy(made("a", 0.8), "a").regime()["regimes"] == ["step noise"]
    assert RegimeStudy(made("a", 0.8, noise=0.001), "a").regime()["regimes"] == ["neither"]
    assert RegimeStudy(made("a", 0.8, train=0.3), "a").regime()["regimes"] == ["step noise", "memorised"]


def test_a_raw_row_is_the_mean_over_the_last_fifth_and_an_average_is_the_end() -> None:
    rows = made("a", 0.8)
    ends = {(one["method"], one["dose"], one["weights"]): one["measures"] for one in rows}
    for (method, dose, weights), measures in list(ends.items()):
        for step, factor in ((500, 100.0), (800, 2.0), (900, 3.0)):
            moved = {name: [factor * v for v in measures[name]] for name in ("distance-20", "held_out_loss")}
            about = {"regime": "a", "method": method, "dose": dose, "weights": weights, "step": step, "last": False}
            rows.append({**about, "measures": moved})
    np.random.default_rng(0).shuffle(rows)
    study, distance = RegimeStudy(rows, "a"), Measure("distance-20")
    for method, dose in (("adm", 0.0), ("sam", 0.0156)):
        raw, ema = (np.array(ends[method, dose, weights]["distance-20"]) for weights in ("raw", "ema"))
        assert study.numbers(method, dose, "raw", distance) == pytest.approx(2 * raw)
        assert study.numbers(method, dose, "ema", distance) == pytest.approx(ema)
        assert study.late(RunKey(method, dose, 3), distance) == pytest.approx(raw[3] * np.array([2.0, 3.0, 1.0]))
        gap = Measure("mean_absolute_gap-20")  # at the end alone
        assert study.numbers(method, dose, "raw", gap) == pytest.approx(ends[method, dose, "raw"][gap.name])
        assert study.late(RunKey(method, dose, 3), gap).shape == (1,)
        at_8_bits = Measure(AT_8_BITS)
        bits = np.array(ends[method, dose, "raw"]["distance-20-bits-8"])
        assert study.numbers(method, dose, "raw", at_8_bits) == pytest.approx(bits / raw), "of one checkpoint"
    with pytest.raises(LadderError, match="raw weights"):
        study.late(RunKey("adm", 0.0, 3), Measure("feature_energy"))


@pytest.mark.parametrize(("helps", "expected"), [(0.8, "confirmed"), (1.3, "refuted"), (1.0, "undecided")])
def test_a_claim_follows_its_numbers(helps: float, expected: str) -> None:
    judged = by_name(judged_regime(RegimeStudy(made("a", helps), "a"), "ring"))
    assert judged["L1a"].verdict == expected
    assert [one.dose for one in judged["L1a"].comparisons] == ["0.0156", "0.0156"]
    assert judged["L1a"].comparisons[0].interval.mean == pytest.approx(np.log(helps), abs=0.02)
    assert judged["L1b"].verdict == "confirmed", "the curve turns up again"
    assert judged["L2b"].verdict == "confirmed", "averages pay at every dose"
    assert judged["L7c"].verdict == "confirmed"


def test_what_has_no_rows_or_no_regime_cannot_be_said() -> None:
    judged = by_name(judged_regime(RegimeStudy(made("a", 0.8), "a"), "ring"))
    assert (judged["L3a"].verdict, judged["L3a"].why) == (CANNOT_SAY, "claimed of another regime than step noise")
    assert judged["L5b"].verdict == CANNOT_SAY
    assert "rwp" in judged["L5b"].why
    assert judged["L1c"].verdict == CANNOT_SAY, "the value never falls by the paper's share"
    assert judged["L9a"].verdict == CANNOT_SAY
    with pytest.raises(LadderError, match="no run of plain training"):
        RegimeStudy(made("a", 0.8), "b")


def test_the_law_of_gaps_holds_where_it_was_built_in_and_not_where_it_was_not() -> None:
    rows = made("a", 0.8)
    for one in rows:
        if one["weights"] == "ema":
            one["measures"]["held_out_loss"] = [0.4] * SEEDS
        else:
            one["measures"]["held_out_loss"] = [0.4 + 0.5 * r for r in one["measures"]["lpf_rise"]]
    judged = by_name(judged_regime(RegimeStudy(rows, "a"), "ring"))
    assert judged["L4a"].verdict == "confirmed"
    assert [one.dose for one in judged["L4a"].comparisons] == ["0.0055", "0.0156"], "up to the chosen radius"
    for one in rows:
        if one["weights"] == "raw" and one["dose"]:
            one["measures"]["held_out_loss"] = [0.4 + 1.5 * r for r in one["measures"]["lpf_rise"]]
    assert by_name(judged_regime(RegimeStudy(rows, "a"), "ring"))["L4a"].verdict == "refuted"


@pytest.mark.parametrize(("small", "large", "expected"), [(0.7, 0.9, "confirmed"), (0.9, 0.7, "refuted")])
def test_claims_between_regimes(small: float, large: float, expected: str) -> None:
    names = ("fresh, batch 16", "fresh, batch 128")
    rows = made(names[0], small) + made(names[1], large)
    studies = {name: RegimeStudy(rows, name) for name in names}
    judged = by_name(judged_between(studies, "ring"))
    assert judged["L16d"].verdict == expected
    # the same rise at either batch, so that radii sqrt(8) apart differ by the rise's own dependence on the radius
    interval = judged["L16b"].comparisons[0].interval
    assert interval.mean == pytest.approx(np.log((1 + 4.42) / (1 + 1.56)), abs=0.02)
    assert judged["L16b"].verdict == "refuted"
    assert judged["L17a"].verdict == CANNOT_SAY


def test_verdicts_of_rows_that_are_not_all_there() -> None:
    rows = made("a", 0.8)
    content = verdicts([*rows, *(one for one in made("b", 0.8) if one["method"] == "sam")], "ring")
    assert list(content["regimes"]) == ["a"]
    assert content["regimes"]["a"]["doses"]["sam"] == {
        "chosen": 0.0156, "chosen for the average": pytest.approx(0.0156, abs=1), "matched": None,
    }  # fmt: skip
    falls = {(one["radius or deviation"], one["weights"]): one for one in content["regimes"]["a"]["falls"]}
    assert set(falls) == {(dose, weights) for dose in RADII for weights in ("raw", "ema")}
    mean, low, high = falls[0.0156, "raw"]["lpf_rise"]
    assert low < mean < high
    assert mean == pytest.approx(1 / 2.56 - 1, abs=0.02)
    assert falls[0.0156, "raw"]["lpf"][0] == pytest.approx((0.4 + 0.04 / 2.56) / 0.44 - 1, abs=0.02), (
        "the value's is less"
    )
    assert len(content["regimes"]["a"]["claims"]) > 40
    assert all(entry["verdict"] == CANNOT_SAY for entry in content["between"])
