"""Predictions are data; what is computed from them is checked on tables made up for it."""

from dataclasses import replace

import numpy as np
import pytest

from findings.verdicts import Verdict, above, below, mean_interval, within
from toy import tables
from toy.claims import PREDICTIONS
from toy.predictions import Comparison, Prediction, judge

TABLE = {
    "a": {"x": np.array([1.0, 1.2, 0.8, 1.1]), "y": np.array([2.0, 2.4, 1.6, 2.2])},
    "b": {"x": np.array([4.0, 4.1, 3.9, 4.2])},
}


def prediction(*comparisons: Comparison, identifier: str = "P1a") -> Prediction:
    return Prediction(identifier, "statement", "theory", "number", "how", comparisons)


def test_the_forms() -> None:
    a, b = TABLE["a"]["x"], TABLE["b"]["x"]
    np.testing.assert_array_equal(Comparison("a", "x", below(), form="value").numbers(TABLE), a)
    np.testing.assert_array_equal(Comparison("a", "x", below(), "b", form="difference").numbers(TABLE), a - b)
    np.testing.assert_array_equal(Comparison("a", "x", below(), "b").numbers(TABLE), (a - b) / b.mean())
    np.testing.assert_array_equal(Comparison("a", "x", below(), "b", form="ratio").numbers(TABLE), a / b)
    np.testing.assert_array_equal(
        Comparison("a", "x", below(), against="y").numbers(TABLE), (a - TABLE["a"]["y"]) / TABLE["a"]["y"].mean()
    )
    with pytest.raises(ValueError, match="form is"):
        Comparison("a", "x", below(), form="quotient")
    with pytest.raises(ValueError, match="revised is 'later'"):
        replace(prediction(Comparison("a", "x", below())), revised="later")


def test_a_change_is_a_ratio_on_the_logarithms_scale() -> None:
    ratios = np.array([0.05, 0.06, 0.3, 0.07])
    table = {"a": {"lpf_rise": 2 * ratios}, "b": {"lpf_rise": np.full(4, 2.0)}}
    one = Comparison("a", "lpf_rise", below(), "b")
    assert one.form == "change"
    np.testing.assert_allclose(one.numbers(table), np.log(ratios))
    interval, logs = one.interval(table, 3), mean_interval(np.log(ratios), 3)
    assert (interval.mean, interval.low, interval.high) == pytest.approx(
        tuple(np.expm1([logs.mean, logs.low, logs.high]))
    )
    assert -1 < interval.low < interval.mean < interval.high
    plain = mean_interval(ratios - 1, 3)
    assert plain.low < -1, "as a difference it would pass zero"
    mirrored = replace(one, row="b", baseline="a").interval(table, 3)
    assert (1 + mirrored.mean) * (1 + interval.mean) == pytest.approx(1)
    negative = {"a": {"lpf_rise": np.array([-1.0, 1.0])}, "b": {"lpf_rise": np.ones(2)}}
    assert (one.form_in(table), one.form_in(negative)) == ("change", "excess")
    assert one.interval(negative, 1) == mean_interval([-2.0, 0.0])
    assert Comparison("a", "quantized_rise_8", below(), "b").form == "excess", "which may be negative"


def test_a_flipped_sign_turns_the_verdict() -> None:
    comparison = Comparison("a", "x", below(), "b")
    (right,) = judge(TABLE, [prediction(comparison)])
    assert right.verdict is Verdict.CONFIRMED
    flipped = {row: {name: -values for name, values in measures.items()} for row, measures in TABLE.items()}
    (wrong,) = judge(flipped, [prediction(replace(comparison, form="difference"))])
    assert wrong.verdict is Verdict.REFUTED
    (other,) = judge(TABLE, [prediction(replace(comparison, region=above()))])
    assert other.verdict is Verdict.REFUTED


def test_comparisons_are_corrected_within_their_group_only() -> None:
    one = Comparison("a", "x", below(), "b")
    outcomes = judge(
        TABLE, [prediction(one, one), prediction(one, identifier="P1b"), prediction(one, identifier="P2a")]
    )
    numbers = one.numbers(TABLE)
    assert [i for outcome in outcomes[:2] for i in outcome.intervals] == [mean_interval(numbers, 3)] * 3
    assert outcomes[2].intervals == (mean_interval(numbers),)


