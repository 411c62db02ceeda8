"""The command line of `bridge`: options, what is refused before anything is written, and both stages."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from experiments import data
from experiments.__main__ import main
from experiments.bridge import document as bridge
from experiments.commands import bridge as command
from experiments.data import Images
from experiments.measures import layer_rows
from experiments.measures.options import LayerOptions
from tests.experiments.bridge.made_bridge import Sizes, folder
from tests.experiments.measures.small_rows import contents, images
from tests.experiments.measures.test_layer_rows import OPTIONS, train_runs

Captured = pytest.CaptureFixture[str]


def words(options: LayerOptions) -> list[str]:
    """The options as a command line."""
    line = []
    for name in LayerOptions.__dataclass_fields__:
        value: Any = getattr(options, name)
        line += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,))]
    return line


def test_every_field_is_an_option() -> None:
    assert command.parse(["out", *words(OPTIONS)]).options == OPTIONS
    options = command.parse(["out"])
    assert (options.stage, options.runs, options.options) == ("all", (), LayerOptions())
    assert options.toy.exists()
    assert options.paper.exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--layer-images", "1"], "layer_images is 1"),
        (["--batch-size", "0"], "batch_size is 0"),
        (["--points", "40"], "at most tolerance_images"),
        (["--stage", "guess"], "guess"),
    ],
)
def test_what_is_not_allowed_ends_with_2(given: list[str], message: str, tmp_path: Path, capfd: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bridge", str(tmp_path), *given])
    assert ended.value.code == 2
    captured = capfd.readouterr()
    assert message in " ".join((captured.out + captured.err).split())


def test_a_folder_without_a_plan_rows_or_such_a_run_is_told_and_left_alone(tmp_path: Path, capsys: Captured) -> None:
    assert main(["bridge", str(tmp_path)]) == 1
    assert "has no plan.json" in capsys.readouterr().err
    folder(tmp_path)
    shutil.rmtree(tmp_path / "rows")
    before = contents(tmp_path)
    assert main(["bridge", str(tmp_path)]) == 1
    assert "lacks adm-raw.json" in capsys.readouterr().err
    assert main(["bridge", str(tmp_path), "--stage", "measure", "--runs", "edm"]) == 1
    assert "runs is ['edm']; allowed: among the plan's, adm, ip, sam" in capsys.readouterr().err
    assert main(["bridge", str(tmp_path), "--stage", "measure"]) == 1
    assert "is not trained to its end" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_predictions_are_judged_shown_and_written(tmp_path: Path, capsys: Captured) -> None:
    folder(tmp_path, {"sam": Sizes(absolute=0.3, energy=0.2)})
    assert main(["bridge", str(tmp_path), "--stage", "judge"]) == 0
    out = capsys.readouterr().out
    assert "B2a" in out
    assert "not on the methods" in " ".join(out.split())
    document = json.loads((tmp_path / bridge.DOCUMENT).read_text())
    assert {one["identifier"]: one["verdict"] for one in document["predictions"]}["B2a"] == "confirmed"
    assert (tmp_path / bridge.PAGE).exists()


def test_the_first_stage_measures_the_runs_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def load(name: str, split: str, size: int, root: Path | None) -> Images:
        return images(split)

    def fails(*given: Any) -> Any:
        raise FloatingPointError("a loss is not finite")

    monkeypatch.setattr(data, "load", load)
    monkeypatch.setattr(layer_rows, "measured_layers", fails)
    out = tmp_path / "out"
    train_runs(out)
    given = ["bridge", str(out), "--stage", "measure", "--runs", "ip", "--device", "cpu", *words(OPTIONS)]
    assert main(given) == 0
    printed = capsys.readouterr().err
    assert "passes of one image a row" in printed
    assert "ip+ema: layers failed: a loss is not finite" in printed
    files = [f"ip-{name}.json" for name in ("ema", "raw", "snapshots", "swa")]
    assert sorted(path.name for path in (out / "layers").iterdir()) == files
    before = contents(out)
    assert main(given) == 0
    assert contents(out) == before
