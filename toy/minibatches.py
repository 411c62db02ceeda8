"""The minibatches of training: timesteps, data, noise and input perturbation as functions of (seed, step).

They are drawn for a block of steps at a time, from generators that are functions of (seed, block): a step's numbers do
not depend on where training began, on the other seeds, or on the method, so methods are compared on the same draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flatness import arguments
from flatness.training.input_perturbation import perturbed_noise
from toy.data import generator_of
from toy.process import Process
from toy.training_sets import Data, checked_data, source_of

BLOCK = 50
"""Steps drawn at a time: few enough to stay in the cache, enough to make seeding generators cheap."""


@dataclass(frozen=True, eq=False)
class Minibatch:
    """What one step trains on, for S seeds.

    Attributes:
        t: (S, n), int64.
        x_t: (S, n, d), noised data; with input perturbation it is built with epsilon + gamma xi.
        epsilon: (S, n, d), the target.
    """

    t: Int[Tensor, "S n"]
    x_t: Float[Tensor, "S n d"]
    epsilon: Float[Tensor, "S n d"]


@dataclass(frozen=True, eq=False)
class Minibatches:
    """The stream of minibatches.

    Args:
        data: the distribution of x_0, or a training set of each seed, of which points are drawn with replacement.
        process: the diffusion process; timesteps are uniform on its T.
        seeds: the numbers of the seeds.
        batch: points a seed and step, n.
        input_perturbation: gamma of DDPM-IP.
        dtype: of x_t and epsilon.

    Raises:
        ValueError: an argument is not as above.
    """

    data: Data
    process: Process
    seeds: tuple[int, ...]
    batch: int = 128
    input_perturbation: float = 0.0
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        """Check the arguments that are not checked where they are used."""
        checked_data("data", self.data)
        arguments.instance("process", self.process, Process)
        if not self.seeds:
            raise arguments.refuse("seeds", self.seeds, "at least one seed")
        for seed in self.seeds:
            arguments.count("seeds", seed)
        arguments.count("batch", self.batch, at_least=1)
        arguments.number("input_perturbation", self.input_perturbation, at_least=0)

    def block(self, index: int) -> list[Minibatch]:
        """The minibatches of the steps index BLOCK, ..., (index + 1) BLOCK - 1."""
        batches = [self._of_seed(index, seed) for seed in self.seeds]
        t, x_t, epsilon = (torch.stack(tensors, dim=1) for tensors in zip(*batches, strict=True))
        return [Minibatch(*tensors) for tensors in zip(t, x_t, epsilon, strict=True)]

    def step(self, number: int) -> Minibatch:
        """The minibatch of one step; draws its whole block."""
        return self.block(arguments.count("number", number) // BLOCK)[number % BLOCK]

    def _of_seed(self, index: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """t (BLOCK, n), x_t and epsilon (BLOCK, n, d) of one seed."""
        generator = generator_of("minibatch", seed, index)
        shape = (BLOCK, self.batch, self.data.dimension)
        t = torch.randint(self.process.steps, shape[:2], generator=generator)
        x_0 = source_of(self.data, seed).sample(BLOCK * self.batch, generator, self.dtype).view(shape)
        epsilon = torch.randn(shape, generator=generator, dtype=self.dtype)
        noise = perturbed_noise(epsilon, self.input_perturbation, generator_of("perturbation", seed, index))
        return t, self.process.noisy(x_0, t, noise), epsilon
