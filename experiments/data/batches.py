"""The order of training images: a pure function of (seed, step), cut into the ranks' shares.

Epoch e is the permutation of the images drawn from (seed, e), and the epochs stand one behind the other: batch s is
their places s B, ..., (s + 1) B - 1. A batch may hold the end of one epoch and the beginning of the next; within an
epoch every image comes once. Flips are drawn from (seed, step). Nothing depends on where training began, nor on how
many processes share a batch: all ranks' shares, in order, are the batch of one process. Batches are made ahead on a
background thread (`Prefetcher`): bounded, measured, closed cleanly, its errors raised to the reader.
"""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import lru_cache
from queue import SimpleQueue
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from numpy import ndarray
from torch import Tensor

from experiments.data.images import Images
from flatness import arguments
from flatness.weights import derived_seed

DEPTH = 2
"""Batches made ahead: one that waits while the next is made. More would only hide irregular storage."""
T = TypeVar("T")


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
        pixels = self.images.gather(self._places(begin, begin + share))
        if self.flip:
            _mirror(pixels.numpy(), self.flips(step)[rank * share : (rank + 1) * share].numpy())
        return pixels

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
            batch = self.batch(step, rank, world)
            return batch.pin_memory() if pinned else batch

        def finish(batch: Tensor) -> Tensor:
            return batch.to(target, non_blocking=pinned)

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
        places = []
        while begin < end:
            epoch, place = divmod(begin, number)
            part = self._permutation(epoch)[place : place + end - begin]
            places.append(part)
            begin += len(part)
        return torch.cat(places)

    def _drawn_permutation(self, epoch: int) -> Tensor:
        return torch.randperm(len(self.images), generator=_generator("order", self.seed, epoch))


class _Shared:
    """What reader and thread share; the thread holds no reference to the reader, so that one can be collected."""

    def __init__(self, depth: int) -> None:
        self.free = threading.Semaphore(depth)
        self.stopped = threading.Event()
        self.done: SimpleQueue[tuple[int, object, BaseException | None]] = SimpleQueue()


def _work(shared: _Shared, make: Callable[[int], object], first: int, last: int | None) -> None:
    steps = itertools.count(first) if last is None else range(first, last)
    try:
        for step in steps:
            shared.free.acquire()
            if shared.stopped.is_set():
                return
            shared.done.put((step, make(step), None))
        error: BaseException = StopIteration()
    except BaseException as raised:
        error = raised
    shared.done.put((-1, None, error))


def _close(shared: _Shared, thread: threading.Thread) -> None:
    shared.stopped.set()
    shared.free.release()
    if thread is not threading.current_thread():  # the collector may run this on the thread itself
        thread.join()


class Prefetcher(Generic[T]):
    """An iterator over (step, make(step)), made up to `depth` steps ahead.

    Use it in a `with` block, or call `close`; one that is simply dropped, or left open when the program ends, closes
    itself. An error in `make` is raised, the same object, when its step is read; after that the iterator has ended.

    Args:
        make: called on the background thread, with the step's number.
        first: the first step.
        last: the step to stop before; None: never.
        depth: how many made and unread results may exist.
        finish: applied to each result on the reader's thread; its time counts as waited.

    Raises:
        ValueError: an argument is not as above.
    """

    seconds_waited: float
    """Time the reader has spent in `next`, in seconds."""

    def __init__(
        self,
        make: Callable[[int], T],
        first: int = 0,
        last: int | None = None,
        depth: int = 2,
        finish: Callable[[T], T] | None = None,
    ) -> None:
        """Start the thread."""
        arguments.function("make", make)
        arguments.count("first", first)
        if last is not None:
            arguments.count("last", last, at_least=first)
        self._shared = _Shared(arguments.count("depth", depth, at_least=1))
        self._finish = finish
        self._ended = False
        self.seconds_waited = 0.0
        thread = threading.Thread(target=_work, args=(self._shared, make, first, last), name="prefetcher", daemon=True)
        thread.start()
        self._closing = weakref.finalize(self, _close, self._shared, thread)

    def __iter__(self) -> Iterator[tuple[int, T]]:
        """The reader itself."""
        return self

    def __next__(self) -> tuple[int, T]:
        """The next step's number and result."""
        if self._ended:
            raise StopIteration
        start = time.perf_counter()
        step, result, error = self._shared.done.get()
        if error is not None:
            self.close()
            raise error
        self._shared.free.release()
        made: T = result  # type: ignore[assignment]
        if self._finish is not None:
            made = self._finish(made)
        self.seconds_waited += time.perf_counter() - start
        return step, made

    def close(self) -> None:
        """End the thread, after the result it is at; what it made and nobody read is dropped. May be called again."""
        self._ended = True
        self._closing()

    def __enter__(self) -> Prefetcher[T]:
        """The reader itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close."""
        self.close()
