"""Samples as a pipeline's network takes them: latents of its own autoencoder, embeddings of its own text encoders.

Each is made once, before anything is measured, with progress shown; autoencoder and text encoders are loaded for it and
let go. With --out what was made is kept in the folder `encoded` there, part by part under a digest of everything that
it depends on, so that an interrupted run goes on where it stopped and another run of the same data starts at once.

A latent is (z - shift) * scale (or, where the autoencoder has a mean and a deviation of each channel, of the
standardised z), as the autoencoder's configuration says, of one z drawn from the autoencoder's posterior with a seed of
its own: the same for a sample whatever the batch size.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flatness.cli.errors import CommandError, MissingPackageError, text_of
from flatness.cli.families.contract import IMAGE_SIZE, CaptionedCall, Configuration, Family
from flatness.cli.files import read_object, write_whole
from flatness.cli.stored_weights import load_stored, stored_weights
from flatness.diffusion.losses import DiffusionLoss
from flatness.optional_imports import diffusers_parameters, imported_diffusers, quiet, why_not
from flatness.weights import derived_seed

CHUNK = 4
"""Images encoded at a time."""
CAPTIONS = 8
"""Captions encoded at a time."""


@dataclass(frozen=True)
class Samples:
    """What the data give.

    Attributes:
        x: (n, ...), images, or latents where `latents` says so.
        labels: (n, ...) or None.
        captions: n of them, or None.
        embeddings: (n, ...) by name.
        latents: None for images; "scaled" or "raw".
    """

    x: Tensor
    labels: Tensor | None = None
    captions: list[str] | None = None
    embeddings: Mapping[str, Tensor] = field(default_factory=dict)
    latents: str | None = None


@dataclass(frozen=True)
class Encoder:
    """The parts of a pipeline's folder that encode.

    Attributes:
        folder: of the pipeline.
        index: its model_index.json.
        family: of the network.
        autoencoder: its configuration; None for a network of pixels.
    """

    folder: Path
    index: Configuration
    family: Family
    autoencoder: Configuration | None = None

    @property
    def factor(self) -> int:
        """Pixels a latent pixel."""
        assert self.autoencoder is not None
        return self.family.factor(self.autoencoder)

    def encoded(
        self, samples: Samples, device: torch.device, seed: int, keep: Path | None, advance: Callable[[int], None]
    ) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """x (n, ...) and labels as the network takes them, and the rows of embeddings by name.

        Args:
            samples: the data.
            device: where encoders are put.
            seed: of the posterior's draws.
            keep: folder of what is kept, or None.
            advance: told of images encoded.

        Raises:
            CommandError: captions are missing, or a part of the pipeline cannot be loaded.
        """
        rows, labels = self._rows(samples, device, keep)
        x = self._latents(samples, device, seed, keep, advance)
        if self.family.captioned:
            factor = self.factor if self.autoencoder is not None else 1
            size = torch.tensor([float(factor * side) for side in x.shape[2:]])
            rows[IMAGE_SIZE] = size.repeat(len(next(iter(rows.values()))), 1)
        return x, labels, rows

    # Latents

    def _latents(
        self, samples: Samples, device: torch.device, seed: int, keep: Path | None, advance: Callable[[int], None]
    ) -> Tensor:
        if self.autoencoder is None or samples.latents == "scaled":
            return samples.x
        if samples.latents == "raw":
            return scaled_latents(samples.x, self.autoencoder)
        name = self.family.autoencoder
        part = self.folder / name
        stamp = _stamp(part)
        model: nn.Module | None = None
        encoded = []
        for begin in range(0, len(samples.x), CHUNK):
            images = samples.x[begin : begin + CHUNK]
            path = _kept(keep, "latents", stamp, seed, begin, str(images.shape), _digest(images))
            latents = _read(path)
            if latents is None:
                if model is None:
                    model = diffusers_part(part, self.family.parts[name]).to(device).eval()
                noise = [_noise(seed, begin + index) for index in range(len(images))]
                z = _posterior(model, images.to(device), noise)
                latents = {"latents": scaled_latents(z, self.autoencoder).cpu()}
                _write(path, latents)
            encoded.append(latents["latents"])
            advance(len(images))
        # as what is read from a file lies, since kernels, and so last bits, depend on where entries lie
        return torch.cat(encoded).contiguous()

    # Captions

    def _rows(
        self, samples: Samples, device: torch.device, keep: Path | None
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Rows by name, and which row is each sample's."""
        names = self.family.captioned
        if not names:
            return {}, samples.labels
        if all(name in samples.embeddings for name in names):
            return {name: samples.embeddings[name] for name in names}, torch.arange(len(samples.x))
        if samples.captions is None:
            some = (
                f"; the data hold {', '.join(samples.embeddings)} of {', '.join(names)}" if samples.embeddings else ""
            )
            raise CommandError(
                f"{self.folder} takes captions, and the data have none{some}: NAME.txt beside NAME.png, text in "
                'metadata.jsonl, captions in an .npz, or one for all, as in --caption ""'
            )
        distinct = list(dict.fromkeys(samples.captions))
        rows = self._embedded(distinct, device, keep)
        number = {caption: place for place, caption in enumerate(distinct)}
        return rows, torch.tensor([number[caption] for caption in samples.captions])

    def _embedded(self, captions: list[str], device: torch.device, keep: Path | None) -> dict[str, Tensor]:
        texts = [part for part in self.family.parts if part.startswith(("text_encoder", "tokenizer"))]
        stamp = [_stamp(self.folder / part) for part in texts]
        embeddings: list[dict[str, Tensor]] = []
        pipeline: Any = None
        for begin in range(0, len(captions), CAPTIONS):
            some = captions[begin : begin + CAPTIONS]
            path = _kept(keep, "captions", *stamp, *some)
            rows = _read(path)
            if rows is None:
                pipeline = pipeline or self._text_pipeline(texts, device)
                with torch.no_grad(), quiet():
                    rows = {k: v.detach().float().cpu() for k, v in self.family.embed(pipeline, some, device).items()}
                _write(path, rows)
            embeddings.append(rows)
        return {name: torch.cat([rows[name] for rows in embeddings]).contiguous() for name in embeddings[0]}

    def _text_pipeline(self, texts: Sequence[str], device: torch.device) -> Any:
        """diffusers' own pipeline with its text encoders alone, for its encode_prompt."""
        import inspect

        parts: dict[str, Any] = {}
        for name in texts:
            _, kind = self.index.get(name) or (None, None)
            if kind is None:
                continue
            parts[name] = _text_part(self.folder / name, str(kind), device)
        diffusers = imported_diffusers()
        pipeline = getattr(diffusers, self.family.pipelines[0])
        wanted = inspect.signature(pipeline.__init__).parameters
        own = {
            name: parts.get(name)
            for name, parameter in wanted.items()
            if name != "self" and (name in parts or parameter.default is inspect.Parameter.empty)
        }
        with quiet():
            return pipeline(**own)


