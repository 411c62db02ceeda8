"""Networks from folders as diffusers' save_pretrained writes them: pipelines, bare networks, single files.

Which classes are read stands in `flatness.cli.families`. Weights are read as safetensors alone, classes are diffusers'
and transformers' own, taken from lists, and no code in the folder is run. What a folder is is looked at first, so that
nobody is asked for a file or an option before the class is known to be one that is read.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from flatness.cli.encoding import Encoder, bound, built_network, with_defaults
from flatness.cli.errors import CommandError
from flatness.cli.families import family_of_network, family_of_pipeline, networks, pipelines
from flatness.cli.families.contract import Configuration, Family
from flatness.cli.files import read_object
from flatness.cli.options import SourceOptions
from flatness.cli.schedulers import Training, check_scheduler, training_of, unknown_keys
from flatness.cli.stored_weights import coarse_types, refuse_adapter, stored_weights
from flatness.cli.subject import Encoding, Process, Shape, Subject, weights_hash
from flatness.diffusion.losses import DiffusionLoss
from flatness.diffusion.sampling import SamplingProcess, sampling_process
from flatness.optional_imports import diffusers_parameters

SCHEDULER = "scheduler_config.json"


def loaded_folder(path: Path, options: SourceOptions) -> Subject:
    """The network in a folder, or in a .safetensors beside its config.json, with its loss and process.

    Raises:
        CommandError: it is not one of those above, holds pickled weights, does not fit its weights, or leaves open how
            the network was trained.
    """
    index = read_object(path / "model_index.json")
    return _bare(path, options) if index is None else _pipeline(path, index)


def _pipeline(path: Path, index: dict[str, Any]) -> Subject:
    family = family_of_pipeline(index.get("_class_name"))
    if family is None:
        allowed = ", ".join(pipelines())
        raise CommandError(f"{path} is a {index.get('_class_name')}; allowed: {allowed}, or module:function")
    if family.part == "unet" and not family.autoencoder and "vqvae" in index:
        family = family_of_pipeline("LDMPipeline") or family
    _check_parts(path, index, family)
    configuration = _network_configuration(path / family.part, family)
    scheduler = read_object(path / "scheduler" / SCHEDULER)
    if scheduler is None:
        raise CommandError(f"{path} holds no scheduler/{SCHEDULER}; save the pipeline anew")
    check_scheduler(str(path), scheduler)
    autoencoder = _completed(path / family.autoencoder / "config.json") if family.autoencoder else None
    encoder = None
    if family.autoencoder:
        if autoencoder is None:
            raise CommandError(f"{path} holds no {family.autoencoder}/config.json; save the pipeline anew")
        inside, channels = autoencoder.get("latent_channels"), family.channels(configuration)
        if inside != channels:
            raise CommandError(f"{path}: the network takes {channels} channels, its autoencoder makes {inside}")
        encoder = Encoder(path, index, family, autoencoder)
    return _subject(path, path / family.part, family, configuration, scheduler, index, encoder, frozenset())


def _bare(path: Path, options: SourceOptions) -> Subject:
    """A network without a pipeline."""
    folder = path.parent if path.is_file() else path
    configuration = read_object(folder / "config.json")
    if configuration is None:
        refuse_adapter(folder)
        if path.is_file():
            raise CommandError(f"{path} lies beside no config.json, which says what network it is")
        raise CommandError(f"{path} is not a model: it holds neither model_index.json nor config.json")
    configuration = with_defaults(configuration)
    family = family_of_network(configuration.get("_class_name"))
    if family is None:
        refuse_adapter(folder)
        allowed = ", ".join(networks())
        raise CommandError(
            f"{path} is a {configuration.get('_class_name')}; allowed: {allowed}, or module:function for any other"
        )
    if family.captioned:
        raise CommandError(
            f"{path} is a {configuration['_class_name']}, which is given captions: name the pipeline's folder, whose "
            "text encoders make embeddings of them, and not its part"
        )
    why = family.refusal(configuration)
    if why:
        raise CommandError(f"{path} is not read: {why}; allowed: module:function")
    stored_weights(path)
    scheduler = read_object(folder / SCHEDULER)
    applied: frozenset[str] = frozenset()
    if scheduler is None:
        scheduler, applied = _given_scheduler(path, options)
    check_scheduler(str(path), scheduler)
    return _subject(path, path, family, configuration, scheduler, {}, None, applied)


def _check_parts(path: Path, index: Mapping[str, Any], family: Family) -> None:
    """Raise for a part of another library or class than the family's."""
    wanted = {family.part: family.networks, **family.parts}
    for name, classes in wanted.items():
        entry = index.get(name)
        if entry in (None, [None, None]) and name not in (family.part, family.autoencoder):
            continue
        library = "transformers" if name.startswith(("text_encoder", "tokenizer")) else "diffusers"
        if not isinstance(entry, list) or len(entry) != 2 or entry[0] != library or entry[1] not in classes:
            what = "the network" if name == family.part else f"the part {name}"
            allowed = f"{library}' {' or '.join(classes)}, or module:function"
            raise CommandError(f"{path} has {what} {entry}; allowed: {allowed}")


