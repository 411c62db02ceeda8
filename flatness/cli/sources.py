"""What SOURCE may be: a folder as diffusers' save_pretrained writes it, a file, a model of the hub, or module:function.

A folder is a pipeline's of one of the families (`flatness.cli.families`), or a network's alone; a file is a
.safetensors beside its config.json; owner/name is a model in the local cache of the hub, which alone is looked in.

`module:function` names a function without arguments, in a module that Python finds from the current folder or among
installed packages. Importing it runs its code: name only what you trust. It returns (model, loss) or
(model, loss, process):

    model     a torch.nn.Module with its weights, on the CPU
    loss      loss(model, batch) -> the losses of the batch's samples (n,). One of flatness.epsilon_loss, x_0_loss,
              v_loss, flow_loss, edm_loss, sit_loss and edm2_loss, or a function of your own. A batch is a
              flatness.Batch: x_0 (n, ...) and labels (n, ...) or None from --data; noise, of x_0's shape, and u (n,)
              within (0, 1), from which to take noise and times, so that all measures and models see the same. What is
              drawn from torch's generators instead is a function of (seed, index of the batch)
    process   a flatness.SamplingProcess, for exposure bias. For a loss of this package it may be left out, and is
              then sampling_process(model, loss): the small variance, and x_0 not clipped

What the function, the model or the loss raises before anything is measured is shown where it was raised, and then in a
line; what they raise later costs the measures that it is raised in.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from flatness.cli.errors import INSTEAD, CommandError, MissingPackageError, from_their_code
from flatness.cli.options import SourceOptions
from flatness.cli.stored_weights import PICKLED
from flatness.cli.subject import Subject, weights_hash
from flatness.diffusion.losses import DiffusionLoss
from flatness.diffusion.sampling import EpsilonModel, SamplingProcess, sampling_process

ALLOWED = "SOURCE is a diffusers folder, a .safetensors beside its config.json, a hub id or module:function"


def loaded(source: str, options: SourceOptions) -> Subject:
    """The network that a source names, with its loss.

    Raises:
        CommandError: it is none of these, cannot be loaded, or leaves open how it was trained.
    """
    path = Path(source)
    if path.is_dir():
        from flatness.cli.diffusers_folder import loaded_folder

        return loaded_folder(path, options)
    if path.is_file():
        if path.suffix in PICKLED:
            raise CommandError(f"{source} {INSTEAD}")
        if path.suffix == ".safetensors":
            from flatness.cli.diffusers_folder import loaded_folder

            return loaded_folder(path, options)
        raise CommandError(f"{source} is a file; {ALLOWED}")
    if is_hub_id(source):
        from flatness.cli.diffusers_folder import loaded_folder

        return dataclasses.replace(loaded_folder(cached(source), options), label=source)
    module, colon, name = source.partition(":")
    if not colon or not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise CommandError(f"{source} does not exist; {ALLOWED}")
    return _from_function(source, module, name)


def _from_function(source: str, module: str, name: str) -> Subject:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        loaded_module = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and (module == missing or module.startswith(f"{missing}.")):
            raise CommandError(f"{source}: there is no module {missing} here or among installed packages") from error
        raise from_their_code(f"{source}: module {module} cannot be imported", error) from error
    if not hasattr(loaded_module, name):
        raise CommandError(f"{source}: module {module} has no {name}")
    function = getattr(loaded_module, name)
    if not _takes_nothing(function):
        raise CommandError(f"{source} is no function without arguments; allowed: a function that returns (model, loss)")
    try:
        returned = function()
    except (Exception, SystemExit) as error:
        raise from_their_code(f"{source} raised an error", error) from error
    return subject_of(source, returned)


def _takes_nothing(function: object) -> bool:
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind()
    except TypeError:
        return False
    except ValueError:  # of a kind whose arguments cannot be told
        return True
    return True


def subject_of(source: str, returned: Any) -> Subject:
    """The subject that a function's (model, loss) or (model, loss, process) stands for.

    Raises:
        CommandError: it is something else.
    """
    parts = returned if isinstance(returned, tuple) else (returned,)
    allowed = "allowed: (model, loss) or (model, loss, process), a torch module, a function and a SamplingProcess"
    if len(parts) not in (2, 3) or not isinstance(parts[0], nn.Module) or not callable(parts[1]):
        kinds = ", ".join(type(part).__name__ for part in parts)
        raise CommandError(f"{source} returned ({kinds}); {allowed}")
    model, loss = parts[:2]
    process, why = None, "the source gives no process"
    if len(parts) == 3 and parts[2] is not None:
        if not isinstance(parts[2], SamplingProcess):
            raise CommandError(f"{source} returned a process of type {type(parts[2]).__name__}; {allowed}")
        process = functools.partial(_with_labels, parts[2])
    elif isinstance(loss, DiffusionLoss):
        process, why = functools.partial(_own_process, model, loss), ""
    about: dict[str, Any] = {"kind": "function", "source": source, "model": type(model).__name__}
    about["loss"] = loss.settings() if isinstance(loss, DiffusionLoss) else getattr(loss, "__qualname__", repr(loss))
    about["sha256"] = weights_hash(model)
    return Subject(source.rpartition(":")[2], model, loss, None, process, why, about)


def _with_labels(process: SamplingProcess, labels: Tensor | None) -> SamplingProcess:
    if isinstance(process.epsilon_model, EpsilonModel) and process.epsilon_model.labels is None:
        process.epsilon_model.labels = labels
    return process


def _own_process(model: nn.Module, loss: DiffusionLoss, labels: Tensor | None) -> SamplingProcess:
    return sampling_process(model, loss, labels=labels if loss.call.labels is not None else None)


NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def is_hub_id(source: str) -> bool:
    """Whether a source looks like owner/name, or owner/name@revision."""
    return NAME.fullmatch(source) is not None


def cached(source: str) -> Path:
    """The folder of a model in the local cache.

    Args:
        source: owner/name, or owner/name@revision.

    Raises:
        CommandError: it is not there; MissingPackageError: huggingface_hub is missing.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingPackageError("a model of the hub", "huggingface_hub", "'flatness[diffusers]'") from error
    name, _, revision = source.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, local_files_only=True))
    except Exception as error:  # of many kinds, for what is not there
        how = f"hf download {name}" + (f" --revision {revision}" if revision else "")
        raise CommandError(
            f"{source} does not exist here, nor is it in the local cache of the hub, which alone is looked in; "
            f"if it is a model of the hub, `{how}` fetches it"
        ) from error
