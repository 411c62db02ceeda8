"""One step of training: draws, passes (once, or twice with SAM), accumulation over micro-batches, ranks, the update."""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from experiments.configuration import Configuration, SAMOptions
from experiments.data import to_float
from experiments.diffusion.process import Process
from experiments.diffusion.timesteps import SecondMomentTimesteps, UniformTimesteps
from experiments.training.distributed import Ranks
from experiments.training.randomness import Draws, drawn, seed_dropout
from flatness import SAM, Always, EveryK, Late, RandomWeightPerturbation, arguments

Timesteps = UniformTimesteps | SecondMomentTimesteps


class StepLosses(NamedTuple):
    """Means over the global batch, as in `events.StepReport`; flag: the largest that a rank handed in."""

    loss: float
    mse: float
    vb: float
    perturbed_loss: float | None
    flag: int


@dataclass(frozen=True)
class _Batch:
    """A rank's images, on its device."""

    x_0: Tensor
    x_t: Tensor
    t: Tensor
    noise: Tensor
    weights: Tensor

    def part(self, begin: int, end: int) -> _Batch:
        return _Batch(*(getattr(self, name)[begin:end] for name in self.__dataclass_fields__))


class Host:
    """A tensor on its way to the CPU: the copy is queued at once, and waited for when it is read."""

    def __init__(self, tensor: Tensor) -> None:
        """Queue the copy."""
        self._event: torch.cuda.Event | None = None
        self._tensor = tensor
        if tensor.device.type == "cuda":
            self._tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._tensor.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> Tensor:
        """The tensor on the CPU."""
        if self._event is not None:
            self._event.synchronize()
        return self._tensor.cpu()  # by now there, but for devices that are neither


def sam_schedule(options: SAMOptions, steps: int) -> Always | Late | EveryK:
    """Which of a run's steps, counted from 0, perturb."""
    if options.sam_schedule == "late":
        return Late.after_share(options.late_start, steps)
    return EveryK(options.every) if options.sam_schedule == "every-k" else Always()


