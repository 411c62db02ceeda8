"""Rounding, the readout and exposure bias on every model, against slow loops; and nothing is left otherwise."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import flatness
from flatness.weights import derived_seed
from tests.flatness.subjects import (
    IMAGES,
    SEED,
    SUBJECTS,
    At,
    check_rise,
    left_alone,
    norm,
    weights_of,
)

STEPS = {12: (2, 7, 11), 1000: (10, 500, 900)}
"""Of the process, by how many it has."""


@pytest.fixture(scope="module", params=SUBJECTS)
def built(request: pytest.FixtureRequest) -> At:
    return At.of(request.param)


@pytest.fixture
def at(built: At) -> Iterator[At]:
    """One model for all measures."""
    with left_alone(built):
        yield built


def rounded(weight: Tensor, bits: int, granularity: str, scheme: str, chances: Tensor | None) -> Tensor:
    """By numpy, part by part, in float64, to the weight's precision; rounded up by chance where chances are given."""
    parts = weight.double().numpy()
    by_channel = granularity == "channel" and weight.dim() > 1
    values = np.empty_like(parts)
    for place in range(len(parts)) if by_channel else [slice(None)]:
        w = parts[place]
        last = 2**bits - 1 if scheme == "minmax" else 2 ** (bits - 1) - 1
        offset = w.min() if scheme == "minmax" else 0.0
        step = (w.max() / last - w.min() / last) if scheme == "minmax" else abs(w).max() / last
        codes = (w - offset) / (step or 1.0)  # where all are alike they stay
        codes = np.rint(codes) if chances is None else np.floor(codes + chances.numpy()[place])
        values[place] = offset + step * codes.clip(0 if scheme == "minmax" else -last, last)
    return torch.from_numpy(values).to(weight.dtype)


def rounded_weights(weights: Sequence[Tensor], seed: int | None = None, **grid: Any) -> list[Tensor]:
    draw = None if seed is None else torch.Generator().manual_seed(derived_seed("rounding", seed))
    values = []
    for w in weights:
        chances = None if draw is None else torch.rand(w.shape, generator=draw, dtype=torch.float64)
        values.append(rounded(w, chances=chances, **grid))
    return values


GRIDS = list(itertools.product(("tensor", "channel"), ("symmetric", "minmax"), (False, True)))


@pytest.mark.parametrize(("granularity", "scheme", "stochastic"), GRIDS)
def test_quantization_rise(at: At, granularity: str, scheme: str, stochastic: bool) -> None:
    grid: Any = {"bits": 3, "granularity": granularity, "scheme": scheme}
    draws = [derived_seed("draw", SEED, draw) for draw in range(2)] if stochastic else [None]
    rounding = "stochastic" if stochastic else "nearest"
    rise = flatness.quantization_rise(
        at.model, at.subject.loss, at.subject.batches, rounding=rounding, draws=len(draws), **grid
    )

    def moves(weights: Sequence[Tensor], seed: int | None) -> list[Tensor]:
        return [a.double() - w for a, w in zip(rounded_weights(weights, seed, **grid), weights, strict=True)]

    expected, mirrored = (
        sum(at.rise(lambda weights, seed=seed: moves(weights, seed), sign=sign) for seed in draws) / len(draws)  # type: ignore[misc]
        for sign in (1.0, -1.0)
    )
    check_rise(rise.rise.value, at.unmoved, expected, mirrored)
    weights = [w.detach() for w in weights_of(at.subject.plain())]
    squares = sum(norm(moves(weights, seed)) ** 2 for seed in draws) / len(draws)
    assert rise.weight_error == pytest.approx(squares**0.5, rel=1e-5)


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_quantized_and_the_quantized_copy(at: At, granularity: str) -> None:
    """Both are the network with the rounded weights, bit for bit, each weight in its own layout."""
    grid: Any = {"bits": 4, "granularity": granularity}
    twin = flatness.quantize_weights(at.model, **grid)
    reference = at.subject.plain()
    with torch.no_grad():
        weights = weights_of(reference)
        values = rounded_weights([w.detach().clone() for w in weights], scheme="symmetric", **grid)
        for w, value in zip(weights, values, strict=True):
            w.copy_(value)

    def check(model: nn.Module) -> None:
        for a, b in zip(model.parameters(), reference.parameters(), strict=True):
            assert torch.equal(a, b)
            assert (a.stride(), a.requires_grad) == (b.stride(), b.requires_grad)

    check(twin)
    with flatness.quantized(at.model, **grid) as inside:
        assert inside is at.model
        check(inside)
    assert type(twin) is type(at.model)
    assert not {p.data_ptr() for p in twin.parameters()} & {p.data_ptr() for p in at.model.parameters()}
    # compiled code sums as the code that was written does, to rounding
    losses = at.subject.losses_of(reference.eval())
    assert torch.allclose(at.subject.losses_of(twin.eval()), losses, rtol=1e-5)
    assert not torch.allclose(losses, at.unmoved, rtol=1e-3)


