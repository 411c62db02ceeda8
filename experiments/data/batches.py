"""The order of training images: a pure function of (seed, step), cut into the ranks' shares.

Epoch e is the permutation of the images drawn from (seed, e), and the epochs stand one behind the other: batch s is
their places s B, ..., (s + 1) B - 1. A batch may hold the end of one epoch and the beginning of the next; within an
epoch every image comes once. Flips are drawn from (seed, step). Nothing depends on where training began, nor on how
many processes share a batch: all ranks' shares, in order, are the batch of one process.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from numpy import ndarray
from torch import Tensor

from experiments.data.images import Images
from experiments.data.prefetching import Prefetcher
from flatness import arguments
from flatness.weights import derived_seed

DEPTH = 2
"""Batches made ahead: one that waits while the next is made. More would only hide irregular storage."""


def _mirror(pixels: UInt8[ndarray, "n C H W"], chosen: Bool[ndarray, " n"]) -> None:
    """Mirror the chosen images left to right, in place."""
    if pixels.shape[-1] % 8 == 0:  # eight at a time: reverse the words, and the bytes in them
        words = pixels.view(np.uint64)
        words[chosen] = words[chosen].byteswap(inplace=True)[..., ::-1]
    else:
        pixels[chosen] = pixels[chosen][..., ::-1]


def _generator(*label: int | str) -> torch.Generator:
    return torch.Generator().manual_seed(derived_seed("data", *label))


class Batches:
    """The batches of a training run.

    Args:
        images: what to draw from.
        global_batch: images a step, over all processes together.
        seed: the order and the flips are functions of it.
        flip: mirror each image left to right with probability 1/2.

    Raises:
        ValueError: an argument is not as above.
    """

    def __init__(self, images: Images, global_batch: int, seed: int, flip: bool = True) -> None:
        """Check the arguments."""
        self.images = arguments.instance("images", images, Images)
        self.global_batch = arguments.count("global_batch", global_batch, at_least=1)
        self.seed = arguments.count("seed", seed)
        self.flip = arguments.flag("flip", flip)
        self._permutation = lru_cache(maxsize=2)(self._drawn_permutation)

    def indices(self, step: int) -> Int[Tensor, " global_batch"]:
        """The images of a step, int64."""
        begin = arguments.count("step", step) * self.global_batch
        return self._places(begin, begin + self.global_batch)

    def flips(self, step: int) -> Bool[Tensor, " global_batch"]:
        """Which of them are mirrored."""
        arguments.count("step", step)
        if not self.flip:
            return torch.zeros(self.global_batch, dtype=torch.bool)
        return torch.randint(2, (self.global_batch,), generator=_generator("flips", self.seed, step)).bool()

    def batch(self, step: int, rank: int = 0, world: int = 1) -> UInt8[Tensor, "n C H H"]:
        """The rank's share of a step's images, mirrored where `flips` says so; n = global_batch / world.

        Args:
            step: of training, from 0.
            rank: of this process, 0 to world - 1.
            world: number of processes; divides the global batch.

        Raises:
            ValueError: an argument is not as above.
        """
        share = self._share(rank, world)
        begin = arguments.count("step", step) * self.global_batch + rank * share
        found = self.images.gather(self._places(begin, begin + share))
        if self.flip:
            _mirror(found.numpy(), self.flips(step)[rank * share : (rank + 1) * share].numpy())
        return found

    def stream(
        self,
        first_step: int = 0,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
        last_step: int | None = None,
        depth: int = DEPTH,
    ) -> Prefetcher[UInt8[Tensor, "n C H H"]]:
        """An iterator over (step, the rank's share on the device), made ahead on one thread; close it, or use `with`.

        For a CUDA device the thread puts the share into pinned memory and the copy is queued on the reader's current
        stream, without waiting for it. `seconds_waited` is the time that the reader has waited so far.

        Args:
            first_step: the step to begin with.
            rank: of this process, 0 to world - 1.
            world: number of processes; divides the global batch.
            device: where the share is needed.
            last_step: the step to stop before; None: endless.
            depth: how many batches to make ahead.

        Raises:
            ValueError: an argument is not as above.
        """
        self._share(rank, world)
        target = torch.device(device)
        pinned = target.type == "cuda"

        def make(step: int) -> Tensor:
            found = self.batch(step, rank, world)
            return found.pin_memory() if pinned else found

        def finish(found: Tensor) -> Tensor:
            return found.to(target, non_blocking=pinned)

        return Prefetcher(make, first_step, last_step, depth, finish)

    def _share(self, rank: int, world: int) -> int:
        """Images a process and step."""
        arguments.count("world", world, at_least=1)
        if self.global_batch % world:
            raise arguments.refuse("world", world, f"a divisor of the global batch, {self.global_batch}")
        if arguments.count("rank", rank) >= world:
            raise arguments.refuse("rank", rank, f"a whole number below the number of processes, {world}")
        return self.global_batch // world

    def _places(self, begin: int, end: int) -> Tensor:
        """The images at these places of the endless row of epochs."""
        number = len(self.images)
        found = []
        while begin < end:
            epoch, place = divmod(begin, number)
            part = self._permutation(epoch)[place : place + end - begin]
            found.append(part)
            begin += len(part)
        return torch.cat(found)

    def _drawn_permutation(self, epoch: int) -> Tensor:
        return torch.randperm(len(self.images), generator=_generator("order", self.seed, epoch))