def _completed(path: Path) -> dict[str, Any] | None:
    """A configuration with what it leaves out; None where there is no such file."""
    configuration = read_object(path)
    return None if configuration is None else with_defaults(configuration)


def _network_configuration(folder: Path, family: Family) -> dict[str, Any]:
    configuration = _completed(folder / "config.json")
    if configuration is None:
        raise CommandError(f"{folder} is not a model: it holds no config.json")
    if configuration.get("_class_name") not in family.networks:
        allowed = " or ".join(family.networks)
        raise CommandError(f"{folder} is a {configuration.get('_class_name')}; allowed: {allowed}, or module:function")
    why = family.refusal(configuration)
    if why:
        raise CommandError(f"{folder} is not read: {why}; allowed: module:function")
    return configuration


def _given_scheduler(path: Path, options: SourceOptions) -> tuple[dict[str, Any], frozenset[str]]:
    """The scheduler that options describe, and their names."""
    if options.prediction is None or options.schedule is None:
        raise CommandError(
            f"{path} holds a network without a scheduler: say how it was trained, as in --prediction epsilon "
            "--schedule linear, or give the pipeline's folder"
        )
    betas = (options.beta_start, options.beta_end)
    if options.schedule == "squaredcos_cap_v2" and betas != (None, None):
        raise CommandError("--beta-start and --beta-end are not of --schedule squaredcos_cap_v2, which has no betas")
    if options.schedule == "scaled_linear" and None in betas:
        raise CommandError(
            "--schedule scaled_linear has no usual betas: say --beta-start and --beta-end (Stable Diffusion's are "
            "0.00085 and 0.012)"
        )
    given = {
        "num_train_timesteps": options.train_steps, "beta_schedule": options.schedule,
        "prediction_type": options.prediction, "beta_start": options.beta_start, "beta_end": options.beta_end,
    }  # fmt: skip
    settings = {name: value for name, value in given.items() if value is not None}
    names = ("prediction", "schedule", "train_steps", "beta_start", "beta_end")
    return {"_class_name": "DDPMScheduler", **settings}, frozenset(n for n in names if getattr(options, n) is not None)


def _subject(
    path: Path,
    weights: Path,
    family: Family,
    configuration: Configuration,
    scheduler: Configuration,
    index: Configuration,
    encoder: Encoder | None,
    applied: frozenset[str],
) -> Subject:
    latents = _sample_shape(family, configuration)
    network = built_network(family.networks[0], configuration, weights, weights)

    def trained(shape: Shape | None) -> Training:
        tokens = None if shape is None else family.tokens(*shape[1:])
        return training_of(str(path), scheduler, family.call(configuration), tokens)

    def process_of(training: Training, loss: DiffusionLoss) -> Process | None:
        return None if training.no_process else functools.partial(_process, network, training, loss)

    def rebound(shape: Shape, rows: Mapping[str, Tensor]) -> tuple[DiffusionLoss, Process | None]:
        training = trained(shape)
        loss = bound(training.loss, rows) if rows else training.loss
        return loss, process_of(training, loss)

    training, stored = trained(latents), stored_weights(weights)
    about: dict[str, Any] = {
        "kind": "diffusers",
        "source": path.name,
        "pipeline": index.get("_class_name"),
        "model": type(network).__name__,
        "files": [file.name for file in stored.files],
        "scheduler": training.scheduler,
        "loss": training.loss.settings(),
        "sha256": weights_hash(network),
    }
    kinds = (type(network).__name__, str(configuration["_class_name"]))  # which may be an older name
    known = [key for kind in kinds for key in diffusers_parameters(kind)]
    remarks = (*training.remarks, *unknown_keys("its network's", configuration, known))
    coarse = coarse_types(stored)
    if stored.variant or coarse:
        origin = f"those of the variant {stored.variant}" if stored.variant else f"stored as {', '.join(coarse)}"
        remarks = (*remarks, f"its weights are {origin}, measured in float32")
    shape = latents
    if encoder is not None and latents is not None:
        shape = (3, *(side * encoder.factor for side in latents[1:]))
    return Subject(
        label=path.name.removesuffix(".safetensors"),
        model=network,
        loss=training.loss,
        shape=shape,
        process=process_of(training, training.loss),
        no_process=training.no_process,
        about=about,
        classes=family.classes(configuration, index),
        applied=applied,
        encoding=None if encoder is None else Encoding(encoder, rebound, latents, family.multiple * encoder.factor),
        remarks=remarks,
    )


def _sample_shape(family: Family, configuration: Configuration) -> Shape | None:
    size = configuration.get("sample_size", family.default_size)
    if size is None:
        return None
    sides = [size, size] if isinstance(size, int) else size
    if not isinstance(sides, list | tuple) or len(sides) != 2 or not all(type(n) is int and n > 0 for n in sides):
        raise CommandError(f"sample_size is {size!r} in the network's configuration; allowed: a whole number, or two")
    height, width = sides
    return (family.channels(configuration), height, width)


def _process(network: nn.Module, training: Training, loss: DiffusionLoss, labels: Tensor | None) -> SamplingProcess:
    own = labels if loss.call.labels is not None else None
    return sampling_process(network, loss, labels=own, variance=training.variance, clip=training.clip)