def test_one_comparison_that_fails_refutes_the_prediction() -> None:
    (outcome,) = judge(TABLE, [prediction(Comparison("a", "x", below(), "b"), Comparison("a", "x", above(), "b"))])
    assert outcome.verdicts == (Verdict.CONFIRMED, Verdict.REFUTED)
    assert outcome.verdict is Verdict.REFUTED


def test_a_missing_row_is_an_error() -> None:
    with pytest.raises(KeyError):
        judge(TABLE, [prediction(Comparison("c", "x", within(0.1), "b"))])


def test_the_list_is_complete_and_says_everything_once() -> None:
    identifiers = [prediction.identifier for prediction in PREDICTIONS]
    assert len(set(identifiers)) == len(identifiers)
    assert {prediction.group for prediction in PREDICTIONS} == {f"P{n}" for n in range(1, 10)}
    assert identifiers == sorted(identifiers, key=lambda name: name[1])
    for one in PREDICTIONS:
        assert one.comparisons
        assert one.statement
        assert one.expected
        assert one.measured
        assert one.source in ("theory", "paper", "question")


def test_claims_and_theory_name_the_features_alike() -> None:
    words = " ".join(f"{p.statement} {p.expected} {p.measured}" for p in PREDICTIONS)
    assert "E|phi|^2" in words
    assert "psi" not in words.replace("epsilon", "")


def test_the_control_at_equal_loss_is_the_same_comparison_against_stopped_runs() -> None:
    by_identifier = {prediction.identifier: prediction for prediction in PREDICTIONS}
    for shift in (1, 2, 3, 4):
        free, equal = by_identifier[f"P7e-{shift}"].comparisons, by_identifier[f"P7f-{shift}"].comparisons
        moved = [replace(c, baseline=c.baseline.replace("learnt/", "equal/")) for c in free]
        assert list(equal) == moved
        assert [c.baseline for c in moved] == ["equal/adm", "equal/adm+ema", "equal/adm+swa"]
    for count in (20, 100):
        rows = [(c.row, c.baseline, c.measure, c.region) for c in by_identifier[f"P6f-{count}"].comparisons]
        assert rows == [(f"equal/ip{a}", f"equal/adm{a}", f"sw_{count}", below()) for a in ("", "+ema", "+swa")]


def test_what_was_decided_after_a_first_run_says_so() -> None:
    added = {p.identifier for p in PREDICTIONS if p.revised == "added"}
    assert added == {"P1d", "P4p", "P4q", "P4r", "P6f-20", "P6f-100", *(f"P7f-{shift}" for shift in (1, 2, 3, 4))}
    one_radius = {p.identifier for p in PREDICTIONS if p.statement.endswith("(SAM at the radius .1 alone)")}
    measured_anew = {p.identifier for p in PREDICTIONS if p.group == "P5"}
    restated = {p.identifier for p in PREDICTIONS if p.revised == "restated"}
    assert restated == {"P1c", "P7c"} | measured_anew | (one_radius - added)


def test_what_rests_on_one_radius_says_so() -> None:
    for prediction in PREDICTIONS:
        rows = {row for c in prediction.comparisons for row in (c.row, c.baseline)}
        sweep = any("rho=" in row for row in rows) or prediction.identifier in ("P2f", "P2g", "P3c")
        one = any(row.startswith("learnt/sam") for row in rows) and not sweep
        assert prediction.statement.endswith("(SAM at the radius .1 alone)") == one, prediction.identifier


def test_nothing_is_called_invariant_that_a_factor_for_each_neuron_moves() -> None:
    """Of the measures that the predictions are on none is, by `test_what_a_factor_for_each_neuron_moves`."""
    texts = [
        *tables.TITLES.values(),
        *(text for one in PREDICTIONS for text in (one.statement, one.expected, one.measured)),
    ]
    assert not [text for text in texts if "invariant" in text]
