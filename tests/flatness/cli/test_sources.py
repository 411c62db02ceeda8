"""Folders of diffusers' and functions as sources: what is loaded, how it is trained, and what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from flatness import optional_imports
from flatness.cli.command import run
from flatness.cli.errors import CommandError, MissingPackageError
from flatness.cli.options import SourceOptions
from flatness.cli.sources import loaded
from flatness.cli.subject import weights_hash
from flatness.diffusion.losses import Batch, DiffusionLoss
from flatness.optional_imports import hide_an_unusable_torchvision, imported_diffusers
from tests.flatness import networks

PREFIX = "tests.flatness.cli.models"


@pytest.fixture(scope="module")
def diffusers() -> ModuleType:
    package = imported_diffusers()
    return package if package is not None else pytest.skip("diffusers is not installed")


@pytest.fixture(scope="module")
def pipeline(diffusers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(4, 4), norm_num_groups=2,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"), add_attention=False,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("sources") / "pipeline"
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler(num_train_timesteps=50)).save_pretrained(folder)
    return folder


def edited(folder: Path, to: Path, file: str, **changes: Any) -> Path:
    """A copy with entries of a JSON file changed."""
    shutil.copytree(folder, to)
    (to / file).write_text(json.dumps(json.loads((to / file).read_text()) | changes))
    return to


def test_a_pipeline_is_loaded_with_its_process(pipeline: Path, diffusers: ModuleType) -> None:
    subject = loaded(str(pipeline), SourceOptions())
    assert isinstance(subject.loss, DiffusionLoss)
    assert subject.shape == (1, 8, 8)
    assert subject.loss.prediction == "epsilon"
    assert subject.process is not None
    process = subject.process(None)
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=50)
    assert torch.allclose(process.alphas_cumprod, scheduler.alphas_cumprod.double())
    assert (process.variance, process.clip) == ("small", 1.0)
    # the loss, as diffusers' own examples write it
    x, noise, u = torch.randn(3, 1, 8, 8), torch.randn(3, 1, 8, 8), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    t = torch.tensor([5, 25, 45])
    with torch.no_grad():
        error = subject.model(scheduler.add_noise(x, noise, t), t).sample - noise
        # float32 sums in another order
        values = subject.loss(subject.model, Batch(x, None, noise, u))
    assert torch.allclose(values, error.square().flatten(1).mean(1), rtol=1e-5)


@pytest.mark.parametrize(("name", "ours"), [("v_prediction", "v"), ("sample", "x_0")])
def test_targets_are_diffusers_own(name: str, ours: str, pipeline: Path, diffusers: ModuleType, tmp_path: Path) -> None:
    folder = edited(pipeline, tmp_path / "p", "scheduler/scheduler_config.json", prediction_type=name,
                    variance_type="fixed_large", clip_sample=False)  # fmt: skip
    subject = loaded(str(folder), SourceOptions())
    assert isinstance(subject.loss, DiffusionLoss)
    assert subject.loss.prediction == ours
    assert subject.process is not None
    process = subject.process(None)
    assert (process.variance, process.clip) == ("large", None)
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=50, prediction_type=name)
    x, noise, t = torch.randn(3, 1, 8, 8), torch.randn(3, 1, 8, 8), torch.tensor([5, 25, 45])
    target = scheduler.get_velocity(x, noise, t) if ours == "v" else x
    u = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    with torch.no_grad():
        error = subject.model(scheduler.add_noise(x, noise, t), t).sample - target
        values = subject.loss(subject.model, Batch(x, None, noise, u))
    assert torch.allclose(values, error.square().flatten(1).mean(1), rtol=1e-5)


def test_a_bare_network_needs_to_be_told_how_it_was_trained(pipeline: Path) -> None:
    with pytest.raises(CommandError, match="--prediction epsilon --schedule linear"):
        loaded(str(pipeline / "unet"), SourceOptions())
    options = SourceOptions(prediction="v_prediction", schedule="squaredcos_cap_v2", train_steps=20)
    subject = loaded(str(pipeline / "unet"), options)
    assert isinstance(subject.loss, DiffusionLoss)
    assert subject.loss.settings()["steps"] == 20
    assert subject.loss.prediction == "v"
    assert subject.about["sha256"] == loaded(str(pipeline), SourceOptions()).about["sha256"]


def test_what_is_no_model_or_would_have_to_be_unpickled_is_refused(pipeline: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    pickled = edited(pipeline, tmp_path / "pickled", "unet/config.json")
    (pickled / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    without = edited(pickled, tmp_path / "without", "unet/config.json")
    (pickled / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(print))
    damaged = edited(pipeline, tmp_path / "damaged", "unet/config.json")
    (damaged / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"12345678")
    (tmp_path / "model.ckpt").write_bytes(pickle.dumps(print))
    (tmp_path / "model.txt").write_text("x")
    cases = {
        str(tmp_path / "empty"): "is not a model: it holds neither model_index.json nor config.json",
        str(pickled): r"diffusion_pytorch_model.bin is pickled.*safetensors",
        str(without): "holds no weights",
        str(damaged): "cannot be loaded",
        str(tmp_path / "model.ckpt"): "model.ckpt is pickled",
        str(tmp_path / "model.txt"): "is a file",
        str(tmp_path / "nowhere"): "does not exist; SOURCE is",
        str(edited(pipeline, tmp_path / "a", "model_index.json", _class_name="MyPipeline")): "is a MyPipeline",
        str(edited(pipeline, tmp_path / "b", "model_index.json", unet=["mine", "MyUNet"])): "has the network",
        str(edited(pipeline, tmp_path / "c", "unet/config.json", _class_name="MyUNet")): "is a MyUNet",
        str(edited(pipeline, tmp_path / "d", "scheduler/scheduler_config.json", _class_name="X")): "has a X",
        str(edited(pipeline, tmp_path / "e", "scheduler/scheduler_config.json", prediction_type="score")): "'score'",
        str(edited(pipeline, tmp_path / "f", "scheduler/scheduler_config.json", beta_schedule="steep")): "be built",
        "no_such_module:function": "there is no module no_such_module",
        f"{PREFIX}:absent": "has no absent",
        f"{PREFIX}:nothing": r"returned \(int\); allowed: \(model, loss\)",
    }
    for source, message in cases.items():
        with pytest.raises(CommandError, match=message):
            loaded(source, SourceOptions())


def test_diffusers_missing_is_told(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flatness.cli.encoding.imported_diffusers", lambda: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'flatness\[diffusers\]'"):
        loaded(str(pipeline), SourceOptions())
    for missing, message in (
        ("diffusers", "is not installed"),
        ("PIL", r"cannot be imported \(No module named 'PIL'\)"),
    ):
        error = ImportError(f"No module named {missing!r}", name=missing)
        monkeypatch.setattr(optional_imports, "importlib", SimpleNamespace(import_module=raising(error)))
        with pytest.raises(MissingPackageError, match=f"needs diffusers, which {message}: pip install"):
            loaded(str(pipeline), SourceOptions())


def raising(error: Exception) -> Any:
    """A function that raises the error, whatever it is called with."""

    def function(*arguments: object) -> None:
        raise error

    return function


def test_a_schedule_without_signal_at_its_end_has_no_exposure_bias(pipeline: Path, tmp_path: Path) -> None:
    folder = edited(pipeline, tmp_path / "p", "scheduler/scheduler_config.json", rescale_betas_zero_snr=True)
    subject = loaded(str(folder), SourceOptions())
    learned = edited(pipeline, tmp_path / "q", "scheduler/scheduler_config.json", variance_type="learned")
    assert loaded(str(learned), SourceOptions()).no_process
    # diffusers keeps a little signal at the last step of such schedules, or none, by version
    assert (subject.process is None) == bool(subject.no_process)


def test_functions_are_named_by_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert loaded(f"{PREFIX}:mlp", SourceOptions()).label == "mlp"
    assert loaded(f"{PREFIX}:dit", SourceOptions()).process is not None
    (tmp_path / "beside.py").write_text("from tests.flatness.cli.models import own_loss\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert loaded("beside:own_loss", SourceOptions()).no_process == "the source gives no process"
    sys.modules.pop("beside")


def test_hashes_tell_weights_apart() -> None:
    first, second = networks.seeded(networks.MLP), networks.seeded(networks.MLP)
    compiled: Any = torch.compile(first, backend="eager")
    assert weights_hash(first) == weights_hash(second) == weights_hash(compiled)
    with torch.no_grad():
        second.last.bias[0] += 1e-6
    assert weights_hash(first) != weights_hash(second)
    assert weights_hash(networks.seeded(networks.Narrow)) != weights_hash(first)


def test_an_unusable_torchvision_is_hidden_and_a_usable_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> ModuleType:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    hide_an_unusable_torchvision()
    assert sys.modules["torchvision"] is not None
    monkeypatch.delitem(sys.modules, "torchvision")
    monkeypatch.setattr(optional_imports, "importlib", SimpleNamespace(import_module=fails))
    hide_an_unusable_torchvision()
    assert sys.modules["torchvision"] is None


def test_keys_that_are_left_out_are_the_classs_and_keys_that_are_not_known_are_said(
    pipeline: Path, tmp_path: Path
) -> None:
    whole = loaded(str(pipeline), SourceOptions())
    less = edited(pipeline, tmp_path / "less", "unet/config.json", dropout_rate=0.1, _name_or_path="elsewhere")
    file = less / "unet" / "config.json"
    configuration = json.loads(file.read_text())
    assert configuration.pop("dropout") == 0.0
    assert configuration.pop("center_input_sample") is False
    file.write_text(json.dumps(configuration))
    scheduler = (
        less / "scheduler" / "scheduler_config.json"
    )  # keys of another sampler, through which it came, are known
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"solver_order": 2, "tensor_format": "pt"}))
    subject = loaded(str(less), SourceOptions())
    assert subject.about["sha256"] == whole.about["sha256"]
    assert subject.remarks == (
        "its scheduler's configuration has keys that this diffusers does not know: tensor_format",
        "its network's configuration has keys that this diffusers does not know: dropout_rate",
    )
    del configuration["in_channels"]  # 3 as UNet2DModel has it, which its weights are not of
    file.write_text(json.dumps(configuration))
    with pytest.raises(CommandError, match=r"of another shape \(conv_in.weight \(4, 1, 3, 3\) for \(4, 3, 3, 3\)"):
        loaded(str(less), SourceOptions())


def test_a_pipeline_is_measured_from_the_command_line(
    pipeline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", arr_0=pixels)
    words = f"measure {pipeline} --data {tmp_path / 'd.npz'} --draws 2 --curve-draws 2 --curve-rms 0.01 --bits 4"
    assert run([*words.split(), "--steps", "3", "--exposure-images", "4", "--out", str(tmp_path / "out")]) == 0
    assert "pipeline" in capsys.readouterr().out
    numbers = json.loads((tmp_path / "out" / "measure.json").read_text())["sources"]["pipeline"]["numbers"]
    assert {"lpf-filter.rise", "readout.quantization-4-predicted", "exposure-3.gap"} <= set(numbers)
    np.savez(tmp_path / "e.npz", arr_0=pixels[:, :4])
    assert run(["measure", str(pipeline), "--data", str(tmp_path / "e.npz")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
