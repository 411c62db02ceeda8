"""Weights in safetensors, held against the network they are for: each tensor once and in its shape, or it is said.

Names may carry what wrappers put before them or into them (data-parallel's `module.`, torch.compile's `_orig_mod.`,
FSDP's and activation checkpointing's, the `model.` of a trainer's module), and the names that attention had in
diffusers' first releases. A file in parts is read by its index; a variant (`.fp16.`) where it is all there is. Adapters
are no networks, and quantised weights no weights of these networks: they are refused by name. Pickled weights are never
read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flatness.cli.errors import INSTEAD, CommandError, out_of_memory, text_of

NAME = "diffusion_pytorch_model"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
PREFIXES = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "model.")
WRAPPERS = re.compile(r"(^|\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What torch's wrappers of parts put within a name."""
FULL = ("F32", "F64")
"""Floats that are no coarser than those that are measured."""
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""What diffusers called the projections of an attention before 0.15."""
ADAPTER = re.compile(r"lora_|\.lora\.|base_layer|_lora\.|hada_|lokr_|\.alpha$|adapter")
SHOWN = 4


@dataclass(frozen=True)
class Stored:
    """The files of a network's weights.

    Attributes:
        files: in the order of the index.
        variant: "fp16" or the like, "" for the plain files.
    """

    files: tuple[Path, ...]
    variant: str = ""


def stored_weights(place: Path) -> Stored:
    """The safetensors in a folder, or a single file.

    Raises:
        CommandError: there are none, they are pickled, those of an adapter, or several variants without a plain one.
    """
    if place.is_file():
        return Stored((place,))
    refuse_adapter(place)
    variants = _variants(place)
    if "" in variants:
        return Stored(variants[""])
    if len(variants) == 1:
        ((variant, files),) = variants.items()
        return Stored(files, variant)
    if variants:
        raise CommandError(f"{place} holds the variants {', '.join(sorted(variants))} and no plain weights: keep one")
    pickled = sorted(path for path in place.glob("*") if path.suffix in PICKLED)
    if pickled:
        raise CommandError(f"{pickled[0]} {INSTEAD}")
    others = sorted(place.glob("*.safetensors"))
    if others:
        raise CommandError(f"{place} holds {others[0].name}; expected: {NAME}.safetensors. Name the file itself")
    raise CommandError(f"{place} holds no weights: {NAME}.safetensors is missing")


def refuse_adapter(place: Path) -> None:
    """Raise for the folder of an adapter.

    Raises:
        CommandError: it is one.
    """
    adapter = next((f for f in ("adapter_config.json", "pytorch_lora_weights.safetensors") if (place / f).exists()), "")
    if adapter:
        raise CommandError(
            f"{place} holds {adapter}: an adapter (LoRA), not a network; merge it into its network (fuse_lora, or "
            "merge_and_unload) and save that"
        )


def _variants(place: Path) -> dict[str, tuple[Path, ...]]:
    """Files by variant, of one file or of an index with its parts."""
    files_of: dict[str, tuple[Path, ...]] = {}
    for path in sorted(place.glob(f"{NAME}.*")):
        words = path.name.removeprefix(f"{NAME}.")
        whole = re.fullmatch(r"(?:(\w+)\.)?safetensors", words)
        index = re.fullmatch(r"safetensors\.index\.(?:(\w+)\.)?json", words)
        if whole:
            files_of[whole[1] or ""] = (path,)
        elif index and (index[1] or "") not in files_of:
            files_of[index[1] or ""] = _parts(path)
    return files_of


def _parts(index: Path) -> tuple[Path, ...]:
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CommandError(f"{index} is no index of weights: {error}") from error
    files = tuple(index.parent / str(name) for name in names)
    missing = [file.name for file in files if not file.is_file()]
    if missing or any(file.parent != index.parent for file in files):
        raise CommandError(
            f"{index} names {', '.join(missing) or 'files elsewhere'}, not there: an unfinished download?"
        )
    return files


def load_stored(network: nn.Module, stored: Stored, label: str) -> None:
    """Write the stored weights into a network, tensor by tensor, in the network's own types.

    Args:
        network: built from its configuration.
        stored: the files.
        label: where they are, for messages.

    Raises:
        CommandError: a tensor is missing, one too many, of another shape, or not a number; or it is an adapter's.
    """
    own = network.state_dict()
    seen: set[str] = set()
    unexpected: list[str] = []
    mismatched: list[str] = []
    for name, tensor in _tensors(stored, set(own), label):
        there = own.get(name)
        if there is None:
            unexpected.append(name)
        elif there.shape != tensor.shape and not _is_linear_of_convolution(there, tensor):
            mismatched.append(f"{name} {tuple(tensor.shape)} for {tuple(there.shape)}")
        else:
            if there.is_floating_point() != tensor.is_floating_point():
                raise CommandError(f"{label} holds {name} as {tensor.dtype}: quantised weights, which are not read")
            with torch.no_grad():
                there.copy_(tensor.reshape(there.shape))
            seen.add(name)
    missing = [name for name in own if name not in seen and not _shares_memory(own, name, seen)]
    if any(ADAPTER.search(name) for name in unexpected):
        raise CommandError(
            f"{label} holds an adapter's tensors ({_few(unexpected)}): merge it into its network and save that"
        )
    problems = [("missing", missing), ("unexpected", unexpected), ("of another shape", mismatched)]
    misfits = [f"{len(names)} {words} ({_few(names)})" for words, names in problems if names]
    if misfits:
        raise CommandError(f"{label} does not fit the network of its configuration: tensors {'; '.join(misfits)}")


def coarse_types(stored: Stored) -> list[str]:
    """The types of floats in the files that are coarser than float32, as safetensors calls them: F16, BF16, F8_E4M3."""
    from safetensors import safe_open

    types = set()
    for path in stored.files:
        with safe_open(path, framework="pt") as file:
            types |= {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118  not a dictionary
    return sorted(name for name in types if "F" in name and name not in FULL)


def _tensors(stored: Stored, own: set[str], label: str) -> Iterator[tuple[str, Tensor]]:
    """All tensors under the network's names, each once."""
    from safetensors import SafetensorError, safe_open

    seen: set[str] = set()
    for path in stored.files:
        try:
            with safe_open(path, framework="pt") as file:
                names = list(file.keys())
                rename = _renaming(names, own)
                for key in names:
                    name = rename(key)
                    if name in seen:
                        raise CommandError(f"{label} holds {name} twice")
                    seen.add(name)
                    yield name, file.get_tensor(key)
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            if isinstance(error, CommandError) or out_of_memory(error):
                raise
            reason = text_of(error)[:200]
            raise CommandError(f"{path} cannot be loaded, not whole safetensors: {reason}") from error


