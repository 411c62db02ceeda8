"""A run from its beginning, or from its last checkpoint, to its last step."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from torch import Tensor

from experiments.configuration import Configuration, RunOptions
from experiments.data import Batches, Images
from experiments.training.checkpoints import (
    CheckpointError,
    Writer,
    checkpoint_folder,
    point_folder,
    snapshot_steps,
    step_of,
)
from experiments.training.distributed import Ranks, fastest_convolutions, joined, synchronize
from experiments.training.events import Resumable, RunState, StepReport, Watcher
from experiments.training.randomness import default_generators_kept
from experiments.training.run_folder import StopRequest, held, prepared, stop_request
from experiments.training.state import TrainingState
from experiments.training.step import StepLosses, check_shares
from flatness import arguments
from flatness.passes import whole_float32

GO, STOP, FAIL = 0, 1, 2
"""What a rank asks of all: the largest wins."""
NONE, REFUSED = -1, -2
"""What rank 0 tells in place of the step to continue from."""


def train(
    configuration: Configuration,
    options: RunOptions,
    images: Images,
    watchers: Sequence[Watcher] = (),
    ranks: Ranks | None = None,
) -> int:
    """Carry a run out, in the folder `options.out`; continue it where the folder holds one.

    Ends at the configuration's last step, at `options.until`, or after the step during which SIGTERM or SIGINT came,
    each time with a checkpoint, and returns; a command that returns from here ends with exit code 0 (torchrun, which
    passes a signal on to all ranks, itself ends with 1). SIGINT twice raises KeyboardInterrupt at once. An error of a
    watcher ends the run after a checkpoint of its step. With several ranks the folder is one that all of them see; they
    end together, and an error that rank 0 alone has is a CheckpointError on the others.

    Args:
        configuration: what is trained.
        options: where and how.
        images: of the training split.
        watchers: called on rank 0.
        ranks: None for torchrun's, or a single process without it.

    Returns:
        How many steps have been made in all.

    Raises:
        ValueError: the images do not fit the network, the global batch the ranks, or a step of the options the run.
        CheckpointError: the folder's run is another one, is held by another process, has no whole checkpoint, or
            a checkpoint cannot be written; in every case the checkpoints that are there stay intact.
        FloatingPointError: a loss or gradient is not finite; names the step and the last good checkpoint.
    """
    with contextlib.ExitStack() as stack:
        ranks = stack.enter_context(joined(options.device)) if ranks is None else ranks
        _check(configuration, options, images, ranks)
        request = stack.enter_context(stop_request())
        stack.enter_context(default_generators_kept(ranks.device))
        stack.enter_context(fastest_convolutions(ranks.device))
        stack.enter_context(whole_float32())
        return _Run(
            configuration, options, images, watchers if ranks.first else (), ranks, request, stack
        ).carried_out()


def _check(configuration: Configuration, options: RunOptions, images: Images, ranks: Ranks) -> None:
    """Whatever can be refused, before the folder is touched."""
    network = arguments.instance("configuration", configuration, Configuration).network
    given = (images.name, images.channels, images.image_size)
    expected = (configuration.dataset, network.channels, network.image_size)
    if given != expected:
        raise ValueError(f"images are {given} (name, channels, size); allowed: the configuration's, {expected}")
    if configuration.training_images is not None and configuration.training_images > len(images):
        raise arguments.refuse(
            "training_images", configuration.training_images, f"at most those of the split, {len(images)}"
        )
    options.check_within(configuration.steps)
    check_shares(configuration.global_batch, ranks.world)


def _check_points(options: RunOptions, made: int) -> None:
    """Refuse points that a run has passed without putting its weights aside."""
    out = options.out
    if passed := [str(point) for point in options.points if point <= made and not point_folder(out, point).exists()]:
        raise CheckpointError(
            f"points is {options.points}, and the run in {out} has come to step {made} without putting aside the "
            f"weights of {', '.join(passed)}; allowed: later ones, or another folder"
        )


class _Run:
    """One process's part of a run."""

    def __init__(
        self,
        configuration: Configuration,
        options: RunOptions,
        images: Images,
        watchers: Sequence[Watcher],
        ranks: Ranks,
        request: StopRequest,
        stack: contextlib.ExitStack,
    ) -> None:
        """Hold the folder, and build the state that training begins from."""
        chosen = configuration.training_images
        self.configuration, self.options = configuration, options
        self.images = images if chosen is None else images.drawn(chosen, configuration.seed)
        self.watchers, self.ranks, self.request = watchers, ranks, request
        checkpoint = self._begun(stack)
        self.state = TrainingState(configuration, ranks, checkpoint, options.micro_batch, options.compile)
        self.writer = Writer(options.out, checkpoint, ranks.device)
        stack.callback(self.writer.close)
        self.snapshot_steps = snapshot_steps(configuration.steps if configuration.averages.power_widths else 0)
        self.saved = self.state.step if checkpoint is not None else NONE
        self.errors: list[Exception] = []
        self.stopped = False

    def _begun(self, stack: contextlib.ExitStack) -> Path | None:
        """The checkpoint to continue from, the same on all ranks; on rank 0, which looks for it, also hold the folder.

        Raises:
            CheckpointError: as `train`, on all ranks.
        """
        out, checkpoint = self.options.out, None
        if self.ranks.first:
            try:
                stack.enter_context(held(out))
                checkpoint = prepared(out, self.configuration, self.images.fingerprint)
                _check_points(self.options, 0 if checkpoint is None else step_of(checkpoint))
            except BaseException:
                self.ranks.of_rank_0(REFUSED)
                raise
        newest = self.ranks.of_rank_0(NONE if checkpoint is None else step_of(checkpoint))
        if newest == REFUSED:
            raise CheckpointError("rank 0 cannot begin; its error says why")
        return None if newest == NONE else checkpoint_folder(out, newest)

    def carried_out(self) -> int:
        """Train, save, and return the number of steps made."""
        with self._alone():
            for watcher, seen in self._watched():
                watcher.started(seen, self.state.step)
        self._agreed()
        last = self.options.until or self.configuration.steps
        if self.state.step < last:
            self._train(last)
        with self._alone():
            self._ended()
        self._agreed()
        return self.state.step

    def _ended(self) -> None:
        """Everything on the disk, and watchers told, unless there was an error."""
        if self.errors:
            return
        if self.saved != self.state.step:
            self._save(checkpoint=True)
        self.writer.wait()
        for watcher, seen in self._watched():
            watcher.finished(seen, self.state.step)

    def _watched(self) -> Iterator[tuple[Watcher, RunState]]:
        state, shadows = self.state, self.state.shadows
        if shadows is None:
            return
        seen = RunState(
            self.configuration, self.options, state.network, shadows, state.stepper.process, resumed=state.resumed
        )
        for watcher in self.watchers:  # a signal may come while one is at work
            yield watcher, dataclasses.replace(seen, interrupted=self.stopped or bool(self.request))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """What rank 0 does by itself: an error is kept until all ranks hear of it, so that none waits in vain."""
        try:
            yield
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # what ran out of memory would go on holding what it has
            self.errors.append(error)

    def _agreed(self) -> None:
        """Wait until rank 0 is done with what it does by itself; all end where that has failed."""
        if self.ranks.of_rank_0(FAIL if self.errors else GO) == FAIL:
            self._fail()

    def _fail(self) -> NoReturn:
        """End, on all ranks, by rank 0's error."""
        with self._alone():
            self.writer.wait()
        self.ranks.of_rank_0(FAIL)  # whoever left sooner would have the launcher end rank 0 while it writes
        if not self.errors:
            raise CheckpointError("rank 0 cannot go on; its error says why")
        for other in self.errors[1:]:
            self.errors[0].add_note(f"and then: {other}")
        raise self.errors[0]

    def _train(self, last: int) -> None:
        c, ranks = self.configuration, self.ranks
        batches = Batches(self.images, c.global_batch, c.seed, c.flip)
        with batches.stream(self.state.step, ranks.rank, ranks.world, ranks.device, last_step=last) as stream:
            begin, waited = time.perf_counter(), 0.0
            for step, pixels in stream:
                losses = self._step(step, pixels)
                if losses.flag == FAIL:
                    self._fail()
                self.stopped = losses.flag == STOP
                seconds = time.perf_counter() - begin
                report = _report(self.state.step, losses, c.global_batch, seconds, stream.seconds_waited - waited)
                with self._alone():
                    for watcher, seen in self._watched():
                        watcher.stepped(seen, report)
                begin, waited = time.perf_counter(), stream.seconds_waited
                self.stopped |= ranks.world == 1 and bool(self.request)
                at_end = self.stopped or self.state.step == last or bool(self.errors)
                with self._alone():
                    self._save(checkpoint=at_end or self.state.step % self.options.checkpoint_every == 0)
                if ranks.world == 1 and self.errors:
                    self._fail()
                if self.stopped:
                    return

    def _step(self, step: int, pixels: Tensor) -> StepLosses:
        try:
            losses = self.state.stepper(step, pixels, self._asked)
        except FloatingPointError as error:
            with contextlib.suppress(CheckpointError):  # the one under way may become the last good one
                self.writer.wait()
            self.ranks.of_rank_0(FAIL)  # as in `_fail`: all ranks are here
            message = f"step {step + 1} has a loss or a gradient that is not finite; training ends there"
            raise FloatingPointError(f"{message}: {error}; {self.writer.last_good()}") from error
        if self.state.shadows is not None:
            self.state.shadows.update(step)
        self.state.step = step + 1
        return losses

    def _asked(self) -> int:
        """What this rank asks of all."""
        return FAIL if self.errors or self.writer.failed else STOP if self.request else GO

    def _save(self, checkpoint: bool) -> None:
        """Copy what is due, and hand it over for writing; on rank 0."""
        state, shadows = self.state, self.state.shadows
        snapshots, point = state.step in self.snapshot_steps, state.step in self.options.points
        if shadows is None or not (checkpoint or snapshots or point):
            return
        synchronize(self.ranks.device)
        begin = time.perf_counter()
        self.writer.wait()  # for the one before, so that there is never more than one copy
        watched = {one.name: one.state() for one in self.watchers if isinstance(one, Resumable)}
        contents = state.contents(self.images.fingerprint, watched) if checkpoint or point else None
        put_aside = shadows.snapshots() if snapshots else []
        synchronize(self.ranks.device)
        self.writer.write(state.step, put_aside, contents if checkpoint else None, contents if point else None)
        if checkpoint:
            self.saved = state.step
            stopped = time.perf_counter() - begin
            for watcher, seen in self._watched():
                watcher.saved(seen, state.step, stopped)


def _report(step: int, losses: StepLosses, images: int, seconds: float, waited: float) -> StepReport:
    return StepReport(
        step, losses.loss, losses.mse, losses.vb, losses.perturbed_loss, images, seconds, min(waited, seconds)
    )
