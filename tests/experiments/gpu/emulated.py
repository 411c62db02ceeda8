"""An accelerator without one: meta tensors pass for those of a device, and a mode watches what is done with them.

The meta device computes shapes alone. `EmulatedDevice` answers where a program reads a value (with ones), counts those
reads, refuses operations that mix the device's tensors with the CPU's, notes tensors that are made on the CPU, and
follows how many bytes the device's tensors hold. `emulation` makes torch's own functions accept the device where they
know CUDA by name: generators, autocast, fused Adam.
"""

import contextlib
import functools
import sys
import types
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.fsdp  # what torch imports late reads the attributes that are changed here
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = torch.device("meta")
ROOT = Path(__file__).parents[3]
OURS = ("flatness", "experiments")
aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}


class WrongDeviceError(AssertionError):
    """An operation has tensors of two devices."""


class EmulatedDevice(TorchDispatchMode):
    """The watch.

    Attributes:
        waits: places that read a value of the device, each with how often.
        transfers: bytes that were copied to the device.
        made_on_cpu: places that made a tensor of several numbers on the CPU out of nothing.
        held, peak: bytes of the device's tensors now, and at most.
    """

    def __init__(self) -> None:
        """Nothing has been seen."""
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.made_on_cpu: Counter[str] = Counter()
        self.transfers = self.held = self.peak = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry an operation out, or answer in its place."""
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_device = [t for t in given if t.device.type == "meta"]
        on_cpu = [t for t in given if t.device.type == "cpu" and t.dim()]
        if func is aten._local_scalar_dense.default and on_device:
            self.waits[place()] += 1
            dtype = given[0].dtype
            return True if dtype is torch.bool else 1.0 if dtype.is_floating_point else 1
        if func is aten.equal.default and on_device:
            self.waits[place()] += 1
            return True
        if func in COPIES:
            return self._copied(func, args, kwargs, given)
        if on_device and on_cpu:
            raise WrongDeviceError(f"{func} has tensors of the device and of the CPU at {place()}")
        result = func(*args, **kwargs)
        self._follow(result)
        made = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        if not given and any(t.device.type == "cpu" and t.numel() > 1 for t in made):
            self.made_on_cpu[place()] += 1
        return result

    def _copied(self, func: Any, args: Any, kwargs: Any, given: list[Tensor]) -> Any:
        target = args[0].device if func is aten.copy_.default else kwargs.get("device") or given[0].device
        source = given[-1]
        if source.device.type == "meta" and torch.device(target).type == "cpu":
            self.waits[place()] += 1
            if func is aten.copy_.default:
                return args[0].fill_(1)
            return torch.ones(source.shape, dtype=kwargs.get("dtype") or source.dtype)
        if source.device.type == "cpu" and torch.device(target).type == "meta":
            self.transfers += source.numel() * source.element_size()
        result = func(*args, **kwargs)
        self._follow(result)
        return result

    def _follow(self, result: Any) -> None:
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.device.type == "meta":
                storage = tensor.untyped_storage()
                if storage not in self._seen:
                    self._seen.add(storage)
                    size = storage.nbytes()
                    self.held += size
                    self.peak = max(self.peak, self.held)
                    weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.held -= size


def place() -> str:
    """The innermost of our functions that is running: file, and the function's name."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in OURS:
            return f"{path.relative_to(ROOT)} {frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


def unfused(kind: Any, parameters: Any, *args: Any, fused: bool = False, **kwargs: Any) -> Any:
    """An optimizer of this kind, which is fused on CUDA alone."""
    return kind(parameters, *args, **kwargs)


@contextlib.contextmanager
def emulation() -> Iterator[EmulatedDevice]:
    """Within, the device is there."""
    generator, autocast, module, adamw = torch.Generator, torch.autocast, torch.get_device_module, torch.optim.AdamW

    class Generator(generator):  # type: ignore[misc, valid-type]
        """The CPU's, which says that it is the device's where it was made for that: random operations there draw
        nothing."""

        def __new__(cls, device: Any = "cpu") -> Any:
            """As torch's."""
            where = torch.device(device)
            made = super().__new__(cls, "cpu" if where.type == "meta" else where)
            made.where = where
            return made

        device = property(lambda self: self.where)

    def autocast_of(kind: str, *args: Any, **kwargs: Any) -> Any:
        return contextlib.nullcontext() if kind == "meta" else autocast(kind, *args, **kwargs)

    fake = types.SimpleNamespace(
        device=lambda device: contextlib.nullcontext(),
        manual_seed=lambda seed: None,
        get_rng_state=lambda device=None: b"",
        set_rng_state=lambda state, device=None: None,
    )

    def module_of(device: Any = None) -> Any:
        return fake if torch.device(device).type == "meta" else module(device)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "Generator", Generator)
        patch.setattr(torch, "autocast", autocast_of)
        patch.setattr(torch, "get_device_module", module_of)
        patch.setattr(torch.optim, "AdamW", functools.partial(unfused, adamw))
        patch.setattr(torch.Tensor, "is_meta", False, raising=False)  # measures refuse tensors without data
        with EmulatedDevice() as watch:
            yield watch
