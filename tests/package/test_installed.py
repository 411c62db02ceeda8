"""The wheel in an environment of what it declares and nothing else: import, command line, one real measurement."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

import flatness
from tests.package.building import Built
from tests.package.environment import Environment, closure, install, linked

ROOMS = ("findings", "theory", "toy", "experiments", "paper_figs", "benchmarks", "examples", "docs", "tests")
MODEL = '''
import torch
from flatness import epsilon_loss


class Denoiser(torch.nn.Module):
    """Of a few weights."""

    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(5, 3), torch.nn.Linear(3, 4)

    def forward(self, x, t):
        hidden = self.first(torch.cat([x.flatten(1), t.to(x)[:, None] / 12], 1))
        return self.last(hidden.tanh()).view_as(x)


def make():
    torch.manual_seed(0)
    return Denoiser(), epsilon_loss(torch.linspace(0.98, 0.02, 12, dtype=torch.float64))
'''
MEASURE = [
    *("measure", "mymodule:make", "--data", "x.npy", "--images", "4", "--draws", "2", "--curve-draws", "2"),
    *("--curve-rms", "0.01", "--bits", "4", "--steps", "3", "--exposure-images", "2"),
    *("--device", "cpu", "--out", "out"),
]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with a person's model and data, and nothing else."""
    (tmp_path / "mymodule.py").write_text(MODEL)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).uniform(-1, 1, (6, 1, 2, 2)))
    return tmp_path


def test_it_is_imported_and_no_other_room_is_there(bare: Environment, tmp_path: Path) -> None:
    code = (
        "import flatness, importlib.util, json; "
        f"rooms = [name for name in {ROOMS} if importlib.util.find_spec(name)]; "
        "print(json.dumps([flatness.__version__, flatness.__file__, rooms]))"
    )
    done = bare.run("python", "-c", code, cwd=tmp_path)
    assert done.stderr == ""
    version, file, rooms = json.loads(done.stdout)
    assert (version, rooms) == (flatness.__version__, [])
    assert Path(file).is_relative_to(bare.packages)


def test_the_command_answers(bare: Environment, tmp_path: Path) -> None:
    done = bare.run("flatness", "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"flatness {flatness.__version__}\n", "")
    done = bare.run("flatness", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "measure" in done.stdout
    assert "compare" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_measurement(bare: Environment, work: Path) -> None:
    done = bare.run("flatness", *MEASURE, cwd=work)
    assert done.returncode == 0, done.stderr
    for words in ("make", "loss", "rise, noise 0.01", "4 images, 2 draws of weight noise, seed 0, float32 on cpu"):
        assert words in done.stdout.replace("\n", " ")
    assert "no plots without matplotlib: pip install 'flatness[plot]'" in done.stderr
    assert "Warning" not in done.stderr
    assert [path.name for path in (work / "out").iterdir()] == ["measure.json"]
    document = json.loads((work / "out" / "measure.json").read_text())
    numbers = document["sources"]["make"]["numbers"]
    assert {"loss", "lpf-absolute.rise", "quantization-4.rise", "exposure-3.gap"} <= set(numbers)
    assert all(np.isfinite(one["value"]) for one in numbers.values())
    assert numbers["loss"]["value"] > 0
    assert document["provenance"]["versions"]["flatness"] == flatness.__version__
    assert "diffusers" not in document["provenance"]["versions"]


def test_what_needs_an_extra_says_which(bare: Environment, work: Path) -> None:
    pipeline, images = work / "pipeline", work / "images"
    contents = {
        "model_index.json": {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]},
        "scheduler/scheduler_config.json": {"_class_name": "DDPMScheduler"},
        "unet/config.json": {"_class_name": "UNet2DModel"},
        "unet/diffusion_pytorch_model.safetensors": {},
    }
    for name, content in contents.items():
        (pipeline / name).parent.mkdir(parents=True, exist_ok=True)
        (pipeline / name).write_text(json.dumps(content))
    images.mkdir()
    for name in ("a.png", "b.png"):
        (images / name).write_bytes(b"")
    cases = {
        ("pipeline", "x.npy"): "a diffusers folder needs diffusers, which is not installed: pip install "
        "'flatness[diffusers]'",
        ("mymodule:make", "images"): "a folder of images needs Pillow, which is not installed: pip install pillow",
    }
    for (source, data), message in cases.items():
        done = bare.run("flatness", "measure", source, "--data", data, cwd=work)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {message}\n")


def test_a_dependency_that_is_not_declared_is_missed(build: Built, work: Path) -> None:
    """What the tests above would see if the wheel did not declare scipy."""
    declared = [one for one in build.requirements if one.name != "scipy"]
    poorer = linked(work / "poorer", closure(declared).values())
    install(poorer, build.wheel)
    done = poorer.run("flatness", *MEASURE, cwd=work)
    assert done.returncode == 2
    assert "ModuleNotFoundError: No module named 'scipy'" in done.stderr


def needed(*texts: str) -> set[str]:
    return set(closure(Requirement(text) for text in texts))


def test_the_closure_takes_what_is_needed_and_no_more() -> None:
    names = needed("torch>=2.6", "rich", "scipy>=1.15; extra == 'plot'")
    assert {"torch", "sympy", "mpmath", "typing-extensions", "rich", "pygments"} <= names  # mpmath for torch's sympy
    assert names.isdisjoint({"scipy", "matplotlib", "diffusers", "pytest", "flatness"})
    assert "matplotlib" in needed("flatness[plot]")
    assert "matplotlib" not in needed("flatness")
    assert needed("numpy; python_version < '3'") == set()
