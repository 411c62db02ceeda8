"""Sampling against figures of the public implementation, and on a distribution whose score is known."""

from typing import Literal

import pytest
import torch
from torch import Tensor

from experiments.adm import golden
from experiments.diffusion import Process, ProcessOptions, sample, trajectory

ETAS = {"ancestral": None, "ddim0": 0.0, "ddim05": 0.5}


def shaped(x: Tensor, t: Tensor) -> Tensor:
    """The function that the golden figures were made with."""
    return torch.cat([0.9 * x + 0.05 * torch.cos(5 * x) + 0.0001 * t.view(-1, 1, 1, 1), torch.sin(3 * x)], 1)


def rolled(step: int, shape: tuple[int, ...]) -> Tensor:
    return golden.inputs(side=16)[1].roll(step, 3)


@pytest.mark.parametrize("name", ETAS)
@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("learned", [True, False])
def test_samples_are_the_published_ones(name: str, schedule: Literal["cosine", "linear"], learned: bool) -> None:
    process = Process(ProcessOptions(schedule=schedule, learn_sigma=learned)).respaced(10)

    def model(x: Tensor, t: Tensor) -> Tensor:
        return shaped(x, t) if learned else shaped(x, t)[:, :3]

    images = sample(model, process, golden.inputs(side=16)[0], rolled, eta=ETAS[name])
    figures = golden.arrays("switches")[f"{schedule}_{'learned' if learned else 'fixed'}_{name}"]
    assert golden.distance(images, figures) < golden.RELATIVE


@pytest.mark.parametrize("eta", [None, 0.0, 1.0])
def test_a_gaussian_is_sampled_from_its_own_score(eta: float | None) -> None:
    """Pixels drawn from N(m, s^2): the best epsilon is known, and over 1000 steps every sampler ends near N(m, s^2)."""
    mean, deviation, count = 0.3, 0.2, 4000
    process = Process(ProcessOptions(learn_sigma=False))
    bars = process.alphas_cumprod

    def model(x: Tensor, t: Tensor) -> Tensor:
        bar = bars[t].view(-1, 1, 1, 1)
        return (1 - bar).sqrt() * (x - bar.sqrt() * mean) / (bar * deviation**2 + 1 - bar)

    generator = torch.Generator().manual_seed(0)

    def noise(step: int, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    images = sample(model, process, noise(0, (1, 1, count, 1)), noise, eta=eta, clip=False)
    # 5 standard errors; and the discretisation at 1000 steps, below 1% of the deviation.
    assert float(images.mean()) == pytest.approx(mean, abs=deviation * (5 / count**0.5 + 0.01))
    assert float(images.std()) == pytest.approx(deviation, rel=5 / (2 * count) ** 0.5 + 0.01)


def test_an_image_depends_on_its_own_noise_alone() -> None:
    process = Process(ProcessOptions()).respaced(5)

    def noise_for(images: range) -> object:
        def noise(step: int, shape: tuple[int, ...]) -> Tensor:
            each = [torch.Generator().manual_seed(1000 * i + step) for i in images]
            return torch.stack([torch.randn(shape[1:], generator=generator) for generator in each])

        return noise

    def images(chosen: range) -> Tensor:
        noise = noise_for(chosen)
        return sample(shaped, process, noise(999, (len(chosen), 3, 8, 8)), noise)  # type: ignore[operator,arg-type]

    together = images(range(4))
    assert torch.equal(torch.cat([images(range(2)), images(range(2, 4))]), together)
    assert not torch.equal(together[0], together[1])


def test_the_network_sees_original_timesteps_and_noise_is_asked_for_every_step_but_the_last() -> None:
    process, seen, steps_of_noise = Process(ProcessOptions()).respaced(4), [], []

    def model(x: Tensor, t: Tensor) -> Tensor:
        seen.append(t.tolist())
        return shaped(x, t)

    def noise(step: int, shape: tuple[int, ...]) -> Tensor:
        steps_of_noise.append(step)
        return torch.zeros(shape)

    states = list(trajectory(model, process, torch.ones(2, 3, 4, 4), noise))
    assert seen == [[999] * 2, [666] * 2, [333] * 2, [0] * 2]
    assert steps_of_noise == [3, 2, 1]
    assert [state.step for state in states] == [3, 2, 1, 0]
    assert torch.equal(states[-1].x, states[-1].x_start)


def test_classes_are_passed_on_and_gradients_are_not_recorded() -> None:
    seen = []
    weight = torch.ones((), requires_grad=True)

    def model(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        seen.append(y)
        return weight * shaped(x, t)

    y = torch.tensor((1, 2))
    for state in trajectory(model, Process(ProcessOptions()).respaced(2), torch.ones(2, 3, 4, 4), eta=0.0, y=y):
        assert not state.x.requires_grad
        assert torch.is_grad_enabled()  # between the steps the caller's code is as it was
    assert all(entry is y for entry in seen)


def test_arguments() -> None:
    process, x = Process(ProcessOptions()).respaced(2), torch.zeros(1, 3, 4, 4)
    with pytest.raises(ValueError, match=r"^noise_of is None"):
        sample(shaped, process, x)
    with pytest.raises(ValueError, match=r"^eta is 1.5"):
        sample(shaped, process, x, rolled, eta=1.5)
    with pytest.raises(ValueError, match=r"^what noise_of returned is "):
        sample(shaped, process, x, lambda step, shape: torch.zeros(1))
    with pytest.raises(ValueError, match=r"^process is "):
        sample(shaped, ProcessOptions(), x, rolled)  # type: ignore[arg-type]