def test_readout(at: At) -> None:
    """The layer's inputs, seen by a hook of the test's own on a model that is not compiled, patch by patch."""
    readout = flatness.readout(at.model, at.subject.loss, at.subject.batches)
    assert readout.layer == at.subject.readout
    assert readout.is_output is at.subject.returned
    model = at.subject.plain().eval()
    layer = model.get_submodule(at.subject.readout)
    inputs: list[Tensor] = []
    layer.register_forward_pre_hook(lambda module, args: inputs.append(args[0].detach().double()))
    at.subject.losses_of(model)
    energies = []
    for x in itertools.chain.from_iterable(inputs):  # sample by sample
        if isinstance(layer, nn.Conv2d):
            x = nn.functional.unfold(x[None], 3, padding=1)[0].t()
        energies.append(float(x.reshape(-1, readout.features).square().sum(1).mean()))
    assert len(energies) == IMAGES
    assert readout.feature_energy.value == pytest.approx(np.mean(energies), rel=1e-5)
    weight = layer.get_parameter("weight").detach().double()
    assert readout.weight_norm == pytest.approx(float(weight.norm()), rel=1e-12)
    assert readout.settings["parameters"] == [f"{at.subject.readout}.weight"]


def test_exposure_bias(at: At) -> None:
    """Norms on noised images and along chains, one sample at a time; more images than chains, labels that go along."""
    subject, chains, seed = at.subject, 2, 5
    process = flatness.sampling_process(at.model, subject.loss, labels=subject.labels, variance=subject.variance)
    steps = STEPS[len(process.alphas_cumprod)]
    bias = flatness.exposure_bias(
        process.epsilon_model, process.alphas_cumprod, steps, subject.x_0, chains=chains, variance=subject.variance,
        batch_size=4, seed=seed,
    )  # fmt: skip
    model = subject.plain().eval()
    bars = [float(process.alphas_cumprod[t]) for t in steps]
    own = flatness.sampling_process(model, subject.loss).epsilon_model

    def predicted(x: Tensor, i: int, t: int) -> tuple[Tensor, Tensor | None]:
        if subject.labels is not None:
            own.labels = subject.labels[i : i + 1]  # type: ignore[attr-defined]
        with torch.no_grad():
            output = own(x[None], torch.tensor([t]))
        return (output[0][0], output[1][0]) if isinstance(output, tuple) else (output[0], None)

    def noise(*label: Any, count: int = IMAGES) -> Tensor:
        draw = torch.Generator().manual_seed(derived_seed(*label))
        return torch.randn((count, *subject.x_0.shape[1:]), generator=draw)

    for index, (t, bar) in enumerate(zip(steps, bars, strict=True)):
        noisy = bar**0.5 * subject.x_0 + (1 - bar) ** 0.5 * noise("training", seed, index)
        norms = [float(predicted(noisy[i], i, t)[0].norm()) for i in range(IMAGES)]
        assert bias.training[index].value == pytest.approx(np.mean(norms), rel=1e-4)
    x = noise("start", seed, count=chains)
    for index in reversed(range(len(steps))):
        bar, before = bars[index], bars[index - 1] if index else 1.0
        both = [predicted(x[i], i, steps[index]) for i in range(chains)]
        assert bias.sampling[index].value == pytest.approx(np.mean([float(e.norm()) for e, _ in both]), rel=1e-4)
        beta = 1 - bar / before
        small = beta * (1 - before) / (1 - bar)
        added = noise("chain", seed, index, count=chains)
        following = []
        for i, (epsilon, v) in enumerate(both):
            x_0 = (x[i] - (1 - bar) ** 0.5 * epsilon) / bar**0.5
            mean = beta * before**0.5 / (1 - bar) * x_0 + (1 - beta) ** 0.5 * (1 - before) / (1 - bar) * x[i]
            share = None if v is None else (v + 1) / 2
            variance = small if share is None or not index else beta**share * small ** (1 - share)
            following.append(mean + variance**0.5 * added[i])
        x = torch.stack(following)
    assert abs(bias.mean_signed_gap.value) > 1e-3
