"""A DataLoader as batches: what is measured between two steps of training changes nothing about the second."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, Dataset, RandomSampler, Sampler, Subset

import flatness
from flatness.measuring import base


class Augmented(Dataset[Tensor]):
    """Samples with noise from every global generator, as augmentations draw it."""

    def __len__(self) -> int:
        """Samples."""
        return 8

    def __getitem__(self, index: int) -> Tensor:
        """One of them."""
        return torch.full((2,), float(index)) + torch.randn(2) + float(np.random.rand()) + random.random()  # noqa: NPY002


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    return model(batch).square().mean(1)


MEASURES: dict[str, Callable[[nn.Module, Any], object]] = {
    "low_pass_filter": lambda m, b: flatness.low_pass_filter(m, loss, b, sigma=0.1, draws=1),
    "worst_case_sharpness": lambda m, b: flatness.worst_case_sharpness(m, loss, b, rho=0.1, steps=1),
    "perturbation_curve": lambda m, b: flatness.perturbation_curve(m, loss, b, [0.1], draws=1),
    "loss_surface": lambda m, b: flatness.loss_surface(m, loss, b, [0.0], [0.0]),
    "curvature": lambda m, b: flatness.curvature(m, loss, b, probes=1, max_steps=1),
    "quantization_rise": lambda m, b: flatness.quantization_rise(m, loss, b, 8),
    "readout": lambda m, b: flatness.readout(m, loss, b, layer="layer"),
    "rise_by_timestep": lambda m, b: flatness.rise_by_timestep(
        m, flatness.epsilon_loss(torch.linspace(0.9, 0.1, 4)), b, bins=1, draws=1
    ),
}


class Network(nn.Module):
    """Of one layer; called with times too where the loss is a diffusion model's."""

    def __init__(self) -> None:
        """Make it."""
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """The layer's output."""
        return self.layer(x)


def loader(own: bool, workers: int = 0) -> DataLoader[Tensor]:
    generator = torch.Generator().manual_seed(5) if own else None
    return DataLoader(Augmented(), batch_size=4, shuffle=True, generator=generator, num_workers=workers)


def seeded() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)


def drawn(batches: DataLoader[Tensor]) -> list[Any]:
    """What training draws next."""
    return [*(batch.tolist() for batch in batches), torch.rand(1).item(), np.random.rand(), random.random()]  # noqa: NPY002


def test_reading_a_loader_does_disturb() -> None:
    for own in (False, True):
        batches = loader(own)
        seeded()
        expected = drawn(batches)
        batches = loader(own)
        seeded()
        list(batches)
        assert drawn(batches) != expected


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("own", [False, True], ids=["torch's generator", "a generator of its own"])
def test_measuring_on_a_loader_disturbs_no_generator(name: str, own: bool) -> None:
    seeded()
    expected = drawn(loader(own))
    batches = loader(own)
    seeded()
    model = Network()
    seeded()
    MEASURES[name](model, batches)
    assert drawn(batches) == expected


class Wrapped(Sampler[int]):
    """A sampler around another, as those of distributed training are."""

    def __init__(self, sampler: Sampler[int]) -> None:
        """Of the other."""
        self.sampler = sampler

    def __iter__(self) -> Iterator[int]:
        """As the other."""
        return iter(self.sampler)

    def __len__(self) -> int:
        """As the other."""
        return 8


class Drawing(Augmented):
    """Samples with noise from a generator of their own."""

    def __init__(self) -> None:
        """With the generator."""
        self.generator = torch.Generator().manual_seed(6)

    def __getitem__(self, index: int) -> Tensor:
        """One of them."""
        return super().__getitem__(index) + torch.randn(2, generator=self.generator)

    @property
    def dataset(self) -> Dataset[Tensor]:
        """Another one whenever it is asked for."""
        return Drawing()


@pytest.mark.parametrize(
    "where",
    [
        "its sampler",
        "its batch sampler's sampler",
        "a sampler in its sampler",
        "its data",
        "its data's data",
        "its data sets",
    ],
)
def test_generators_of_samplers_and_data_go_on_too(where: str) -> None:
    def made() -> DataLoader[Tensor]:
        data: Dataset[Tensor] = Drawing() if "data" in where else Augmented()
        data = Subset(data, range(8)) if where == "its data's data" else data
        data = ConcatDataset([Augmented(), data]) if where == "its data sets" else data
        sampler: Sampler[int] = RandomSampler(data, generator=torch.Generator().manual_seed(5))  # type: ignore[arg-type]
        sampler = Wrapped(sampler) if where == "a sampler in its sampler" else sampler
        if where != "its batch sampler's sampler":
            return DataLoader(data, batch_size=4, sampler=sampler)
        return DataLoader(data, batch_sampler=BatchSampler(sampler, 4, drop_last=False))

    model, batches = Network(), made()
    seeded()
    MEASURES["low_pass_filter"](model, batches)
    seeded()
    after = drawn(batches)
    seeded()
    assert after == drawn(made())


def test_measuring_on_a_loader_with_workers_disturbs_no_generator() -> None:
    model = Network()
    seeded()
    expected = [batch.shape for batch in loader(True, 1)], torch.rand(1).item()
    batches = loader(True, 1)
    seeded()
    MEASURES["low_pass_filter"](model, batches)
    assert ([batch.shape for batch in batches], torch.rand(1).item()) == expected


def test_on_apples_devices_their_own_generator_is_seeded_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is here: what is asked of torch.mps."""
    asked: list[object] = []
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: "before")
    monkeypatch.setattr(torch.mps, "manual_seed", asked.append)
    monkeypatch.setattr(torch.mps, "set_rng_state", asked.append)
    with base.preserved_generators([torch.device("mps")]):
        base.seed_generators(5, [torch.device("mps"), torch.device("cpu")])
    assert asked == [5, "before"]


def test_a_loader_that_fails_leaves_the_generators_too() -> None:
    def failing(batch: list[Tensor]) -> Tensor:
        torch.rand(3)
        raise OSError("no such image")

    model = Network()
    batches: Any = DataLoader(Augmented(), shuffle=True, collate_fn=failing)
    before = torch.get_rng_state()
    with pytest.raises(OSError, match="no such image"):
        MEASURES["low_pass_filter"](model, batches)
    assert torch.equal(torch.get_rng_state(), before)
