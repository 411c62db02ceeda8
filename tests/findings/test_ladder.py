"""The ladder's judge on studies whose answers are known: selections, regimes, verdicts, and what cannot be said."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from findings.documents import VERSION
from findings.ladder import LOSS, RISE, VALUE, LadderError, Measure, Quantity, RunKey, Study, judged, quantity_of
from findings.ladder_claims import AT_8_BITS, CLAIMS, LadderClaim, Selection

STEPS = 1000
LATE = (800, 900, 1000)
RADII, NOISES = (0.01, 0.03, 0.1), (0.002, 0.005, 0.01)
SEEDS = (0, 1, 2)
Row = Callable[[str, float, int, str], dict[str, float]]


def plain(method: str, dose: float, seed: int, weights: str) -> dict[str, float]:
    """A study with large step noise: SAM's raw distances are a U over radii, its EMA's rise; no memorising."""
    wobble = 1 + 0.01 * math.sin(7 * seed + len(weights) + 100 * dose)
    relative = dose / (0.03 if method == "sam" else 0.005)
    if method in ("adm", "ip"):
        relative = 0.0
    raw = weights == "raw"
    rise = 0.02 / (1 + 2 * relative)
    loss = 0.1 * (1 + 0.02 * relative**2) + (0.4 * rise if raw else 0.0)
    distance = (10 - 4 * relative + 2 * relative**2) if raw else 6 + relative
    return {
        "loss": loss * wobble,
        "training": 0.1 * wobble if not raw else loss * wobble,
        "rise": rise * wobble,
        "distance": distance * wobble,
        "gap": (0.5 - 0.1 * relative * raw) * wobble,
        "worst": 0.05 * (1 if raw else 0.5) / (1 + relative) * wobble,
        "bits": 1.0,
    }


def document(method: str, dose: float, seed: int, row: Row) -> dict[str, Any]:
    points: list[dict[str, Any]] = []
    measures: dict[str, Any] = {}

    def add(weights: str, step: int, kind: str, result: Any, sampling_steps: int = 0, bits: int = 32) -> None:
        name = f"{weights}-{step} {kind}-{sampling_steps}-{bits}"
        fields = {"step": step, "weights": weights, "kind": kind, "sampling_steps": sampling_steps, "bits": bits}
        points.append({"name": name, **fields})
        measures[name] = result

    for weights, step in [*(("raw", step) for step in (200, *LATE)), ("ema", STEPS), ("swa", STEPS)]:
        of = row(method, dose, seed, weights)
        early = 100.0 if step < 800 else 1.0  # what must not be read
        shift = 1 + 0.1 * (step - 900) / 900 if weights == "raw" else 1.0
        add(weights, step, "losses", {"held_out_mse": {"value": of["loss"] * early},
                                      "training_mse": {"value": of["training"] * early}})  # fmt: skip
        rises = {"value": {"value": (of["loss"] + of["rise"]) * early}, "rise": {"value": of["rise"] * early}}
        add(weights, step, "lpf", {"absolute": rises})
        for steps in (20, 100):
            spaces = {space: {"value": of["distance"] * early * shift} for space in ("features", "pixels")}
            add(weights, step, "distance", {"choosing": spaces, "reported": spaces}, steps)
            add(weights, step, "exposure", {"mean_absolute_gap": {"value": of["gap"] * early}}, steps)
        rounded = {space: {"value": of["distance"] * early * shift * of["bits"]} for space in ("features", "pixels")}
        add(weights, step, "distance", {"choosing": rounded, "reported": rounded}, 20, 8)
        for bits in (4, 3):
            add(weights, step, "rounding", {"rise": {"value": of["rise"] * early}}, 0, bits)
    for weights in ("raw", "ema", "swa"):
        add(weights, STEPS, "worst-case", {"rise": {"value": row(method, dose, seed, weights)["worst"]}})
        norm, loss = {"value": 2.0 + seed}, {"value": 0.5}
        add(weights, STEPS, "gradient", {"norm": norm, "loss": loss})
    configuration = {
        "method": method, "seed": seed, "steps": STEPS, "sam": {"rho": dose if method == "sam" else 0.1},
        "weight_noise": {"noise_sigma": dose if method == "rwp" else 0.01},
    }  # fmt: skip
    return {"version": VERSION, "settings": {"configuration": configuration, "points": {}}, "points": points,
            "measures": measures}  # fmt: skip


def study(folder: Path, row: Row = plain, without: tuple[str, ...] = ()) -> Study:
    folder.mkdir(exist_ok=True)
    for seed in SEEDS:
        doses = [("adm", 0.0), ("ip", 0.0), *(("sam", r) for r in RADII), *(("rwp", n) for n in NOISES)]
        for method, dose in doses:
            if method not in without:
                path = folder / f"{method}-{dose:g}-{seed}.json"
                path.write_text(json.dumps(document(method, dose, seed, row)))
    return Study(folder)


def test_rounded_weights_are_held_against_the_same_checkpoints(tmp_path: Path) -> None:
    """Of bits at two of three late points the ratio is of these two, and no scatter between checkpoints enters."""
    study(tmp_path)
    for path in tmp_path.glob("*.json"):
        stored = json.loads(path.read_text())
        stored["points"] = [p for p in stored["points"] if (p["step"], p["bits"]) != (900, 8)]
        path.write_text(json.dumps(stored))
    at_8_bits = quantity_of(Measure(AT_8_BITS, "features"))
    assert Study(tmp_path).number(RunKey("adm", 0.0, 1), "raw", at_8_bits) == pytest.approx(1.0, rel=1e-12)


def claim(identifier: str) -> LadderClaim:
    return next(one for one in CLAIMS if one.identifier == identifier)


def verdicts(made: Study) -> dict[str, str]:
    return {one.claim.identifier: one.verdict for one in judged(made)}


def test_a_raw_row_is_the_mean_over_its_late_points(tmp_path: Path) -> None:
    made = study(tmp_path)
    loss = quantity_of(LOSS)
    assert made.number(RunKey("adm", 0.0, 1), "raw", loss) == pytest.approx(plain("adm", 0.0, 1, "raw")["loss"])
    distance = Measure("distance-20", "features")
    expected = plain("adm", 0.0, 1, "raw")["distance"]
    assert made.number(RunKey("adm", 0.0, 1), "raw", quantity_of(distance)) == pytest.approx(
        expected
    )  # shifts of -, 0, +
    late = made.late(RunKey("adm", 0.0, 1), distance)
    assert late == pytest.approx([expected * (1 + shift * 0.1 / 9) for shift in (-1, 0, 1)])


def test_selections_find_their_doses(tmp_path: Path) -> None:
    made = study(tmp_path)
    assert made.dose_of(Selection("sam", "raw", "chosen")) == 0.03  # the U's bottom
    assert made.dose_of(Selection("sam", "ema", "chosen for the average")) == 0.01  # its EMA only loses
    assert made.dose_of(Selection("sam", "raw", "largest")) == 0.1
    assert made.dose_of(Selection("adm")) == 0.0
    between = made.dose_of(Selection("rwp", "raw", "equal fall"))
    assert isinstance(between, tuple)
    below, above, weight = between
    # the rise is the same function of the relative dose, so that the noise of equal fall is .005 itself
    assert below * (above / below) ** weight == pytest.approx(0.005, rel=0.05)


def test_a_matched_dose_lies_where_the_value_has_fallen_by_the_papers_share(tmp_path: Path) -> None:
    def falls(method: str, dose: float, seed: int, weights: str) -> dict[str, float]:
        of = plain(method, dose, seed, weights)
        value = 0.1 * (1 - 0.2 * math.log10(max(dose, 1e-3) / 1e-3)) if method == "sam" else 0.1
        return of | {"loss": value - of["rise"]}

    made = study(tmp_path, falls)
    between = made.dose_of(Selection("sam", "raw", "matched"))
    assert isinstance(between, tuple)
    value = made.selected(Selection("sam", "raw", "matched"), VALUE)
    assert np.allclose(value / 0.1, 0.063 / 0.097, rtol=1e-6)


def test_rows_are_not_compared_with_themselves(tmp_path: Path) -> None:
    def ever_better(method: str, dose: float, seed: int, weights: str) -> dict[str, float]:
        of = plain(method, dose, seed, weights)
        return of | {"distance": 10 / (1 + 10 * dose), "rise": -0.001 if dose == 0.1 else of["rise"]}

    made = study(tmp_path, ever_better)
    assert made.dose_of(Selection("sam", "raw", "chosen")) == 0.1
    outcome = next(one for one in judged(made) if one.claim.identifier == "L1b")
    assert outcome.verdict == "cannot say"
    assert "same dose, 0.1" in outcome.why
    assert made.dose_of(Selection("sam", "raw", "matched rise")) is not None  # a rise below zero is no error


def test_below_the_smallest_dose_the_other_side_is_plain_training(tmp_path: Path) -> None:
    def falls(method: str, dose: float, seed: int, weights: str) -> dict[str, float]:
        of = plain(method, dose, seed, weights)
        return of | {"rise": 0.02 if method != "sam" else 0.002}

    made = study(tmp_path, falls)
    between = made.dose_of(Selection("sam", "raw", "matched rise"))
    assert isinstance(between, tuple)
    assert between[:2] == (0.0, 0.01)
    rise = made.selected(Selection("sam", "raw", "matched rise"), RISE)
    assert np.allclose(rise, 0.02 * 0.063 / 0.097)


def test_where_no_dose_reaches_the_papers_it_cannot_be_said(tmp_path: Path) -> None:
    made = study(tmp_path)  # the value falls by at most a tenth
    assert made.dose_of(Selection("sam", "raw", "matched")) is None
    outcome = next(one for one in judged(made) if one.claim.identifier == "L1c")
    assert (outcome.verdict, outcome.comparisons) == ("cannot say", ())
    assert outcome.why == "no dose of sam that was run lowers the value of the LPF by the paper's 35%"


def test_regimes_are_measured(tmp_path: Path) -> None:
    assert study(tmp_path / "a").regime()["regimes"] == ["step noise"]

    def calm(method: str, dose: float, seed: int, weights: str) -> dict[str, float]:
        of = plain(method, dose, seed, "ema")
        return of | {"training": of["loss"] * (0.5 if method == "adm" else 1.0)}

    assert study(tmp_path / "b", calm).regime()["regimes"] == ["memorised"]

    def neither(method: str, dose: float, seed: int, weights: str) -> dict[str, float]:
        return plain(method, dose, seed, "ema")

    assert study(tmp_path / "c", neither).regime()["regimes"] == ["neither"]


def test_verdicts_of_a_study_whose_answers_are_known(tmp_path: Path) -> None:
    judged = verdicts(study(tmp_path))
    expected = {
        "L1a": "confirmed", "L1b": "confirmed", "L2a": "refuted", "L2b": "confirmed", "L2d": "confirmed",
        "L4a": "confirmed", "L5b": "confirmed", "L6a": "confirmed", "L6b": "confirmed", "L7a": "confirmed",
        "L7b": "confirmed", "L7c": "confirmed", "L8a": "confirmed", "L8b": "refuted", "L8c": "confirmed",
    }  # fmt: skip
    assert {name: judged[name] for name in expected} == expected
    for memorised in ("L3a", "L3b", "L6d"):
        assert judged[memorised] == "cannot say"


def test_of_a_memorised_study_of_all_images_whose_copies_nobody_counts_the_rest_is_judged(tmp_path: Path) -> None:
    def memorised(method: str, dose: float, seed: int, weights: str) -> dict[str, float]:
        of = plain(method, dose, seed, weights)
        return of | {"training": of["loss"] / 2}

    of = {one.claim.identifier: one for one in judged(study(tmp_path, memorised))}
    assert of["L3b"].verdict in {"confirmed", "refuted", "undecided"}
    assert of["L3c"].verdict == "cannot say"
    assert "has no distance (copies value) of its ema weights" in of["L3c"].why


def test_turned_around_the_verdicts_turn(tmp_path: Path) -> None:
    def worse(method: str, dose: float, seed: int, weights: str) -> dict[str, float]:
        of = plain(method, dose, seed, weights)
        return of | {"distance": 10 / of["distance"]} if method == "sam" and weights == "raw" else of

    def risen(method: str, dose: float, seed: int, weights: str) -> dict[str, float]:
        of = plain(method, dose, seed, weights)
        return of | {"distance": of["distance"] * 2, "rise": of["rise"] * 4} if method == "sam" else of

    assert verdicts(study(tmp_path / "b", risen))["L1a"] == "refuted"
    assert verdicts(study(tmp_path / "b", risen))["L7a"] == "refuted"
    assert verdicts(study(tmp_path / "a", worse))["L1a"] == "confirmed"


def test_distances_that_disagree_are_told(tmp_path: Path) -> None:
    made = study(tmp_path)
    for key, of in made.documents.items():
        for point in of["points"]:
            if point["kind"] == "distance" and key.method == "sam" and point["weights"] == "raw":
                of["measures"][point["name"]]["reported"] = {
                    "features": of["measures"][point["name"]]["reported"]["features"],
                    "pixels": {"value": 20.0 + 0.01 * key.seed},
                }
    outcome = next(one for one in judged(made) if one.claim.identifier == "L1a")
    assert outcome.verdict == "disputed"


def test_a_missing_method_cannot_be_said(tmp_path: Path) -> None:
    made = study(tmp_path, without=("rwp",))
    outcome = next(one for one in judged(made) if one.claim.identifier == "L5b")
    assert outcome.verdict == "cannot say"
    assert "rwp" in outcome.why


def test_a_dose_that_one_seed_lacks_is_no_dose(tmp_path: Path) -> None:
    study(tmp_path)
    (tmp_path / "sam-0.1-2.json").unlink()
    assert Study(tmp_path).doses("sam") == [0.01, 0.03]


def test_folders_that_are_no_study_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LadderError, match="holds no run"):
        Study(tmp_path)
    study(tmp_path)
    (tmp_path / "again.json").write_text(json.dumps(document("adm", 0.0, 0, plain)))
    with pytest.raises(LadderError, match="second file"):
        Study(tmp_path)
    with pytest.raises(LadderError, match="no quantity"):
        quantity_of(Measure("beauty"))


def test_every_claims_quantities_are_known(tmp_path: Path) -> None:
    made = study(tmp_path)
    special = ("held_out_loss over lpf_rise", "noisy over clean distance-100, ddim over ancestral")
    for one in CLAIMS:
        for name in one.quantities:
            assert name in special or all(isinstance(quantity_of(m), Quantity) for m in made.measures(name))


def test_an_interval_is_wider_with_more_comparisons_in_its_group(tmp_path: Path) -> None:
    made = study(tmp_path)
    alone = judged(made, [claim("L7a")])[0].comparisons[0].interval
    together = next(one for one in judged(made) if one.claim.identifier == "L7a").comparisons[0].interval
    assert together.high - together.low > alone.high - alone.low
    twice = dataclasses.replace(claim("L7a"), group="L99")
    assert judged(made, [twice])[0].comparisons[0].interval == alone