def _renaming(names: list[str], own: set[str]) -> Any:
    """A function from a file's names to the network's."""
    prefixes = ""
    while True:
        more = next((p for p in PREFIXES if all(n.startswith(prefixes + p) for n in names)), None)
        if more is None or all(name in own for name in names):
            break
        prefixes += more

    def rename(name: str) -> str:
        bare = name.removeprefix(prefixes)
        bare = WRAPPERS.sub(r"\1", bare) if bare not in own else bare
        if bare in own:
            return bare
        parts = bare.split(".")
        old = OLD_ATTENTION.get(parts[-2]) if len(parts) > 2 else None
        renamed = ".".join([*parts[:-2], old, parts[-1]]) if old else bare
        return renamed if renamed in own else bare

    return rename


def _is_linear_of_convolution(there: Tensor, tensor: Tensor) -> bool:
    """Whether a weight is a convolution's of size 1 where the network has a linear layer, or the other way round."""
    a, b = (there, tensor) if there.dim() > tensor.dim() else (tensor, there)
    return b.dim() == 2 and a.dim() == 4 and a.shape[:2] == b.shape and a.shape[2:] == (1, 1)


def _shares_memory(own: Mapping[str, Tensor], name: str, seen: set[str]) -> bool:
    """Whether a tensor is one that was loaded under another name, as safetensors writes shared ones once."""
    place = own[name].data_ptr()
    return bool(place) and any(own[other].data_ptr() == place and own[other].shape == own[name].shape for other in seen)


def _few(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
