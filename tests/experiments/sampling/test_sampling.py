"""Image i is a function of (seed, i), however images are batched; arguments are checked before anything is sampled."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from experiments.adm import ADM, ADMOptions
from experiments.diffusion import Process, ProcessOptions, sample
from experiments.sampling.chains import ChainOptions, ImageNoise, chains, generate, to_uint8

OPTIONS = ADMOptions(
    image_size=8,
    channels=1,
    model_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention_resolutions=(4,),
    dropout=0.5,
)
PROCESS = ProcessOptions()


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """With weights that do something, as the fresh ones give zero."""
    made = ADM(OPTIONS).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return made


class InFloat64(nn.Module):
    """The network computed in float64 and rounded once, so that its value does not depend on how a batch is summed."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.options = network.options
        self.network = copy.deepcopy(network).double()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.network(x.double(), t).float()


def sampled(network: nn.Module, images: Any, **options: Any) -> Tensor:
    """All together."""
    return torch.cat([batch.images for batch in generate(network, PROCESS, images, **{"steps": 10, **options})])


@pytest.mark.parametrize("sampler", [{"sampler": "ddpm"}, {"sampler": "ddim"}, {"sampler": "ddim", "eta": 1.0}])
def test_an_image_is_the_same_in_any_batch(network: nn.Module, sampler: dict[str, Any]) -> None:
    # In float32 sums round differently by some 1e-6 with a batch's size, which 10 steps of this network with random
    # weights amplify by up to some 1,000, as the processor has it. In float64 that stays below float32's rounding
    network = InFloat64(network).eval()
    whole = sampled(network, range(7), batch_size=7, **sampler)
    for batch_size in (1, 3):
        images = sampled(network, range(7), batch_size=batch_size, **sampler)
        assert float((images - whole).abs().max()) < 1e-4
        levels = (to_uint8(images).int() - to_uint8(whole).int()).abs()
        assert int(levels.max()) <= 1
        assert float(levels.float().mean()) < 0.01
    chosen = sampled(network, [6, 3], batch_size=2, **sampler)
    assert float((chosen - whole[[6, 3]]).abs().max()) < 1e-4
    assert float((whole[1] - whole[0]).abs().max()) > 0.1


def test_it_is_the_samplers_own_result_and_deterministic(network: nn.Module) -> None:
    """Against `experiments.diffusion.sample` on the noise of these images."""
    noise = ImageNoise(4, torch.arange(6), (1, 8, 8))
    for sampler, eta in (("ddpm", None), ("ddim", 0.5)):
        images = sampled(network, range(6), steps=7, sampler=sampler, eta=eta or 0.0, seed=4)
        expected = sample(network, Process(PROCESS).respaced(7), noise.start(), noise, eta=eta)
        assert torch.equal(images, expected)
        assert torch.equal(images, sampled(network, range(6), steps=7, sampler=sampler, eta=eta or 0.0, seed=4))


def test_every_option_does_something(network: nn.Module) -> None:
    usual = sampled(network, range(3))
    changes: list[dict[str, Any]] = [
        {"seed": 1}, {"steps": 9}, {"sampler": "ddim"}, {"clip": False}, {"precision": "bfloat16"},
    ]  # fmt: skip
    for change in changes:
        assert not torch.equal(sampled(network, range(3), **change), usual), change


def test_batches_have_their_indices_and_progress_is_told(network: nn.Module) -> None:
    reports: list[tuple[int, int]] = []
    batches = list(
        generate(network, PROCESS, [5, 1, 9], steps=2, batch_size=2, progress=lambda *done: reports.append(done))
    )
    assert [batch.indices.tolist() for batch in batches] == [[5, 1], [9]]
    assert [tuple(batch.images.shape) for batch in batches] == [(2, 1, 8, 8), (1, 1, 8, 8)]
    assert reports == [(2, 3), (3, 3)]
    assert not batches[0].images.requires_grad
    assert list(generate(network, PROCESS, [], steps=2)) == []


def test_chains_show_every_state_and_end_where_generate_does(network: nn.Module) -> None:
    (chain,) = chains(network, PROCESS, range(4), ChainOptions(steps=5))
    states = list(chain.states)
    assert [state.step for state in states] == [4, 3, 2, 1, 0]
    assert torch.equal(states[-1].x, sampled(network, range(4), steps=5))
    assert not list(chain.states)


def test_nothing_is_left_changed(network: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    sampled(network, range(2), steps=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.is_grad_enabled()


def test_a_network_in_training_mode_is_refused(network: nn.Module) -> None:
    network.get_submodule("middle_block").train()
    try:
        with pytest.raises(ValueError, match="network is in training mode"):
            generate(network, PROCESS, range(2))
    finally:
        network.eval()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 1001}, "steps is 1001; allowed: at most the 1000 steps"),
        ({"sampler": "euler"}, "sampler is 'euler'; allowed: one of 'ddpm', 'ddim'"),
        ({"eta": 0.5}, "eta is 0.5; allowed: 0 with sampler 'ddpm'"),
        ({"sampler": "ddim", "eta": 1.5}, "eta is 1.5"),
        ({"seed": -1}, "seed is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"clip": 1}, "clip is 1"),
        ({"precision": "float16"}, "precision is 'float16'"),
        ({"device": "meta"}, "device is 'meta'; allowed: 'cpu', where the network is"),
        ({"shape": (1, 8)}, "shape is"),
        ({"images": [0, -1]}, "images is -1"),
        ({"process": 5}, "process is 5"),
    ],
)
def test_arguments_are_refused_at_the_call(network: nn.Module, change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"network": network, "process": PROCESS, "images": range(2), **change}
    with pytest.raises(ValueError, match=message):
        generate(**given)


class Silent(nn.Module):
    """Predicts no noise."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(x)


def test_a_network_that_does_not_say_its_shape_has_to_be_told() -> None:
    silent = Silent().eval()
    with pytest.raises(ValueError, match="shape is None"):
        generate(silent, PROCESS, range(2))
    process = ProcessOptions(learn_sigma=False)
    (batch,) = generate(silent, process, range(2), steps=2, shape=(1, 2, 3))
    assert batch.images.shape == (2, 1, 2, 3)


@pytest.fixture
def tf32() -> Iterator[tuple[Any, ...]]:
    """TF32 allowed, as cuDNN's default is; where that is set."""
    backends: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = True
    yield backends
    for backend, allowed in zip(backends, before, strict=True):
        backend.allow_tf32 = allowed


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_float32_is_not_tf32_and_the_setting_comes_back(precision: str, tf32: tuple[Any, ...]) -> None:
    seen: list[bool] = []

    class Watching(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            seen.extend(backend.allow_tf32 for backend in tf32)
            return torch.zeros_like(x)

    process = ProcessOptions(steps=4, learn_sigma=False)
    for _ in generate(Watching().eval(), process, range(2), steps=2, shape=(1, 4, 4), precision=precision):
        assert all(backend.allow_tf32 for backend in tf32)
    assert seen == [precision == "bfloat16"] * 4
