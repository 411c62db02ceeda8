"""Exposure bias (Ning et al., 2023) of a row: the norm of the predicted noise on real images and along sampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

import flatness
from experiments.measures.subject import Subject

CLIP = 1.0
"""Sampling clamps the predicted x_0 to the images' range."""


class Predictions(nn.Module):
    """A network as `flatness.exposure_bias` takes it: the predicted noise and, where there is one, v."""

    def __init__(self, network: nn.Module, learn_sigma: bool) -> None:
        """Around the network."""
        super().__init__()
        self.network, self.learn_sigma = network, learn_sigma

    def forward(self, x: Tensor, t: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """The noise, or noise and v, each of x's shape."""
        output: Tensor = self.network(x, t)
        if not self.learn_sigma:
            return output
        epsilon, v = output.chunk(2, dim=1)
        return epsilon, v


def measured(steps: int) -> Callable[[Subject], dict[str, Any]]:
    """The measure at T' = steps, with the variance that ancestral sampling uses."""

    def run(subject: Subject) -> dict[str, Any]:
        options, process = subject.options, subject.process
        learned = process.options.learn_sigma
        return flatness.exposure_bias(
            Predictions(subject.network, learned),
            process.alphas_cumprod,
            process.respaced(steps).timesteps,
            subject.scaled_images(options.exposure_images, "exposure"),
            variance="learned" if learned else "large",
            clip=CLIP,
            batch_size=subject.batch_size,
            seed=options.seed,
        ).to_dict()

    return run
