"""`python -m experiments measure`: runs and ADM checkpoints by the instruments, and by the evaluation's arithmetic."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments import data
from experiments.__main__ import main
from experiments.adm import ADM
from experiments.commands import measure
from experiments.configuration import PRESETS
from experiments.diffusion import Process
from experiments.measures import exposure
from experiments.measures.subject import Material, Subject
from experiments.training.trainer import train
from findings import surfaces
from findings.checksums import DamagedError, read_json
from flatness.cli.options import NEEDS
from flatness.diffusion.losses import Batch
from flatness.measuring.exposure_bias import exposure_bias
from tests.experiments.measures.small_rows import CONFIGURATION, OPTIONS, images
from tests.experiments.training.small_runs import run_options
from tests.flatness.cli.test_needs import check_option

SMALL = [
    *("--images", "6", "--draws", "2", "--scales", "filter", "--curve-rms", "--bits", "4", "--steps", "3"),
    *("--exposure-images", "4", "--device", "cpu"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "adm"
    train(CONFIGURATION, run_options(out), images("train"))
    return out


@pytest.fixture(autouse=True)
def small_images(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Images of the small run's size in place of the data sets'; what was asked for."""
    calls: list[Any] = []

    def load(name: str, split: str, size: int, root: Path | None) -> Any:
        calls.append((name, split, size, root))
        return images(split)

    monkeypatch.setattr(data, "load", load)
    return calls


def network() -> ADM:
    """Random weights, also where fresh ones are zero."""
    torch.manual_seed(0)
    made = ADM(CONFIGURATION.network)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def test_the_loss_and_exposure_bias_are_those_of_the_evaluation() -> None:
    adm = network()
    of_command = measure.subject(CONFIGURATION, adm.state_dict(), "x", {})
    process = Process(CONFIGURATION.process)
    whole = Subject(adm, process, OPTIONS, Material(images("test"), images("train"), None))
    batch = whole.batches[0]
    with torch.no_grad():
        expected = whole.squared_error(adm, batch)
        positions = (batch.t.double() + 0.5) / len(process)
        values = of_command.loss(of_command.model, Batch(batch.x_0, None, batch.noise, positions))
    # alpha and sigma to float32 in another order
    assert torch.allclose(values, expected, rtol=1e-5)
    assert of_command.process is not None
    epsilon_model, bars, variance, clip = of_command.process(None)
    steps = process.respaced(3).timesteps
    gap = exposure_bias(
        epsilon_model, bars, steps, whole.scaled_images(OPTIONS.exposure_images, "exposure"), variance=variance,
        clip=clip, seed=OPTIONS.seed,
    )  # fmt: skip
    (theirs,) = (exposure.measured(3)(whole)["mean_signed_gap"]["value"],)
    assert gap.mean_signed_gap.value == pytest.approx(theirs, rel=1e-4)
    assert abs(theirs) > 1e-3