def scaled_latents(z: Tensor, configuration: Configuration) -> Tensor:
    """What an autoencoder's configuration makes of its latents for the network."""
    scale = float(configuration.get("scaling_factor") or 1.0)
    mean, std = configuration.get("latents_mean"), configuration.get("latents_std")
    if mean is not None and std is not None:
        shape = (1, -1, 1, 1)
        return (z - torch.tensor(mean, device=z.device).view(shape)) * scale / torch.tensor(std).to(z).view(shape)
    return (z - float(configuration.get("shift_factor") or 0.0)) * scale


def _noise(seed: int, index: int) -> torch.Generator:
    return torch.Generator().manual_seed(derived_seed("autoencoder", seed, index))


@torch.no_grad()
def _posterior(model: Any, images: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """One draw from the posterior of each image.

    Of an autoencoder without one, what it gives; of VQ, what is quantised later.
    """
    encoded = model.encode(images)
    for name in ("latents", "latent"):
        if hasattr(encoded, name):
            z: Tensor = getattr(encoded, name)
            return z
    posterior = encoded.latent_dist
    noise = torch.stack([torch.randn(posterior.mean.shape[1:], generator=one) for one in generators])
    return posterior.mean + posterior.std * noise.to(posterior.mean)


def diffusers_part(folder: Path, allowed: Sequence[str]) -> nn.Module:
    """A network of diffusers' from its folder, of one of the classes, with the weights of its file and no others.

    Raises:
        CommandError: it is of another class, or its weights do not fit.
    """

    configuration = read_object(folder / "config.json")
    if configuration is None:
        raise CommandError(f"{folder} is missing, or holds no config.json")
    if configuration.get("_class_name") not in allowed:
        raise CommandError(f"{folder} is a {configuration.get('_class_name')}; allowed: {', '.join(allowed)}")
    return built_network(str(configuration["_class_name"]), configuration, folder, folder)


def with_defaults(configuration: Configuration) -> dict[str, Any]:
    """A configuration with what it leaves out as its class of diffusers' has it, where diffusers has the class."""
    parameters = diffusers_parameters(str(configuration.get("_class_name"))).values()
    return {p.name: p.default for p in parameters if p.default is not p.empty} | dict(configuration)


def built_network(name: str, configuration: Configuration, place: Path, label: Path) -> nn.Module:
    """A network of a class of diffusers', in float32, with the weights of a folder or file.

    Raises:
        CommandError: it cannot be built, or its weights do not fit; MissingPackageError: diffusers is missing.
    """
    stored = stored_weights(place)
    diffusers = imported_diffusers()
    if diffusers is None:
        raise MissingPackageError("a diffusers folder", "diffusers", "'flatness[diffusers]'", why_not("diffusers"))
    if configuration.get("quantization_config"):
        method = configuration["quantization_config"].get("quant_method", "some method")
        raise CommandError(f"{label} is quantised by {method}; allowed: weights as floats, to be rounded here")
    try:
        with quiet():
            network: nn.Module = getattr(diffusers, name).from_config(dict(configuration)).float()
    except Exception as error:  # of many kinds, for values of many kinds
        reason = text_of(error)[:300]
        raise CommandError(f"{label} has a configuration of which no {name} can be built: {reason}") from error
    load_stored(network, stored, str(label))
    return network.eval()


def _text_part(folder: Path, kind: str, device: torch.device) -> Any:
    """A text encoder or a tokenizer.

    Raises:
        CommandError: it cannot be loaded, or tensors are missing; MissingPackageError: transformers is missing.
    """
    try:
        with quiet():
            import transformers

            transformers.utils.logging.disable_progress_bar()
    except ImportError as error:
        raise MissingPackageError("captions", "transformers", "'flatness[text]'", why_not("transformers")) from error
    try:
        with quiet():
            if "Tokenizer" in kind:
                return getattr(transformers, kind).from_pretrained(str(folder), local_files_only=True)
            model, about = getattr(transformers, kind).from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=torch.float32
            )
    except Exception as error:  # of many kinds
        raise CommandError(f"{folder} cannot be loaded: {text_of(error)[:300]}") from error
    misfits = {words: sorted(map(str, about.get(key) or ())) for words, key in KINDS.items()}
    misfits["unexpected"] = [name for name in misfits["unexpected"] if not name.endswith("position_ids")]
    problems = [f"{len(names)} {words} ({', '.join(names[:4])})" for words, names in misfits.items() if names]
    if problems:
        raise CommandError(f"{folder} does not fit its configuration: tensors {'; '.join(problems)}")
    return model.to(device).eval()


