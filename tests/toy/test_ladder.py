"""The regimes: their arms, their measures against the instruments of flatness, and a study that stops and goes on."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flatness
from findings.ladder import LATE
from findings.ladder_claims import SHARES_OF_THE_RUN
from toy import __main__ as command
from toy import ladder, ladder_command, ladder_measures, ladder_runs, measures, regimes
from toy.data import ring
from toy.distances import projections, sliced_wasserstein
from toy.ladder_measures import Measuring
from toy.models import ScoreModels, random_models
from toy.process import cosine_process
from toy.training import Method, Minibatches, Plan, train
from toy.training_sets import training_sets

PROCESS = cosine_process(100)
SEEDS = range(2)
SMALL = Measuring(points=64, draws=2, readout_draws=4, chains=400, many_chains=400, counts=(4, 6))
REGIME = regimes.Regime("small", "ring", 5, 8, 8, 1e-3, 60, (0.01, 0.1), (0.02,))
RUNG = regimes.Rung("small", (REGIME,), SMALL, seeds=2)


@pytest.fixture(scope="module")
def trained() -> ScoreModels:
    models = random_models(2, 2, 8, PROCESS, learn_features=True, divisor=1.0, dtype=torch.float64)
    return train(models, ring(), Method(), Plan(steps=100, batch=16, learning_rate=0.01), SEEDS).models[""]


def losses_of(models: ScoreModels) -> measures.Losses:
    points = measures.evaluation_points(ring(), PROCESS, SEEDS, 64)
    wide = dataclasses.replace(points, x_t=points.x_t.double(), epsilon=points.epsilon.double())
    return measures.Losses(models, wide)


def module_loss(module: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    x, t, epsilon = batch
    return (module(x, t) - epsilon).square().mean(1)


def check_worst_case(models: ScoreModels) -> None:
    """Each seed's is what `flatness.worst_case_sharpness` finds on its module."""
    losses = losses_of(models)
    rise = ladder_measures.worst_case_rise(losses, 0.3)
    points = losses.evaluation
    for seed in range(2):
        batch = (points.x_t[seed], points.t[seed], points.epsilon[seed])
        expected = flatness.worst_case_sharpness(
            models.single(seed), module_loss, [batch], rho=0.3, steps=ladder_measures.ASCENT_STEPS
        )
        assert float(rise[seed]) == pytest.approx(expected.rise.value, rel=1e-9)


def test_the_worst_case_is_the_instruments(trained: ScoreModels) -> None:
    check_worst_case(trained)


