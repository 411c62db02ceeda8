"""A class-conditional diffusion transformer trained with SAM: python -m examples.class_conditional_transformer.

What a transformer's recipe brings along, beside SAM: groups with and without weight decay (the perturbation's norm is
over all of them), warm-up by a scheduler of torch, labels that are dropped at random for classifier-free guidance (both
passes of a step drop the same), and a perturbation at every second step only, which costs half as much again as none.
The data are drawn: a bright square in the quarter of the image that the label names.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from examples.transformer import Transformer
from flatness import SAM, EveryK, arguments, low_pass_filter
from flatness.measuring.low_pass_filter import LowPassFilter

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
CLASSES, SIZE = 4, 16


def batches(steps: int, size: int, seed: int = 0) -> list[Batch]:
    """Noisy images (n, 1, 16, 16), times (n,), labels (n,) and the noise, one batch a step; cosine noise."""
    generator, made = torch.Generator().manual_seed(seed), []
    for _ in range(arguments.count("steps", steps, at_least=1)):
        labels = torch.randint(CLASSES, (size,), generator=generator)
        row, column = (torch.randint(1, 4, (size,), generator=generator) + 8 * k for k in (labels // 2, labels % 2))
        pixel = torch.arange(SIZE)
        rows, columns = (((pixel >= p[:, None]) & (pixel < p[:, None] + 4)).float() for p in (row, column))
        x_0 = 2 * (rows[:, :, None] * columns[:, None, :])[:, None] - 1
        t, noise = torch.rand(size, generator=generator), torch.randn(x_0.shape, generator=generator)
        angle = math.pi / 2 * t[:, None, None, None]
        made.append((angle.cos() * x_0 + angle.sin() * noise, t, labels, noise))
    return made


def losses(model: nn.Module, batch: Batch) -> Tensor:
    """The loss of each image (n,); in training mode a tenth of the labels is dropped."""
    x_t, t, labels, noise = batch
    if model.training:
        labels = torch.where(torch.rand(len(labels)) < 0.1, CLASSES, labels)
    return (model(x_t, t, labels) - noise).square().mean((1, 2, 3))


def train(model: nn.Module, data: Sequence[Batch], rho: float, learning_rate: float = 1e-3) -> None:
    """One step a batch, every second of them SAM's."""
    decayed, others = ([p for p in model.parameters() if (p.dim() > 1) == wide] for wide in (True, False))
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    sam = SAM(torch.optim.AdamW(groups, lr=learning_rate), rho=rho, schedule=EveryK(2))
    warm_up = torch.optim.lr_scheduler.LambdaLR(sam, lambda step: min(1.0, (step + 1) / 20))

    def closure(batch: Batch) -> Tensor:
        sam.zero_grad()
        loss = losses(model, batch).mean()
        loss.backward()
        return loss

    for batch in data:
        sam.step(partial(closure, batch))
        warm_up.step()


def main(argv: Sequence[str] | None = None) -> list[LowPassFilter]:
    """Train and measure without SAM and with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rho", type=float, default=0.05, help="SAM's radius (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=500, help="(default: %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="images a step sees (default: %(default)s)")
    options = parser.parse_args(argv)
    data, held_out, rises = batches(options.steps, options.batch), batches(2, 128, seed=10**6), []
    for name, rho in (("plain", 0.0), ("SAM", options.rho)):
        print(f"{name}: {options.steps} steps of {options.batch} images, rho {rho:g} at every second step")
        torch.manual_seed(0)
        model = Transformer(CLASSES, SIZE)
        train(model, data, rho)
        rises.append(low_pass_filter(model, losses, held_out, sigma=0.02, draws=10))  # in evaluation mode
        rise = rises[-1].rise
        print(f"{name:>8}: held-out loss {rises[-1].loss.value:.4f}; rise under weight noise of sigma 0.02:", end=" ")
        print(f"{rise.value:.4f} (standard error over 10 draws {rise.draw_standard_error:.4f})")
    return rises


if __name__ == "__main__":
    main()