def ascent_size(share: float, images: int, micro_batch: int | None = None) -> int:
    """How many of a rank's images the ascent takes: the share, in whole micro-batches, but one at least.

    Where all images are one micro-batch (None, or a number as large), the share is rounded to images, and those are a
    micro-batch of their own in both passes.
    """
    unit = 1 if micro_batch is None or micro_batch >= images else micro_batch
    return min(max(1, round(share * -(-images // unit))) * unit, images)


def micro_batches(images: int, micro_batch: int, ascent: int) -> list[tuple[int, int]]:
    """Where each begins and ends; none goes beyond the ascent's last image, so that both passes share the first ones.

    Dropout is drawn by micro-batch: of other sizes, the same images would meet other masks.
    """
    bounds = sorted({*range(0, images, micro_batch), ascent, images})
    return list(itertools.pairwise(bounds))


def check_shares(global_batch: int, world: int) -> None:
    """Refuse a batch that the ranks cannot share evenly.

    Raises:
        ValueError: it cannot be.
    """
    if global_batch % world:
        raise arguments.refuse("global_batch", global_batch, f"a multiple of the number of ranks, {world}")


class TrainingStep:
    """What makes the steps of a run on one rank.

    The loss of an image is weighted as its timestep was drawn; gradients are those of the mean over the global batch.
    Second-moment timesteps learn from the unweighted losses at w, gathered from all ranks.

    The ascent of SAM takes the first of the descent's micro-batches, with the same dropout (`ascent_size`).

    Args:
        configuration: of the run.
        network: on the ranks' device, with the run's initial or resumed weights.
        ranks: among which the global batch is shared evenly.
        micro_batch: most images in one pass; None for all of the rank's at once.
        compiled: torch.compile the network's passes.
        compile_options: what torch.compile is given beside the network; its defaults otherwise.

    Attributes:
        network: as given.
        process: the configuration's.
        timesteps: how timesteps are drawn.
        sam: the optimizer; with methods without SAM its radius is 0, the plain optimizer.
        noise: moves the weights of each step's one pass, with random weight perturbation; None with other methods.

    Raises:
        ValueError: the global batch cannot be shared evenly.
    """

    def __init__(
        self,
        configuration: Configuration,
        network: nn.Module,
        ranks: Ranks,
        micro_batch: int | None = None,
        compiled: bool = False,
        compile_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Set up passes and optimizer."""
        c = self.configuration = configuration
        check_shares(c.global_batch, ranks.world)
        self.network, self.ranks = network, ranks
        self.images = c.global_batch // ranks.world
        self.micro_batch = min(micro_batch or self.images, self.images)
        self.process = Process(c.process)
        second_moment = c.timestep_weights == "second-moment"
        self.timesteps: Timesteps = (SecondMomentTimesteps if second_moment else UniformTimesteps)(len(self.process))
        self._passes = _passes(network, ranks, compiled, compile_options or {})
        optimizer = torch.optim.AdamW(network.parameters(), lr=c.learning_rate, weight_decay=c.weight_decay, fused=True)
        self.noise: RandomWeightPerturbation | None = None
        if c.method == "rwp":
            self.noise = RandomWeightPerturbation(optimizer, sigma=c.noise_sigma, seed=c.seed)
        self.sam = SAM(
            optimizer,
            rho=c.sam.rho if c.perturbs_weights else 0.0,
            adaptive=c.sam.adaptive,
            schedule=sam_schedule(c.sam, c.steps),
            gradients=c.sam.ascent_gradients,
            model=self._passes,
            same_randomness=False,  # dropout is seeded before every pass, the same in both
        )

    def __call__(self, step: int, pixels: Tensor, asks: Callable[[], int] = int) -> StepLosses:
        """Make a step, counted from 0, with the rank's share of its images.

        Args:
            step: each once and in order.
            pixels: (n, C, H, W), uint8.
            asked: gives a small whole number once the passes have been made; all ranks are told the largest.

        Raises:
            FloatingPointError: a gradient (the weights are then as before) or a loss is not finite; on all ranks alike.
        """
        c = self.configuration
        shape = (c.global_batch, *pixels.shape[1:])
        draws = drawn(self.timesteps, shape, c.noise_strength, self.ranks.device, c.seed, step)
        batch = self._batch(pixels, draws)
        due = self.sam.due
        ascent = ascent_size(c.sam.ascent_share, self.images, self.micro_batch) if due else self.images
        parts = micro_batches(self.images, self.micro_batch, ascent)
        self.sam.zero_grad()
        with self.sam.first_pass() if self.noise is None else self.noise.perturbed(step):
            losses = self._accumulate(step, batch, [part for part in parts if part[1] <= ascent])
        perturbed = losses.new_zeros(())
        if due:
            with self.sam.perturbed():
                perturbed = (self._accumulate(step, batch, parts)[:, 0] * batch.weights).mean()
        row = torch.cat([losses.flatten(), perturbed[None], torch.full_like(perturbed, asks())[None]])
        # On its way before the optimizer's kernels, so that reading it waits for none of them
        host = Host(self.ranks.gathered(row[None]))
        self.sam.step()
        return self._learned(host.read(), draws, ascent, due)

    def _batch(self, pixels: Tensor, draws: Draws) -> _Batch:
        device = self.ranks.device
        share = slice(self.ranks.rank * self.images, (self.ranks.rank + 1) * self.images)
        x_0 = to_float(pixels).contiguous(memory_format=torch.channels_last)
        t = draws.t[share].to(device, non_blocking=True)
        weights = draws.weights[share].to(device, non_blocking=True)
        x_t = self.process.q_sample(x_0, t, draws.input_noise[share])
        return _Batch(x_0, x_t, t, draws.noise[share], weights)

    def _accumulate(self, step: int, batch: _Batch, parts: Sequence[tuple[int, int]]) -> Tensor:
        """Backward over these micro-batches, from 0 on; (loss, mse, vb) of each of their n images, (n, 3), detached."""
        device = self.ranks.device
        rows = []
        for index, (begin, end) in enumerate(parts):
            part = batch.part(begin, end)
            seed_dropout(device, self.configuration.seed, self.ranks.rank, step, index)
            with self._unsynchronized(index < len(parts) - 1):
                with torch.autocast(device.type, torch.bfloat16, enabled=self.configuration.precision == "bfloat16"):
                    output = self._passes(part.x_t, self.process.network_timesteps(part.t))
                losses = self.process.losses(output.float(), part.x_0, part.x_t, part.t, part.noise)
                ((losses.loss * part.weights).sum() / parts[-1][1]).backward()
            rows.append(torch.stack(losses, dim=1).detach())
        return torch.cat(rows)

    def _unsynchronized(self, holds_back: bool) -> contextlib.AbstractContextManager[None]:
        if holds_back and isinstance(self._passes, DistributedDataParallel):
            return self._passes.no_sync()
        return contextlib.nullcontext()

    def _learned(self, rows: Tensor, draws: Draws, ascent: int, due: bool) -> StepLosses:
        """What all ranks (world, 3 n + 2) report, after the timesteps' history has taken it in."""
        if not bool(torch.isfinite(rows).all()):
            raise FloatingPointError("a loss is not finite")
        losses = rows[:, :-2].reshape(-1, 3)
        t, weights = (d.view(self.ranks.world, self.images)[:, :ascent].reshape(-1) for d in (draws.t, draws.weights))
        self.timesteps.update(t, losses[:, 0])
        loss, mse, vb = (losses.double() * weights.double()[:, None]).mean(0).tolist()
        perturbed = float(rows[:, -2].double().mean()) if due else None
        return StepLosses(loss, mse, vb, perturbed, int(rows[:, -1].max()))


def _passes(network: nn.Module, ranks: Ranks, compiled: bool, compile_options: Mapping[str, Any]) -> nn.Module:
    """The module that is called: the network, compiled or not, averaged over ranks or not; weights are shared."""
    module: nn.Module = torch.compile(network, **compile_options) if compiled else network  # type: ignore[assignment]
    if ranks.world == 1:
        return module
    devices = [ranks.device] if ranks.device.type == "cuda" else None
    # The network's only buffer is a constant; later versions of torch have renamed the option
    renamed = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    option = {"forward_sync_buffers" if renamed else "broadcast_buffers": False}
    return DistributedDataParallel(module, device_ids=devices, **option)  # type: ignore[arg-type]