@pytest.mark.parametrize("factor", [0.0, -1.0])
def test_mutants_of_the_worst_case_fail(trained: ScoreModels, factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    own = ladder_measures.sam_weights
    monkeypatch.setattr(ladder_measures, "sam_weights", lambda w, g, rho: own(w, g, factor * rho))
    with pytest.raises(AssertionError):
        check_worst_case(trained)


def test_gradients_of_minibatches_are_those_of_the_module(trained: ScoreModels) -> None:
    """Norms in the mean over the block that training never reaches; every weight that is learnt counts."""
    data = training_sets(ring(), 5, SEEDS)
    measured = ladder_measures.gradient_measures(trained, data, SEEDS, 8)
    stream = Minibatches(data, PROCESS, tuple(SEEDS), 8, dtype=torch.float64)
    for seed in range(2):
        module = trained.single(seed)
        squares = []
        for batch in stream.block(ladder_measures.BEYOND):
            loss = module_loss(module, (batch.x_t[seed], batch.t[seed], batch.epsilon[seed])).mean()
            gradients = torch.autograd.grad(loss, list(module.parameters()))
            squares.append(sum(float(g.square().sum()) for g in gradients))
        expected = torch.tensor(squares, dtype=torch.float64)
        assert float(measured["gradient_norm"][seed]) == pytest.approx(float(expected.sqrt().mean()), rel=1e-9)
        assert float(measured["gradient_square"][seed]) == pytest.approx(float(expected.mean()), rel=1e-9)


def test_distances_are_the_toys(trained: ScoreModels) -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(2, 500, 2, generator=generator)
    fresh = torch.stack([ring().sample(500, measures.generator_of("label", seed)) for seed in SEEDS])
    expected = sliced_wasserstein(samples, fresh, projections(2)).value
    distances = ladder_measures.distances(samples, ring(), "label", tuple(SEEDS))
    torch.testing.assert_close(distances, expected, rtol=1e-5, atol=0)  # float32 projections


def test_choices_are_made_by_other_noise_and_other_points(trained: ScoreModels) -> None:
    single = trained.replaced(*(tensor.float() for tensor in (trained.theta, trained.W, trained.U)))
    measures = ladder_measures.all_measures(single, ring(), ring(), SEEDS, 8, SMALL)
    assert not torch.equal(measures["choice_distance-4"], measures["distance-4"])
    again = ladder_measures.all_measures(single, ring(), ring(), SEEDS, 8, SMALL)
    assert all(torch.equal(measures[name], again[name]) for name in measures)
    assert "train_loss" not in measures
    finite = ladder_measures.all_measures(single, ring(), training_sets(ring(), 5, SEEDS), SEEDS, 8, SMALL)
    assert set(finite) - set(measures) == {"train_loss"}


def test_late_points_are_those_of_the_claims_and_measured_as_the_end_is() -> None:
    assert tuple(share for share in SHARES_OF_THE_RUN if LATE <= share < 1) == ladder.LATE_SHARES
    models, data = random_models(2, 2, 8, PROCESS, learn_features=True, divisor=1.0), training_sets(ring(), 5, SEEDS)
    late = ladder_measures.late_measures(models, ring(), data, SEEDS, SMALL)
    end = ladder_measures.all_measures(models, ring(), data, SEEDS, 8, SMALL)
    assert {"held_out_loss", "train_loss", "lpf_rise", "distance-4", "distance-6", "choice_distance-4"} <= late.keys()
    assert all(torch.equal(values, end[name]) for name, values in late.items())


def test_arms_are_every_method_at_every_dose_once() -> None:
    for rung in regimes.RUNGS.values():
        for regime in rung.regimes:
            arms = regimes.arms_of(regime)
            keys = [(arm.method, arm.dose) for arm in arms]
            assert len(set(keys)) == len(keys)
            assert keys[0] == ("adm", 0.0)
            assert [dose for method, dose in keys if method == "sam"] == list(regime.radii)
            methods = {"adm", "ip", "sam", "rwp"}
            others = {"asam", "random sam", "friendly sam", "late sam", "sam every 5", "sam of half length"}
            assert {method for method, _ in keys} == (methods | others if regime.others else methods)
    halves = [arm for arm in regimes.arms_of(regimes.RING[0]) if arm.method == "sam of half length"]
    assert all(arm.how.gradients(arm.steps) == arm.regime.steps for arm in halves), "equal cost"


def test_radii_of_two_batches_have_equal_shares_of_the_root() -> None:
    """16 and 128: neighbours among the powers of sqrt(8), to the digits they are written with."""
    for small, large in ((0.0055, 0.0156), (0.0156, 0.0442), (0.0442, 0.125)):
        assert small in regimes.RADII
        assert large / small == pytest.approx(8**0.5, rel=0.01)


def made(stored: ladder_runs.Kept, **more: Any) -> list[ladder.Row]:
    """All rows, made here."""
    return ladder_runs.run(ladder_runs.work_of(stored), stored, workers=0, **more).rows


def test_a_study_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored, whole = ladder_runs.Kept(tmp_path / "a", RUNG), ladder_runs.Kept(tmp_path / "b", RUNG)
    expected = made(whole)
    own = ladder_runs.run_arm
    begun: list[str] = []

    def stopping(arm: regimes.Arm, rung: regimes.Rung) -> list[ladder.Row]:
        if len(begun) == 2:
            raise KeyboardInterrupt
        begun.append(arm.label)
        return own(arm, rung)

    monkeypatch.setattr(ladder_runs, "run_arm", stopping)
    with pytest.raises(KeyboardInterrupt):
        made(stored)
    work = ladder_runs.work_of(stored)
    assert len(work.runs) - len(work.missing) == 2
    assert work.words(2) == "5 runs, 2 of them done; about 1 minute more on 2 cores, as fast as for these"
    assert work.rows == expected[: len(work.rows)]
    monkeypatch.setattr(ladder_runs, "run_arm", own)
    reports: list[tuple[str, float]] = []
    assert made(stored, tell=lambda *one: reports.append(one)) == expected
    assert [what for what, _ in reports] == ["small: sam 0.01", "small: sam 0.1", "small: rwp 0.02"]
    assert sum(share for _, share in reports) == pytest.approx(1.0)


def test_a_kept_result_that_is_damaged_is_made_anew(tmp_path: Path) -> None:
    arm = regimes.arms_of(REGIME)[0]
    stored = ladder_runs.Kept(tmp_path, RUNG)
    assert stored.get(arm) is None
    rows = [ladder.Row(REGIME.name, arm.method, arm.dose, "raw", 60, True, {"loss": [0.25, 0.5]})]
    stored.put(arm, rows, 1.0)
    assert stored.get(arm) == ladder_runs.Run(rows, 1.0)
    whole = stored.path(arm).read_text()
    for damaged in (
        whole.replace("0.25", "0.26"),
        whole[:40],
        "[" * 10**5,
        "[]",
        '{"rows": []}',
        '{"rows": [{"x": 1}]}',
    ):
        assert damaged != whole
        stored.path(arm).write_text(damaged)
        with pytest.warns(UserWarning, match="is made anew"):
            assert stored.get(arm) is None
    stored.put(arm, rows, 1.0)
    assert stored.get(arm) == ladder_runs.Run(rows, 1.0)


def test_the_plan_goes_by_the_pace_of_what_is_done(tmp_path: Path) -> None:
    stored = ladder_runs.Kept(tmp_path, RUNG)
    arms = regimes.arms_of(REGIME)
    estimates = [ladder_runs.seconds_of(arm, RUNG) for arm in arms]
    assert ladder_runs.work_of(stored).seconds == pytest.approx(sum(estimates))
    assert ladder_runs.work_of(stored).words(0).endswith("about 1 minute more on 1 core, idle")
    rows = [ladder.Row(REGIME.name, "any", 0.0, "raw", 60, True, {"loss": [0.25, 0.5]})]
    for arm, estimate in zip(arms[:3], estimates, strict=False):
        stored.put(arm, rows, 1000.0 * estimate)
    assert ladder_runs.work_of(stored).seconds == pytest.approx(1000.0 * sum(estimates[3:]), rel=0.01)


def test_what_a_result_depends_on_is_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arm = regimes.arms_of(REGIME)[0]
    stored = ladder_runs.Kept(tmp_path, RUNG)
    other = dataclasses.replace(RUNG, measuring=dataclasses.replace(SMALL, draws=3))
    longer = dataclasses.replace(arm, regime=dataclasses.replace(REGIME, steps=61))
    paths = {stored.path(arm), stored.path(longer), ladder_runs.Kept(tmp_path, other).path(arm)}
    more = dataclasses.replace(arm, regime=dataclasses.replace(REGIME, radii=(0.01, 0.1, 1.0)))
    assert stored.path(more) == stored.path(arm), "what else is run does not matter"
    stored.code = "other"
    assert len(paths | {stored.path(arm)}) == 4


def test_rows_are_finite_numbers_of_every_seed(tmp_path: Path) -> None:
    rows = made(ladder_runs.Kept(tmp_path, RUNG))
    last = [row for row in rows if row.last]
    assert {(row.method, row.dose, row.weights) for row in last} == {
        (method, dose, weights)
        for method, dose in (("adm", 0.0), ("ip", 0.0), ("sam", 0.01), ("sam", 0.1), ("rwp", 0.02))
        for weights in ("raw", "ema", "swa", *(("power 0.05", "power 0.1") if method == "adm" else ()))
    }
    assert all(len(values) == 2 for row in rows for values in row.measures.values())
    assert {row.step for row in rows if row.method == "adm"} == {6, 15, 30, 48, 51, 54, 57, 60}
    assert {row.weights for row in rows if row.step > 30 and not row.last} == {"raw"}
    sam = next(row for row in last if row.method == "sam" and row.dose == 0.1)
    dose = [
        0.1 * g / held for g, held in zip(sam.measures["gradient_norm"], sam.measures["held_out_loss"], strict=True)
    ]
    assert sam.measures["dose"] == pytest.approx(dose, rel=1e-4)
    assert sam.measures["cost"] == [2.0, 2.0]


def test_the_command_runs_regimes_and_writes_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(regimes, "RUNGS", {"ring": dataclasses.replace(RUNG, name="ring")})
    monkeypatch.setattr(ladder_command, "KEPT", tmp_path / "kept")
    out = tmp_path / "ring.json"
    assert command.main(["regimes", "--so-far", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["rows"] == []
    assert json.loads(out.read_text())["complete"] is False
    assert command.main(["regimes", "--workers", "0", "--out", str(out)]) == 0
    assert "5 runs, 0 of them done" in capsys.readouterr().out
    content = json.loads(out.read_text())
    assert content["complete"]
    assert not content["verdicts_may_be_quoted"], "two seeds"
    assert len(content["distance_floor"]["ring"]) == 2
    assert {row["regime"] for row in content["rows"]} == {"small"}
    assert list(content["verdicts"]["regimes"]) == ["small"]
    decided = {claim["verdict"] for claim in content["verdicts"]["regimes"]["small"]["claims"]}
    assert decided <= {"confirmed", "refuted", "undecided", "cannot say"}
    assert command.main(["regimes", "--so-far", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["complete"]


@pytest.mark.parametrize(
    ("given", "message"), [(["--so-far"], "--so-far goes with regimes or images"), (["movies"], "invalid choice")]
)
def test_bad_arguments_of_the_command(given: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(given)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("field", ["source", "training_size", "steps"])
def test_bad_regimes_are_named(field: str) -> None:
    bad: Any = {"source": "movies", "training_size": -1, "steps": 3}[field]
    with pytest.raises(ValueError, match=f"{field} is"):
        dataclasses.replace(REGIME, **{field: bad})
