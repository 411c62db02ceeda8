"""The state of a run in memory, to and from a checkpoint's contents."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from experiments.adm import ADM
from experiments.configuration import Configuration
from experiments.provenance import device_name, versions
from experiments.training.checkpoints import WEIGHTS, CheckpointError, Contents, shadow_file
from experiments.training.distributed import Ranks
from experiments.training.randomness import initialized_by
from experiments.training.step import TrainingStep
from findings.checksums import parse_object
from findings.provenance import commit
from flatness import SWA, PowerEMA, Shadows
from flatness.passes import tf32
from flatness.training.weight_averaging import Rule

OPTIMIZER = "optimizer.safetensors"
TIMESTEPS = "timesteps.safetensors"
MARGIN = 1 / 16
"""Share of a device's memory left free beside a checkpoint's copy: for gaps, and the copy that late SAM will keep."""


def initial_network(configuration: Configuration, device: torch.device) -> nn.Module:
    """The network before the first step: on the CPU a function of the seed, then moved; convolutions channels_last."""
    with initialized_by(configuration.seed):
        network = ADM(configuration.network)
    network = network.to(device).train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for parameter in network.parameters():
        if parameter.dim() == 4 and parameter.shape[2:] == (1, 1):
            # The same order in memory, but with the strides that its gradient has, which DDP compares
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    return network


def shadow_rules(configuration: Configuration) -> dict[str, Rule]:
    """The averages that every run carries, by name: ema, swa, and power-<width> for each width."""
    options = configuration.averages
    power: dict[str, Rule] = {f"power-{width:g}": PowerEMA.of_width(width) for width in options.power_widths}
    swa = SWA(start=round(options.swa_start * configuration.steps), cycle=options.swa_cycle)
    return {"ema": configuration.ema, "swa": swa, **power}


class TrainingState:
    """All that changes while a run trains.

    Args:
        configuration: of the run.
        ranks: rank 0 alone holds the averages.
        checkpoint: to continue from; a whole one of the same configuration. None for the beginning.
        micro_batch, compiled: as for `TrainingStep`.

    Attributes:
        step: how many have been made.
        network, stepper: what is trained and what trains it.
        shadows: the averages; None on other ranks than the first.
        resumed: what watchers had put into the checkpoint, by name.

    Raises:
        CheckpointError: the checkpoint's contents do not fit.
    """

    def __init__(
        self,
        configuration: Configuration,
        ranks: Ranks,
        checkpoint: Path | None = None,
        micro_batch: int | None = None,
        compiled: bool = False,
    ) -> None:
        """Build everything, and load the checkpoint into it."""
        self.configuration, self.ranks, self.step = configuration, ranks, 0
        self.resumed: dict[str, Any] = {}
        commit()  # asked now, as files may change while training goes on
        self.network = initial_network(configuration, ranks.device)
        # Before the stepper and the shadows are made, so that ranks begin alike and copies are of the right weights
        if checkpoint is not None:
            _load(checkpoint, lambda: self.network.load_state_dict(load_file(checkpoint / WEIGHTS)))
        self.stepper = TrainingStep(configuration, self.network, ranks, micro_batch, compiled)
        rules = shadow_rules(configuration)
        self.shadows = Shadows(self.network, rules) if ranks.first else None
        if checkpoint is not None:
            _load(checkpoint, lambda: self._restore(checkpoint))

    def contents(self, fingerprint: str, watched: Mapping[str, Any] | None = None) -> Contents:
        """A copy of everything, on the same device where it has room for it, otherwise on the CPU; on rank 0.

        The device may still be copying: wait for it before reading.

        Args:
            fingerprint: of the images.
            watched: what watchers put into it, by name.
        """
        assert self.shadows is not None
        averages = self.shadows.state_dict()["shadows"]
        averaged = {name: int(shadow["n_averaged"]) for name, shadow in averages.items()}
        tensors: dict[str, Mapping[str, Tensor]] = {
            WEIGHTS: self.network.state_dict(),
            OPTIMIZER: self._moments(),
            TIMESTEPS: self.stepper.timesteps.state_dict(),
        }
        for name, shadow in averages.items():
            if averaged[name]:
                inside = {key.removeprefix("module."): t for key, t in shadow.items() if key != "n_averaged"}
                tensors[shadow_file(name)] = inside
        state = {
            "step": self.step,
            "seed": self.configuration.seed,
            "averaged": averaged,
            "skipped": self.stepper.sam.skipped,
            "data": fingerprint,
            "device": device_name(self.ranks.device),
            "ranks": self.ranks.world,
            "tf32": tf32(),
            "versions": versions(),
            "commit": commit(),
            "watched": dict(watched or {}),
        }
        documents = {"configuration.json": self.configuration.to_dict(), "state.json": state}
        return Contents(self.step, _copied(tensors, self.ranks.device), documents)

    def _parameter_names(self) -> list[str]:
        """In the order in which the optimizer numbers them."""
        return [name for name, _ in self.network.named_parameters()]

    def _moments(self) -> dict[str, Tensor]:
        names, state = self._parameter_names(), self.stepper.sam.optimizer.state_dict()["state"]
        return {f"{names[i]}.{key}": tensor for i, entry in state.items() for key, tensor in entry.items()}

    def _restore(self, checkpoint: Path) -> None:
        state = parse_object((checkpoint / "state.json").read_bytes())
        self.step = int(state["step"])
        self.resumed = dict(state.get("watched", {}))  # not in those of older versions
        self._restore_optimizer(load_file(checkpoint / OPTIMIZER), int(state["skipped"]))
        self.stepper.timesteps.load_state_dict(load_file(checkpoint / TIMESTEPS))
        if self.shadows is None:
            return
        own = self.shadows.state_dict()
        for name, shadow in own["shadows"].items():
            count = int(state["averaged"][name])
            if count:
                stored = load_file(checkpoint / shadow_file(name))
                shadow.update({f"module.{key}": tensor for key, tensor in stored.items()})
            shadow["n_averaged"] = torch.tensor(count)
        self.shadows.load_state_dict({**own, "next_step": self.step})

    def _restore_optimizer(self, stored: Mapping[str, Tensor], skipped: int) -> None:
        sam = self.stepper.sam
        own, state = sam.state_dict(), {}
        for i, (name, parameter) in enumerate(self.network.named_parameters()):
            # The fused optimizer walks weights and moments alike in memory, so moments take the weights' layout
            moments = {
                key: torch.empty_like(parameter, requires_grad=False).copy_(stored[f"{name}.{key}"])
                for key in ("exp_avg", "exp_avg_sq")
            }
            state[i] = {"step": stored[f"{name}.step"], **moments}
        steps = {**own["sam"], "steps": self.step, "skipped": skipped}
        sam.load_state_dict({"state": state, "param_groups": own["param_groups"], "sam": steps})


def _load(checkpoint: Path, load: Callable[[], object]) -> None:
    try:
        load()
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{checkpoint} does not fit this configuration's state: {error!r}") from error


def has_room(device: torch.device, size: int) -> bool:
    """Whether a device can hold so many bytes more through whole steps: activations are not there between them."""
    if device.type != "cuda":
        return True
    free, total = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_reserved(device)
    # Either may be the larger: a peak that was given back to the device, or what steps need beyond their peak by gaps
    peak = max(held, torch.cuda.max_memory_allocated(device))
    return free + held - peak >= size + MARGIN * total


def _copied(files: Mapping[str, Mapping[str, Tensor]], device: torch.device) -> dict[str, dict[str, Tensor]]:
    """Copies that training does not move: on the device, which is quick, or where that lacks the room on the CPU."""
    size = sum(t.untyped_storage().nbytes() for of in files.values() for t in of.values())
    if has_room(device, size):
        with contextlib.suppress(torch.OutOfMemoryError):  # in pieces too small, or another process's by now
            return {name: {k: t.detach().clone() for k, t in of.items()} for name, of in files.items()}
    return {name: {k: _to_cpu(t.detach()) for k, t in of.items()} for name, of in files.items()}


def _to_cpu(tensor: Tensor) -> Tensor:
    """Into pinned memory, which a device copies to several times as fast; torch keeps it for the next checkpoint."""
    return torch.empty_like(tensor, device="cpu", pin_memory=torch.cuda.is_available()).copy_(tensor, non_blocking=True)
