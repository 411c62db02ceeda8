"""The study end to end at a tiny size, and the parts that decide what is trained."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from findings.boundary import guarded
from findings.checksums import read_json
from findings.names import NINE
from findings.verdicts import Verdict
from toy import __main__ as command
from toy import report, settings, study
from toy.claims import PREDICTIONS
from toy.predictions import BITS, SWEEP
from toy.settings import Settings
from toy.training import BLOCK, METHODS

TINY = Settings(
    seeds=2, steps=60, frozen_steps=40, batch=8, features=8, evaluation_points=64, draws=2, readout_draws=8,
    sample_points=400, surface=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of the command at the tiny size, in this process."""
    out = tmp_path_factory.mktemp("results") / "new" / "toy.json"
    quick = settings.QUICK
    settings.QUICK = TINY
    try:
        status = command.main(["predictions", "--quick", "--workers", "0", "--out", str(out)])
    finally:
        settings.QUICK = quick
    assert status == 0
    return out, out.read_text(encoding="utf-8")


def test_every_prediction_has_a_verdict_and_every_number_an_interval(written: tuple[Path, str]) -> None:
    content = json.loads(written[1])
    assert [entry["identifier"] for entry in content["predictions"]] == [p.identifier for p in PREDICTIONS]
    allowed = {verdict.value for verdict in Verdict}
    for prediction, known in zip(content["predictions"], PREDICTIONS, strict=True):
        assert prediction["verdict"] in allowed
        assert prediction.get("revised", "") == known.revised
        for comparison in prediction["comparisons"]:
            assert comparison["low"] <= comparison["mean"] <= comparison["high"]
            assert comparison["seeds"] == TINY.seeds
    for measures in content["measures"].values():
        for name, entry in measures.items():
            assert entry["low"] <= entry["mean"] <= entry["high"], name
            assert entry["seeds"] == TINY.seeds


def test_the_file_says_where_it_comes_from(written: tuple[Path, str]) -> None:
    path, text = written
    content = json.loads(text)
    assert content["quick"] is True
    assert content["verdicts_may_be_quoted"] is False
    assert content["configuration"]["steps"] == TINY.steps
    assert content["configuration"]["seed_numbers"] == [0, 1]
    assert content["command"].startswith("python -m toy predictions --quick")
    assert {"versions", "device", "commit", "wall_seconds"} <= set(content)
    assert [file.name for file in path.parent.iterdir()] == ["toy.json"], "no parts are left behind"
    assert len(text) < 1e6


def test_the_series_that_figures_need_are_there(written: tuple[Path, str]) -> None:
    content = json.loads(written[1])
    series = content["series"]
    for row in NINE:
        curves = series[f"learnt/{row}"]
        assert len(curves["epsilon_norm"]["step"]) == len(curves["epsilon_norm"]["sampling"]["mean"]) == 20
        assert len(curves["perturbation_curve"]["distance"]) == len(curves["perturbation_curve"]["loss"]["low"])
        assert {f"learnt/{row}", f"frozen/{row}"} <= set(content["pairs"])
        for bits in BITS:
            dither = content["pairs"][f"learnt/{row}"][f"dithered_readout_rise_{bits}"]
            mean = content["measures"][f"learnt/{row}"][f"dithered_readout_rise_{bits}"]["mean"]
            # pairs are written with five digits, and the two seeds' rises may cancel in part
            size = max(map(abs, dither["measured"]))
            assert np.mean(dither["measured"]) == pytest.approx(mean, abs=1e-4 * size)
            assert (
                dither["predicted"] == content["pairs"][f"learnt/{row}"][f"quantized_readout_rise_{bits}"]["predicted"]
            )
    for row in ("learnt/adm", "learnt/sam"):
        assert np.shape(series[row]["loss_surface"]["loss"]) == (TINY.surface, TINY.surface)
        assert {bits: np.shape(cloud) for bits, cloud in series[row]["samples"].items()} == dict.fromkeys(
            ("32", "8", "4"), (400, 2)
        )
    assert {entry["row"] for entry in content["sweep"]} <= set(content["measures"])
    assert len(series["shifts"]["kl"]) == len(study.shifted_data())
    assert all(math.isfinite(kl) for kl in series["shifts"]["kl"])


def test_the_jobs_are_the_nine_rows_in_both_regimes_the_sweep_and_the_cheap_schedules() -> None:
    jobs = study.jobs_of(Settings())
    assert {job.row for job in jobs if job.thorough} == {f"{r}/{m}" for r in ("learnt", "frozen") for m in METHODS}
    assert {job.method.rho for job in jobs if job.regime == "learnt" and job.method.rho} == set(SWEEP)
    costs = {job.name: job.cost / job.steps for job in jobs if not job.thorough}
    assert costs["sam late tenth"] == pytest.approx(1.1)
    assert costs["sam every 5"] == pytest.approx(1.2)


def test_losses_are_matched_at_the_first_crossing() -> None:
    falling = np.tile([4.0, 3.0, 2.0, 1.0, 1.0], (3, 1))
    assert study.matched_steps(falling, 2.6, BLOCK) == 3 * BLOCK
    assert study.matched_steps(falling, 0.5, BLOCK) == 5 * BLOCK, "a loss that is not reached takes all steps"


def test_shifts_grow() -> None:
    divergences = [study.divergence_of_shift(data, points=4096) for data in study.shifted_data()]
    assert divergences[0] == 0.0
    assert divergences == sorted(divergences)
    assert divergences[1] > 0.01


def test_a_result_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "toy.json"
    report.write_whole(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        report.write_whole(path, {"a": float("nan")})
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "field", ["seeds", "steps", "frozen_steps", "batch", "features", "evaluation_points", "draws", "sample_points"]
)
def test_bad_settings_are_named(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} is 0"):
        Settings(**{field: 0})


def test_failure_is_exit_status_1_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*arguments: object, **named: object) -> None:
        raise FloatingPointError("the loss of seed 3 is nan at step 7")

    monkeypatch.setattr(study, "run", fails)
    assert guarded(lambda: command.main(["predictions", "--out", str(tmp_path / "toy.json")])) == 1
    assert "seed 3" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_bad_arguments_are_exit_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for given, name in ((["--seeds", "1"], "seeds is 1"), (["--workers", "-1"], "--workers is -1")):
        with pytest.raises(SystemExit) as exited:
            command.main(given)
        assert exited.value.code == 2
        assert name in capsys.readouterr().err
