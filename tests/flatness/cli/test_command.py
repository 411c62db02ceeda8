"""The command line: what it prints and writes, and its exit statuses."""

from __future__ import annotations

import errno
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import flatness
from flatness import cli
from flatness.cli import document, plots
from flatness.cli.command import parser, run
from flatness.cli.data import Data
from flatness.cli.options import QUICK, MeasureOptions, PlaceOptions, taken
from tests.flatness.cli import models

MODELS = "tests.flatness.cli.models"
SMALL = [
    *("--images", "6", "--draws", "2", "--curve-draws", "2", "--curve-rms", ".01", ".02"),
    *("--bits", "4", "--steps", "3", "--exposure-images", "4", "--device", "cpu"),
]
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables wide enough that names stand in one line, whatever started the tests."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def data(tmp_path: Path) -> str:
    values = np.random.default_rng(0).uniform(-1, 1, (8, 1, 4, 4))
    np.savez(tmp_path / "d.npz", x=values, labels=np.arange(8) % 3)
    return str(tmp_path / "d.npz")


def test_measure_prints_a_table_and_writes_what_it_says(data: str, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out"
    assert run(["measure", f"{MODELS}:mlp", "--data", data, *SMALL, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "rise, noise 0.01" in printed.out
    assert "6 images, 2 draws of weight noise, seed 0, float32 on cpu" in printed.out.replace("\n", " ")
    assert "mlp: rounding to 4 bits" in printed.err
    assert sorted(path.name for path in out.iterdir()) == ["measure.json", "measure.png"]
    assert (out / "measure.png").read_bytes()[:4] == b"\x89PNG"
    written = json.loads((out / "measure.json").read_text())
    assert written["settings"]["draws"] == 2
    assert written["settings"]["images"] == 6
    assert len(written["sources"]["mlp"]["about"]["sha256"]) == 64
    assert len(written["data"]["sha256"]) == 64
    assert written["provenance"]["versions"]["torch"]
    number = written["sources"]["mlp"]["numbers"]["quantization-4.rise"]
    assert number["value"] == pytest.approx(np.mean(number["parts"][0]["by_sample"]), rel=1e-5)  # of 7 digits
    assert abs(number["half_width"]) > number["error"] > 0
    before = written
    assert run(["measure", f"{MODELS}:mlp", "--data", data, *SMALL, "--out", str(out)]) == 0
    again = json.loads((out / "measure.json").read_text())
    for one in (before, again):
        del one["sources"]["mlp"]["seconds"]
    assert again == before  # a function of the options and the seed


def test_compare_gives_differences_with_intervals(data: str, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out"
    sources = [f"{MODELS}:mlp", f"{MODELS}:mlp", f"{MODELS}:other_mlp"]
    assert run(["compare", *sources, "--data", data, *SMALL, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "differences are against mlp (1)" in printed
    assert "undecided" in printed
    written = json.loads((out / "compare.json").read_text())
    assert list(written["sources"]) == ["mlp (1)", "mlp (2)", "other_mlp"]
    same = [one for one in written["differences"] if one["source"] == "mlp (2)"]
    assert same
    assert all(one["value"] == 0.0 and one["verdict"] == "undecided" for one in same)
    (loss,) = [one for one in written["differences"] if (one["source"], one["number"]) == ("other_mlp", "loss")]
    numbers = [written["sources"][label]["numbers"]["loss"]["value"] for label in ("other_mlp", "mlp (1)")]
    assert loss["value"] == pytest.approx(numbers[0] - numbers[1])
    assert loss["paired"]
    assert loss["half_width"] > 0
    assert (out / "compare.png").exists()
    assert "rise at a distance of rms 0.01" in printed


@pytest.mark.parametrize("command", ["measure", "compare"])
def test_every_optional_measure_is_in_table_file_and_figure(
    command: str, data: str, tmp_path: Path, capsys: Captured
) -> None:
    sources = [f"{MODELS}:mlp", f"{MODELS}:other_mlp"][: 1 if command == "measure" else 2]
    own = ["--by-timestep", "3", "--spectrum", "2", "--lanczos-steps", "3", "--surface", "3", "--curvature"]
    out = tmp_path / "out"
    assert run([command, *sources, "--data", data, *SMALL, *own, "--out", str(out)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "timesteps 0 to 3" in printed
    assert "total, nats of the bound" in printed
    assert "sum of the negative eigenvalues" in printed
    source = json.loads((out / f"{command}.json").read_text())["sources"]["mlp"]
    assert len(source["measures"]["timesteps"]["bins"]) == 3
    assert len(source["measures"]["spectrum"]["nodes"]) == 2
    assert (out / f"{command}.png").stat().st_size > 10_000
    if command == "compare":
        differences = json.loads((out / "compare.json").read_text())["differences"]
        (curve,) = [one for one in differences if one["number"] == "timesteps.rise-0-3"]
        assert curve["paired"]


def test_path_tells_the_barrier_and_writes_what_it_says(data: str, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out"
    words = ["path", f"{MODELS}:mlp", f"{MODELS}:other_mlp", "--data", data, "--points", "5", "--out", str(out)]
    assert run([*words, "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    assert "from mlp (0) to other_mlp (1)" in printed.out
    assert "barrier" in printed.out
    assert sorted(path.name for path in out.iterdir()) == ["path.json", "path.png"]
    written = json.loads((out / "path.json").read_text())
    (first, loss), (second, _) = models.mlp(), models.other_mlp()
    x_0 = torch.from_numpy(np.load(data)["x"]).float()
    batches = flatness.fixed_batches(x_0[Data("d", 8).indices(8, 0)], batch_size=8, seed=0)
    expected = flatness.loss_path(first, second, loss, batches, [0.0, 0.25, 0.5, 0.75, 1.0])
    for point, level, excess in zip(written["points"], expected.losses, expected.excess, strict=True):
        assert point["loss"]["value"] == pytest.approx(level.value, rel=1e-6)
        assert point["loss"]["error"] == pytest.approx(level.data_standard_error, rel=1e-6)
        assert point["loss"]["half_width"] > 0
        assert len(point["by_sample"]) == 8
        assert point["excess"]["value"] == pytest.approx(excess.value, abs=1e-6)
    assert written["points"][0]["excess"]["value"] == written["points"][-1]["excess"]["value"] == 0.0
    inner = [point["excess"]["value"] for point in written["points"][1:-1]]
    assert written["barrier"]["value"] == pytest.approx(max(0.0, *inner), abs=1e-12)
    assert written["ends"]["mlp"]["sha256"] != written["ends"]["other_mlp"]["sha256"]
    assert [entry["loss"]["prediction"] for entry in written["ends"].values()] == ["epsilon", "epsilon"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("crowded", r"not two sets of weights of one network \(first.weight: \(12, 17\) and \(16, 16\), "),
        ("other_v", "have different losses (prediction); allowed: two checkpoints that were trained alike"),
    ],
)
def test_path_joins_two_checkpoints_of_one_network_alone(
    other: str, message: str, data: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "other_v", lambda: (models.mlp()[0], flatness.v_loss(models.BARS)), raising=False)
    assert run(["path", f"{MODELS}:mlp", f"{MODELS}:{other}", "--data", data]) == 2
    error = capsys.readouterr().err
    assert message.replace("\\", "") in error
    assert error.count("\n") == 1


def test_path_refuses_what_it_cannot_do(data: str, capsys: Captured) -> None:
    for words, message in (
        (["--points", "2"], "points is 2; allowed"), (["--points", "1002"], "points is 1002; allowed"),
        (["--images", "1"], "images is 1; allowed"), (["--times", "often"], "times is often"),
    ):  # fmt: skip
        assert run(["path", f"{MODELS}:mlp", f"{MODELS}:other_mlp", "--data", data, *words]) == 2
        assert message in capsys.readouterr().err


def test_tables_leave_out_what_says_the_same_or_is_no_prediction(data: str, tmp_path: Path, capsys: Captured) -> None:
    words = ["measure", f"{MODELS}:mlp", "--data", data, *SMALL, "--surface", "3", "--worst-case", "--out"]
    assert run([*words, str(tmp_path / "out")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "each filter's rms" in printed
    assert "each layer's rms" not in printed
    assert "readout alone, rounded" not in printed
    assert "worst rise in a ball of radius 0.05" in printed
    numbers = json.loads((tmp_path / "out" / "measure.json").read_text())["sources"]["mlp"]["numbers"]
    assert {"lpf-layer.rise", "readout.quantization-4-predicted", "worst-case.rise"} <= set(numbers)
    assert (tmp_path / "out" / "measure.png").exists()
    assert run([*words, str(tmp_path / "out"), "--scales", "layer"]) == 0
    assert "each layer's rms" in " ".join(capsys.readouterr().out.split())
    assert run(["measure", f"{MODELS}:mlp", "--data", data, "--probes", "3"]) == 2
    assert "--probes does nothing without --curvature" in capsys.readouterr().err


def test_without_matplotlib_the_numbers_are_there(
    data: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "available", lambda: False)
    words = ["measure", f"{MODELS}:mlp", "--data", data, "--scales", "filter", "--no-readout", *SMALL[:4]]
    assert run([*words, "--bits", "--steps", "--curve-rms", "--out", str(tmp_path / "out")]) == 0
    assert "pip install 'flatness[plot]'" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["measure.json"]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["measure", "nowhere", "--data", "DATA"], 2, "nowhere does not exist"),
        (["measure", f"{MODELS}:mlp"], 2, "--data is missing"),
        (["measure", f"{MODELS}:mlp", "--data", "nowhere"], 2, "nowhere does not exist"),
        (["measure", f"{MODELS}:mlp", "--data", "DATA", "--draws", "1"], 2, "draws is 1; allowed"),
        (["measure", f"{MODELS}:mlp", "--data", "DATA", "--sigma", "0"], 2, "sigma is 0.0; allowed"),
        (["measure", f"{MODELS}:mlp", "--data", "DATA", "--bits", "1"], 2, "bits is 1; allowed"),
        (["measure", f"{MODELS}:mlp", "--data", "DATA", "--batch-size", "0"], 2, "batch_size is 0; allowed"),
        (["measure", f"{MODELS}:mlp", "--data", "DATA", "--rho", "0.05"], 2, "--rho does nothing without --worst-case"),
        (
            ["measure", f"{MODELS}:mlp", "--data", "DATA", "--gradient-batch=8"],
            2,
            "does nothing without --curvature, --spectrum or",
        ),
        (["measure", f"{MODELS}:mlp", "--data", "DATA", "--quick", "--sigma", ".01"], 2, "without --scales absolute"),
        (["measure", f"{MODELS}:hungry", "--data", "DATA"], 2, "a smaller --batch-size"),
        (["measure", f"{MODELS}:nothing", "--data", "DATA"], 2, "returned (int)"),
    ],
)
def test_what_a_person_can_act_on_is_a_line(
    words: list[str], status: int, message: str, data: str, capsys: Captured
) -> None:
    assert run([data if word == "DATA" else word for word in words]) == status
    error = capsys.readouterr().err
    assert message in error
    assert error.splitlines()[-1].startswith("error: ")
    assert error.count("error: ") == 1


def test_a_folder_for_results_that_cannot_be_written_to_is_told_before_anything_is_measured(
    data: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    words = ["measure", f"{MODELS}:mlp", "--data", data, *SMALL, "--out"]
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert run([*words, str(out)]) == 2
        assert capsys.readouterr().err.startswith(f"error: --out {out} is no folder that can be written to: ")

    def read_only(**own: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    # not by the folder's mode, as the superuser, who may be running this, writes to a folder of any
    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    assert run([*words, str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_results_are_kept_elsewhere_when_the_disk_is_full(
    data: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **own: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(document, "write_whole", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    words = ["measure", f"{MODELS}:mlp", "--data", data, *SMALL, "--out", str(tmp_path / "out")]
    assert run(words) == 2
    printed = capsys.readouterr()
    assert "rise, noise 0.01" in printed.out
    (elsewhere,) = tmp_path.glob("flatness-*/measure.json")
    last = printed.err.splitlines()[-1]
    assert last == f"error: {tmp_path / 'out' / 'measure.json'} cannot be written (No space left on device); it is " + (
        f"{elsewhere} instead"
    )
    assert json.loads(elsewhere.read_text())["settings"]["draws"] == 2
    monkeypatch.setattr(tempfile, "mkdtemp", full)
    assert run(words) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("; the table is all there is")


def test_a_measure_that_fails_is_told_and_ends_with_1(data: str, capsys: Captured) -> None:
    words = ["measure", f"{MODELS}:broken", "--data", data, *SMALL, "--scales", "filter", "--no-readout"]
    assert run(words) == 1
    assert "lpf-filter failed: loss is" in capsys.readouterr().out


def test_interruption(data: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a measure: the weights are back, and no file is left."""
    model, loss = models.mlp()
    weights = [p.detach().clone() for p in model.parameters()]
    calls = []

    def interrupting(net: nn.Module, batch: object) -> Tensor:
        calls.append(batch)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return loss(net, batch)

    monkeypatch.setattr(models, "mlp", lambda: (model, interrupting))
    words = ["measure", f"{MODELS}:mlp", "--data", data, *SMALL, "--out", str(tmp_path / "out")]
    assert run(words) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "error: interrupted"
    assert not (tmp_path / "out").exists()
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))


def test_quick_changes_defaults_and_what_is_given_counts() -> None:
    def options(*words: str) -> MeasureOptions:
        quick = "--quick" in words
        given = parser(quick).parse_args(["measure", "x", *words])
        return taken(MeasureOptions, given, quick=given.quick)

    assert options() == MeasureOptions()
    assert options("--quick") == QUICK
    assert options("--quick", "--draws", "7", "--bits", "8", "3").draws == 7
    assert options("--quick", "--draws", "7", "--bits", "8", "3").bits == (8, 3)
    assert options("--bits").bits == ()
    assert taken(PlaceOptions, parser().parse_args(["measure", "x"])) == PlaceOptions()


def test_every_option_has_its_sentence(capsys: Captured) -> None:
    for name in ("measure", "compare", "path"):
        with pytest.raises(SystemExit) as ended:
            cli.main([name, "--help"])
        assert ended.value.code == 0
        shown = " ".join(capsys.readouterr().out.split())
        common = ("times", "device", "batch-size", "precision", "data", "seed", "images")
        own = ("points",) if name == "path" else ("sigma", "draws", "scales", "granularity", "bits")
        for option in (*common, *own):
            assert f"--{option}" in shown
        if name == "path":
            assert "--draws" not in shown
            continue
        assert "standard deviation of absolute weight noise" in shown
    with pytest.raises(SystemExit) as ended:
        cli.main(["mesure"])
    assert ended.value.code == 2


def test_the_version_is_the_packages(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"flatness {flatness.__version__}\n"
