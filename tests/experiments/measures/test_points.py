"""A run measured at its points: what is measured where, each measure against its definition, and resumption."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from experiments.adm import ADMOptions
from experiments.configuration import Configuration, RunOptions
from experiments.data import Batches, Images, to_float
from experiments.diffusion.process import Process
from experiments.measures import points as module
from experiments.measures.points import QUICK, Measure, StudyMaterial, copies, plan_of, run_points
from experiments.measures.rows import Checkpoint, loaded
from experiments.training.checkpoints import point_folder
from experiments.training.trainer import train
from findings.ladder_claims import RAW_CHECKPOINTS, SHARES_OF_THE_RUN
from tests.experiments.training.small_runs import BASE

TINY = dataclasses.replace(
    QUICK, samples=8, long_samples=8, groups=2, exposure_images=2, long_exposure_images=2, lpf_images=8
)
"""What is measured takes its time by chains and steps, and is asked about here by its place."""
STEPS = 20
POINTS = (4, 16, 18, 20)
SIZE = 8


class Features:
    """Means of the image's quarters: an eight-dimensional feature space would not be better known."""

    name, width, identity = "quarters", 4, "sha256:quarters"

    def __call__(self, images: Tensor) -> Tensor:
        """(n, 4)."""
        return torch.nn.functional.avg_pool2d(images.float(), images.shape[-1] // 2).flatten(1)


def made_images(split: str, count: int) -> Images:
    generator = torch.Generator().manual_seed(len(split))
    pixels = torch.randint(256, (count, 1, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    return Images(pixels, "fashion-mnist", split, "sha256:" + "0" * 64)


def configured(**changes: object) -> Configuration:
    network = ADMOptions(
        image_size=SIZE, channels=1, model_channels=32, channel_mult=(1,), num_res_blocks=1, attention_resolutions=(),
        dropout=0.0,
    )  # fmt: skip
    process = dataclasses.replace(BASE.process, steps=100)
    return dataclasses.replace(BASE, network=network, steps=STEPS, process=process, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def material() -> StudyMaterial:
    return StudyMaterial.of(made_images("train", 300), made_images("test", 80), Features(), TINY, "cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    c = configured(method="adm", training_images=10)
    train(c, RunOptions(out=out, device="cpu", points=POINTS, sample_every=0), made_images("train", 300))
    return out


@pytest.fixture(scope="module")
def document(run: Path, material: StudyMaterial, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return run_points(run, "adm", POINTS, material, tmp_path_factory.mktemp("points") / "adm.json")


def test_raw_rows_are_measured_at_several_late_points() -> None:
    todo = plan_of(20_000, tuple(round(share * 20_000) for share in SHARES_OF_THE_RUN), "sam", TINY)
    of = {point.name: [measure.name for measure in point.measures] for point in todo}
    late = [of[p.name] for p in todo if p.average == "raw" and p.step >= 16_000]
    for name in ("losses", "distance-20", "exposure-20", "lpf", "rounding-4"):
        assert sum(name in names for names in late) == RAW_CHECKPOINTS
    for name in ("distance-100", "exposure-100", "distance-20-8", "distance-20-3"):
        assert sum(name in names for names in late) == 3
    assert {p.average for p in todo if p.step == 20_000} == {"raw", "ema", "swa"}
    assert not any("samplers-100" in names for names in of.values())
    assert len({p.name for p in todo}) == len(todo)


def test_the_last_step_has_to_be_a_point() -> None:
    with pytest.raises(ValueError, match="points is"):
        plan_of(20, (5, 10), "adm", TINY)


def test_everything_planned_is_there_and_none_failed(document: dict) -> None:
    planned = {f"{p.name} {m.name}" for p in plan_of(STEPS, POINTS, "adm", TINY) for m in p.measures}
    assert [one["name"] for one in document["points"]] == list(document["measures"])
    assert set(document["measures"]) == planned
    assert not [name for name, of in document["measures"].items() if "failed" in of]
    json.dumps(document, allow_nan=False)
    assert sorted(itertools.chain.from_iterable(p["measures"] for p in document["provenance"])) == sorted(planned)


def test_a_stopped_measuring_goes_on_to_the_same_file(
    run: Path,
    material: StudyMaterial,
    document: dict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, count = tmp_path / "adm.json", itertools.count()
    real = module.MEASURES["losses"]

    def stops(*args: object) -> object:
        if next(count) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(module, "MEASURES", {**module.MEASURES, "losses": stops})
    with pytest.raises(KeyboardInterrupt):
        run_points(run, "adm", POINTS, material, path)
    assert not path.exists()
    again = run_points(run, "adm", POINTS, material, path)
    assert again["measures"] == document["measures"]
    assert run_points(run, "adm", POINTS, material, path) == again  # read, not measured
    changed = dataclasses.replace(material, options=dataclasses.replace(TINY, sigma=0.02))
    with pytest.raises(ValueError, match="other settings"):
        run_points(run, "adm", POINTS, changed, path)


def test_the_gradients_norm_and_the_loss_are_those_of_training(
    run: Path, material: StudyMaterial, document: dict
) -> None:
    """The dose's parts by hand: autograd on a fresh network, batches and draws as `training.step` makes them."""
    from experiments.diffusion.timesteps import UniformTimesteps
    from experiments.training.randomness import drawn

    checkpoint = Checkpoint.of(point_folder(run, STEPS))
    c, process = checkpoint.configuration, Process(checkpoint.configuration.process)
    network = loaded(checkpoint, "raw").requires_grad_(True)
    own = made_images("train", 300).drawn(10, c.seed)
    norms, values = [], []
    for number in range(TINY.gradient_batches):
        x_0 = to_float(Batches(own, c.global_batch, TINY.seed, c.flip).batch(number))
        draws = drawn(UniformTimesteps(100), tuple(x_0.shape), 0.0, torch.device("cpu"), TINY.seed, number)
        x_t = process.q_sample(x_0, draws.t, draws.noise)
        network.zero_grad()
        loss = process.losses(network(x_t, draws.t), x_0, x_t, draws.t, draws.noise).loss.mean()
        loss.backward()
        norms.append(torch.cat([p.grad.flatten() for p in network.parameters()]).norm())  # type: ignore[union-attr]
        values.append(loss.detach())
    entry = document["measures"][f"raw-{STEPS} gradient"]
    # float32 sums in another order and memory layout
    assert entry["norm"]["value"] == pytest.approx(float(torch.stack(norms).mean()), rel=1e-3)
    assert entry["loss"]["value"] == pytest.approx(float(torch.stack(values).mean()), rel=1e-3)
    assert entry["batch"] == c.global_batch


def test_losses_are_of_held_out_and_of_the_runs_own_images(run: Path, material: StudyMaterial) -> None:
    """A network that knows the ten training images exactly has no loss on them, and one on all others."""
    checkpoint = Checkpoint.of(point_folder(run, STEPS))
    own = made_images("train", 300).drawn(10, 0)
    subject = module._subject(checkpoint, "raw", material)
    process = subject.process

    class Oracle(torch.nn.Module):
        """Predicts the noise that separates x_t from the nearest training image."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
            a = process.alphas_cumprod[t].view(-1, 1, 1, 1).float()
            real = to_float(own.pixels)
            noise = (x_t[:, None] - a[:, None].sqrt() * real[None]) / (1 - a[:, None]).sqrt()
            # the true noise is the smallest only where images are far apart; at least it is among them
            best = noise.flatten(2).square().mean(2).sub(1).abs().argmin(1)
            chosen = noise[torch.arange(len(x_t)), best]
            return torch.cat([chosen, torch.zeros_like(chosen)], 1)

    entry = module.losses(
        dataclasses.replace(subject, network=Oracle().eval()), material, checkpoint.configuration, Measure("losses")
    )
    assert entry["training_mse"]["value"] < 0.3 * entry["held_out_mse"]["value"]


def test_copies_are_counted() -> None:
    real = made_images("train", 20).pixels
    assert copies(real[:5], real)["value"] == 1.0
    assert copies(made_images("test", 50).pixels, real)["value"] == 0.0
    half = torch.cat([real[:5], made_images("test", 5).pixels])
    assert copies(half, real)["value"] == 0.5


def test_the_two_halves_of_samples_and_reference_are_apart(material: StudyMaterial) -> None:
    choosing, reporting = material.choosing.pixels.points, material.reporting.pixels.points
    nearest = torch.cdist(choosing, reporting).min()
    assert float(nearest) > 0
    assert material.choosing.moments.count == material.reporting.moments.count == 150


def test_samples_that_are_the_data_are_at_no_distance(material: StudyMaterial) -> None:
    real = made_images("train", 300).drawn(300, 5).pixels
    near = module._distances(real, material)
    far = module._distances((real.float() * 0.5).to(torch.uint8), material)
    for half in ("choosing", "reported"):
        for space in ("features", "pixels"):
            assert far[half][space]["value"] > 10 * abs(near[half][space]["value"])
