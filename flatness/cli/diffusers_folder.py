"""Networks from folders as diffusers' save_pretrained writes them: a UNet2DModel, or a DDPM or DDIM pipeline.

Weights are read as safetensors alone, classes are diffusers' own, taken from a list, and no code in the folder is run.
Noise schedules are computed here from the scheduler's configuration.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flatness.cli.errors import INSTEAD, CommandError, MissingPackageError
from flatness.cli.options import SourceOptions
from flatness.cli.subject import Subject, weights_hash
from flatness.diffusion.losses import DiffusionLoss
from flatness.diffusion.noise_paths import DiscretePath
from flatness.diffusion.predictions import ModelCall
from flatness.diffusion.sampling import SamplingProcess, sampling_process
from flatness.optional_imports import imported_diffusers, why_not

NETWORKS = ("UNet2DModel",)
PIPELINES = ("DDPMPipeline", "DDIMPipeline")
SCHEDULERS = ("DDPMScheduler", "DDIMScheduler")
PREDICTIONS = {"epsilon": "epsilon", "sample": "x_0", "v_prediction": "v"}
VARIANCES = {
    "fixed_small": "small",
    "fixed_small_log": "small",
    "fixed_large": "large",
    "fixed_large_log": "large",
    "learned_range": "learned",
}
WEIGHTS = "diffusion_pytorch_model"


def loaded_folder(path: Path, options: SourceOptions) -> Subject:
    """The network in a folder, with its loss and process.

    Raises:
        CommandError: the folder is not one of those above, holds pickled weights, or leaves open how the network was
            trained.
    """
    index = _json(path / "model_index.json")
    if index is not None:
        _check_pipeline(path, index)
        folder, scheduler = path / "unet", _json(path / "scheduler" / "scheduler_config.json")
        if scheduler is None:
            raise CommandError(f"{path} holds no scheduler/scheduler_config.json; save the pipeline anew")
    else:
        folder, scheduler = path, _json(path / "scheduler_config.json") or _given_scheduler(path, options)
    network = _network(folder)
    loss, clip, variance = training_loss(path, scheduler, network, options)
    about = {
        "kind": "diffusers",
        "source": path.name,
        "model": type(network).__name__,
        "scheduler": {k: v for k, v in scheduler.items() if k in _SCHEDULE_KEYS},
        "loss": loss.settings(),
        "sha256": weights_hash(network),
    }
    why = ""
    if variance is None:
        why = f"its variance_type {scheduler.get('variance_type')!r} is not known here"
    elif bool((loss.path.coefficients(loss.path.grid())[0] == 0).any()):
        why = "its schedule ends without signal (rescale_betas_zero_snr)"
    process = functools.partial(_process, network, loss, clip, variance or "small")
    return Subject(path.name, network, loss, _shape(network), None if why else process, why, about)


_SCHEDULE_KEYS = (
    "_class_name", "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type", "clip_sample",
    "clip_sample_range", "variance_type", "rescale_betas_zero_snr", "_diffusers_version",
)  # fmt: skip


def _json(path: Path) -> dict[str, Any] | None:
    """A JSON file's object; None where there is no such file."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise CommandError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise CommandError(f"{path} holds {type(found).__name__}; allowed: an object")
    return found


def _check_pipeline(path: Path, index: dict[str, Any]) -> None:
    if index.get("_class_name") not in PIPELINES:
        raise CommandError(
            f"{path} is a {index.get('_class_name')}; allowed: {' or '.join(PIPELINES)}, or module:function"
        )
    unet = index.get("unet")
    if not isinstance(unet, list) or len(unet) != 2 or unet[0] != "diffusers":
        raise CommandError(f"{path} has the network {unet}; allowed: one of diffusers' own, or module:function")


