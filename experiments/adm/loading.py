"""Weights from files: public ADM checkpoints (.pt), and safetensors, ours among them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from flatness import arguments

WEIGHTS_FILE = "weights.safetensors"
SHOWN = 10


class CheckpointMismatchError(ValueError):
    """A state_dict does not fit a model.

    Attributes:
        missing: the model's entries that it lacks.
        unexpected: its entries that the model does not have.
        shapes: entry -> (shape in the file, shape in the model), where these differ.
    """

    def __init__(
        self,
        source: str,
        missing: list[str],
        unexpected: list[str],
        shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]],
    ) -> None:
        """Compose the message; long lists are cut."""
        self.missing, self.unexpected, self.shapes = missing, unexpected, shapes
        parts = [f"{source} does not fit the model; nothing was loaded."]
        parts += _listed("missing from the file", missing)
        parts += _listed("not in the model", unexpected)
        parts += _listed(
            "of another shape", [f"{k}: {a} in the file, {b} in the model" for k, (a, b) in shapes.items()]
        )
        super().__init__("\n".join(parts))


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors by name in a .safetensors file, a torch file, a checkpoint's or a run's directory, on the CPU.

    Of a run, the raw weights of the newest checkpoint. Torch files are read with weights_only, so nothing in them is
    executed.

    Raises:
        FileNotFoundError: there is no such file, or none with weights in the directory.
        ValueError: the file is damaged, or holds something else than tensors by name.
    """
    file = Path(path)
    if file.is_dir():
        newest = max(file.glob(f"checkpoints/step-*/{WEIGHTS_FILE}"), default=file / WEIGHTS_FILE)
        file = file / WEIGHTS_FILE if (file / WEIGHTS_FILE).is_file() else newest
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist; a checkpoint is a .pt or .safetensors file, or a run's directory"
        )
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as a checkpoint of tensors by name: {error}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        shown = type(state).__name__ if not isinstance(state, Mapping) else f"a mapping with {list(state)[:SHOWN]}"
        raise ValueError(f"{file} holds {shown}; allowed: tensors by name, as a state_dict is saved")
    return dict(state)


def load_checkpoint(path: str | os.PathLike[str], model: nn.Module) -> None:
    """Load a checkpoint's weights into the model, all or nothing.

    Args:
        path: see `read_state_dict`.
        model: takes the weights, converted to its own types, on its own device.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read; `CheckpointMismatchError`, a kind of it, where names or shapes do not fit.
    """
    load_state_dict(read_state_dict(path), model, source=str(path))


def load_state_dict(state: Mapping[str, Tensor], model: nn.Module, source: str = "the state_dict") -> None:
    """Load tensors by name into the model, all or nothing.

    Raises:
        CheckpointMismatchError: entries are missing, unexpected, or of another shape.
    """
    own = arguments.instance("model", model, nn.Module).state_dict()
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    pairs = {name: (tuple(state[name].shape), tuple(own[name].shape)) for name in own if name in state}
    shapes = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if missing or unexpected or shapes:
        raise CheckpointMismatchError(source, missing, unexpected, shapes)
    model.load_state_dict(dict(state))


def _listed(what: str, entries: list[str]) -> list[str]:
    """A heading with the number of entries, then the first of them; nothing where there are none."""
    if not entries:
        return []
    more = [f"  ... and {len(entries) - SHOWN} more"] if len(entries) > SHOWN else []
    return [f"{len(entries)} {what}:", *(f"  {entry}" for entry in entries[:SHOWN]), *more]