KINDS = {"missing": "missing_keys", "unexpected": "unexpected_keys", "of another shape": "mismatched_keys"}


def bound(loss: DiffusionLoss, rows: Mapping[str, Tensor]) -> DiffusionLoss:
    """The loss with the rows of embeddings that labels number."""
    assert isinstance(loss.call, CaptionedCall)
    return dataclasses.replace(loss, call=dataclasses.replace(loss.call, rows=rows))


# What is kept


def _stamp(folder: Path) -> str:
    """Changes with the files of a folder: their names, sizes and times."""
    files = sorted(path for path in folder.glob("*") if path.is_file()) if folder.is_dir() else []
    return ";".join(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files)


def _digest(x: Tensor) -> str:
    return hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest()


def _kept(keep: Path | None, kind: str, *about: object) -> Path | None:
    if keep is None:
        return None
    digest = hashlib.sha256("\n".join(map(str, about)).encode()).hexdigest()[:32]
    return keep / f"{kind}-{digest}.safetensors"


def _read(path: Path | None) -> dict[str, Tensor] | None:
    """What was kept; None where nothing was, or it is damaged."""
    if path is None or not path.is_file():
        return None
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception:  # a damaged file is made anew
        return None


def _write(path: Path | None, tensors: Mapping[str, Tensor]) -> None:
    """Keep tensors, whole or not at all; a disk that is full keeps none."""
    if path is None:
        return
    from safetensors.torch import save

    with contextlib.suppress(OSError):
        write_whole(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}))