def test_a_run_is_measured_on_its_own_held_out_images(
    run: Path, tmp_path: Path, small_images: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measure", str(run), *SMALL, "--root", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert small_images == [("fashion-mnist", "test", 4, tmp_path)]
    assert "adm: 183,106 weights" in capsys.readouterr().out
    document = json.loads((tmp_path / "out" / "measure.json").read_text())
    about = document["sources"]["adm"]["about"]
    assert about["step"] == CONFIGURATION.steps
    assert about["configuration"]["method"] == CONFIGURATION.method
    numbers = document["sources"]["adm"]["numbers"]
    assert {"lpf-filter.rise", "exposure-3.gap"} <= set(numbers)
    assert numbers["readout.energy"]["words"] == "feature energy of out.2"


def test_what_is_written_has_its_commit_and_is_held_against_its_checksum(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "commit", lambda: "0123abc")
    assert main(["measure", str(run), *SMALL, "--out", str(tmp_path)]) == 0
    document = read_json(tmp_path / "measure.json")
    assert document["provenance"]["commit"] == "0123abc"
    assert document["provenance"]["versions"]["flatness"]
    text = (tmp_path / "measure.json").read_text()
    (tmp_path / "measure.json").write_text(text.replace("0123abc", "0123abd"))
    with pytest.raises(DamagedError):
        read_json(tmp_path / "measure.json")


def test_surfaces_of_several_networks_are_read_as_they_were_measured(run: Path, tmp_path: Path) -> None:
    alone = ["--images", "6", "--scales", "--curve-rms", "--bits", "--steps", "--no-readout", "--device", "cpu"]
    grid = ["--surface", "3", "--surface-range", "0.5", "--out", str(tmp_path)]
    assert main(["measure", str(run), str(run), *alone, *grid]) == 0
    networks = surfaces.read(tmp_path / "compare.json")
    c = CONFIGURATION
    assert networks[:4] == (c.dataset, c.network.image_size, c.steps, 6)
    assert networks.seeds == [c.seed]
    one, other = networks.surfaces
    assert one == other  # the same images, noise and directions
    assert (one.method, one.rho, one.missing) == (c.method, None, "")
    assert one.first == one.second == [-0.5, 0.0, 0.5]
    (source, _) = read_json(tmp_path / "compare.json")["sources"].values()
    assert one.losses[1][1] == pytest.approx(source["numbers"]["loss"]["value"])
    assert one.losses[0][2] == source["measures"]["surface"]["losses"][0][2]["value"]
    assert len({value for line in one.losses for value in line}) == 9


def test_a_run_and_a_public_checkpoint_are_compared(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PRESETS, "fashion-mnist-tiny", CONFIGURATION)
    torch.save(network().state_dict(), tmp_path / "public.pt")
    sources = [str(run), str(tmp_path / "public.pt"), "--config", "fashion-mnist-tiny", "--average", "ema"]
    np.savez(tmp_path / "d.npz", arr_0=np.random.default_rng(0).integers(0, 256, (8, 4, 4), dtype=np.uint8))
    words = [*SMALL, "--no-readout", "--data", str(tmp_path / "d.npz"), "--out", str(tmp_path / "out")]
    assert main(["measure", *sources, *words]) == 0
    assert "differences are against adm+ema" in capsys.readouterr().out
    document = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert list(document["sources"]) == ["adm+ema", "public"]
    (loss,) = [one for one in document["differences"] if one["number"] == "loss"]
    assert loss["value"] > 0  # a trained network against a random one
    assert loss["paired"]


def test_what_cannot_be_measured_is_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(network().state_dict(), tmp_path / "public.pt")
    (tmp_path / "code.pt").write_bytes(pickle.dumps(print, protocol=2))
    cases = [
        ([str(tmp_path / "public.pt")], 2, "config is None"),
        ([str(tmp_path / "public.pt"), "--config", "fashion-mnist-tiny"], 2, "does not fit the model"),
        ([str(tmp_path / "code.pt"), "--config", "cifar10"], 2, "cannot be read as a checkpoint"),
        ([str(tmp_path / "none"), "--config", "cifar10"], 2, "does not exist"),
        ([str(run), "--average", "sva"], 2, "sva"),
        ([str(run), "--config", "cifar10"], 2, "--config is for checkpoints' files"),
        ([str(tmp_path / "public.pt"), "--config", "cifar10", "--average", "ema"], 2, "--average is for runs' folders"),
        ([str(run), "--resize", "4"], 2, "--resize is for --data"),
        ([str(run), "--layout", "auto"], 2, "--layout is for --data"),
        ([str(run), "--root", "x", "--data", "y.npz"], 2, "--root is where the run's own data set lies"),
        ([str(run), "--draws", "1"], 2, "draws is 1"),
        ([str(run), "--steps", "9999"], 2, "steps is 9999; allowed: at most"),
    ]
    for words, status, message in cases:
        assert main(["measure", *words]) == status, words
        error = capsys.readouterr().err
        assert message in error
        assert "error: " in error


@pytest.mark.parametrize("name", NEEDS)
def test_an_option_that_does_nothing_alone_is_refused(name: str) -> None:
    check_option(name, "", measure._parser)
