"""The gradient of the training loss over batches as in training, which SAM's dose, rho E|grad L_B| / L, is made of."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from experiments.configuration import Configuration
from experiments.data import Batches, Images, to_float
from experiments.diffusion.process import Process
from experiments.diffusion.timesteps import UniformTimesteps
from experiments.training.randomness import drawn
from flatness.measuring.base import standard_error

BATCHES = 16
"""How many batches a row's gradient is measured over: a standard error of some hundredths of the mean."""


def trained_on(training: Images, configuration: Configuration) -> Images:
    """The images that a run was trained on: all, or those that it drew."""
    count = configuration.training_images
    return training if count is None else training.drawn(count, configuration.seed)


def batch_gradients(
    network: nn.Module,
    process: Process,
    configuration: Configuration,
    training: Images,
    *,
    batches: int,
    seed: int,
    most: int,
) -> dict[str, Any]:
    """The mean norm of the training loss's gradient over batches, and the loss itself, each with its standard error.

    Batches are of the run's own size, of the images that it was trained on, flipped and noised as in training, with
    uniform timesteps; the loss is the one that is trained. The network is copied, so its gradients stay as they are.

    Args:
        network: in evaluation mode, on its device.
        process: that it was trained in.
        configuration: of the run.
        training: the images that runs are trained on, or draw their own from.
        batches: how many.
        seed: of images, timesteps and noise.
        most: images in one backward pass; changes results by rounding only.
    """
    device, c = next(network.parameters()).device, configuration
    stream = Batches(trained_on(training, c), c.global_batch, seed, c.flip)
    uniform = UniformTimesteps(len(process))
    moving = copy.deepcopy(network).requires_grad_(True)
    parameters = list(moving.parameters())
    norms, of_batches = [], []
    for number in range(batches):
        x_0 = to_float(stream.batch(number)).to(device)
        draws = drawn(uniform, tuple(x_0.shape), 0.0, device, seed, number)
        t = draws.t.to(device)
        x_t = process.q_sample(x_0, t, draws.noise)
        total = torch.zeros((), dtype=torch.float64, device=device)
        sums: list[Tensor] | None = None
        for part in torch.arange(len(x_0), device=device).split(most):
            output = moving(x_t[part], process.network_timesteps(t[part]))
            loss = process.losses(output, x_0[part], x_t[part], t[part], draws.noise[part]).loss.sum() / len(x_0)
            gradients = torch.autograd.grad(loss, parameters)
            sums = list(gradients) if sums is None else [a + b for a, b in zip(sums, gradients, strict=True)]
            total += loss.detach().double()
        assert sums is not None
        norms.append(torch.stack([g.double().square().sum() for g in sums]).sum().sqrt().cpu())
        of_batches.append(total.cpu())
    result: dict[str, Any] = {}
    for name, values in (("norm", torch.stack(norms)), ("loss", torch.stack(of_batches))):
        result[name] = {"value": float(values.mean()), "standard_error": standard_error(values)}
    return result | {"batch": c.global_batch, "batches": batches, "split": training.split}