def _given_scheduler(path: Path, options: SourceOptions) -> dict[str, Any]:
    if not (path / "config.json").is_file():
        raise CommandError(f"{path} is not a model: it holds neither model_index.json nor config.json")
    if options.prediction is None or options.schedule is None:
        raise CommandError(
            f"{path} holds a network without a scheduler: say how it was trained, as in --prediction epsilon "
            "--schedule linear, or give the pipeline's folder"
        )
    return {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": options.train_steps,
        "beta_schedule": options.schedule,
        "prediction_type": options.prediction,
    }


def _network(folder: Path) -> nn.Module:
    configuration = _json(folder / "config.json")
    if configuration is None:
        raise CommandError(f"{folder} is not a model: it holds no config.json")
    name = configuration.get("_class_name")
    if name not in NETWORKS:
        raise CommandError(f"{folder} is a {name}; allowed: {', '.join(NETWORKS)}, or module:function for any other")
    if not list(folder.glob("*.safetensors")):
        pickled = sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt"))
        if pickled:
            raise CommandError(f"{pickled[0]} {INSTEAD}")
        raise CommandError(f"{folder} holds no weights: {WEIGHTS}.safetensors is missing")
    diffusers = imported_diffusers()
    if diffusers is None:
        raise MissingPackageError("a diffusers folder", "diffusers", "'flatness[diffusers]'", why_not("diffusers"))
    try:
        network: nn.Module = getattr(diffusers, str(name)).from_pretrained(
            str(folder), use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
        )
    except Exception as error:  # of many kinds: safetensors', diffusers' and torch's own
        reason = " ".join(str(error).split())
        raise CommandError(f"{folder} cannot be loaded: {reason[:300]}") from error
    return network.float() if next(network.parameters()).dtype == torch.float16 else network


def _configuration(network: nn.Module) -> dict[str, Any]:
    return dict(network.config)  # type: ignore[arg-type]


def _shape(network: nn.Module) -> tuple[int, ...] | None:
    configuration = _configuration(network)
    size, channels = configuration.get("sample_size"), configuration["in_channels"]
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    return (channels, height, width)


def training_loss(
    path: Path, scheduler: dict[str, Any], network: nn.Module, options: SourceOptions
) -> tuple[DiffusionLoss, float | None, str | None]:
    """The loss that a scheduler's configuration stands for, how sampling clips x_0, and its variance.

    Raises:
        CommandError: it is of a kind that is not known.
    """
    diffusers = imported_diffusers()
    assert diffusers is not None  # the network has been loaded
    if scheduler.get("_class_name") not in SCHEDULERS:
        raise CommandError(f"{path} has a {scheduler.get('_class_name')}; allowed: {' or '.join(SCHEDULERS)}")
    prediction = options.prediction or scheduler.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise CommandError(f"{path} predicts {prediction!r}; allowed: {', '.join(PREDICTIONS)}")
    try:
        bars: Tensor = diffusers.DDPMScheduler.from_config(scheduler).alphas_cumprod
    except (NotImplementedError, ValueError, TypeError) as error:
        raise CommandError(f"{path} has a scheduler that cannot be built: {error}") from error
    configuration = _configuration(network)
    conditional = configuration.get("class_embed_type") or configuration.get("num_class_embeds")
    labels = options.labels or ("class_labels" if conditional else None)
    # a tuple comes back with return_dict=False: its first tensor is the output layer's own
    call = ModelCall(labels, {"return_dict": False})
    loss = DiffusionLoss(DiscretePath(bars), PREDICTIONS[prediction], None, call)
    clip = float(scheduler.get("clip_sample_range", 1.0)) if scheduler.get("clip_sample", True) else None
    return loss, clip, VARIANCES.get(scheduler.get("variance_type", "fixed_small"))


def _process(
    network: nn.Module, loss: DiffusionLoss, clip: float | None, variance: str, labels: Tensor | None
) -> SamplingProcess:
    own = labels if loss.call.labels is not None else None
    return sampling_process(network, loss, labels=own, variance=variance, clip=clip)
