"""`python -m experiments measure SOURCE ...`: what `flatness` measures and compares, of runs and ADM checkpoints."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from findings.checksums import with_checksum
from findings.provenance import commit
from flatness.cli.command import add_measuring, chosen_data, guarded, is_quick, labelled, reported
from flatness.cli.errors import CommandError, reading
from flatness.cli.options import DataOptions, MeasureOptions, PlaceOptions, taken

if TYPE_CHECKING:
    from torch import Tensor

    from experiments.configuration import Configuration
    from experiments.data import Images
    from flatness.cli.data import Data
    from flatness.cli.subject import Subject

DESCRIPTION = (
    "Measure networks by the instruments alone: flatness, quantisation, exposure bias. One source is measured, several "
    "are compared on the same data, noise and weight noise. `evaluate` measures more, for the paper's tables."
)


def main(arguments: list[str]) -> int:
    """Run the command line; 0 done, 1 a measure failed, 2 not possible as asked."""
    given = _parser(is_quick(arguments)).parse_args(arguments)
    return guarded(lambda: _carried_out(given))


def _parser(quick: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments measure", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE",
        help="a run's folder, whose newest checkpoint is taken, or a checkpoint's; or the file of a public ADM "
        "checkpoint (.pt, read without executing anything, or .safetensors), with --config",
    )  # fmt: skip
    parser.add_argument("--average", metavar="NAME", help="a run's weights: raw, ema, swa (default: raw)")
    parser.add_argument("--config", metavar="PRESET", help="the preset whose network a checkpoint's file holds")
    parser.add_argument(
        "--root", type=Path, metavar="DIR",
        help="the data root, where --data is left out: the held-out images of the run's data set are taken then",
    )  # fmt: skip
    add_measuring(parser, quick)
    return parser


def _carried_out(given: argparse.Namespace) -> int:
    at_commit = commit()  # before anything is written

    def completed(document: dict[str, Any]) -> dict[str, Any]:
        return with_checksum({**document, "provenance": {**document["provenance"], "commit": at_commit}})

    options = taken(MeasureOptions, given, quick=given.quick)
    place, data_options = taken(PlaceOptions, given), taken(DataOptions, given)
    _all_options_apply(given, data_options)
    sources = []
    for source in given.sources:
        with reading(source):
            sources.append(_loaded(Path(source), given.average or "raw", given.config))
    subjects = labelled([source.subject for source in sources])
    if data_options.data is not None:
        data = chosen_data(subjects, data_options)
    else:
        with reading("the held-out images"):
            data = _own_images([source.configuration for source in sources], given.root)
    return reported(subjects, data, options, place, completed)


def _all_options_apply(given: argparse.Namespace, data: DataOptions) -> None:
    """Raise for an option that applies to no source, or to no data.

    Raises:
        CommandError: there is one.
    """
    folders = [Path(source).is_dir() for source in given.sources]
    if given.average is not None and not any(folders):
        raise CommandError("--average is for runs' folders; a checkpoint's file holds one set of weights")
    if given.config is not None and all(folders):
        raise CommandError("--config is for checkpoints' files; a run's folder says itself what it is")
    if given.root is not None and data.data is not None:
        raise CommandError("--root is where the run's own data set lies, --data other data; allowed: one of them")
    if data.data is None:
        for field in dataclasses.fields(data):
            if getattr(data, field.name) != field.default:
                raise CommandError(f"--{field.name.replace('_', '-')} is for --data; the run's own images need none")


@dataclass(frozen=True)
class _Source:
    subject: Subject
    configuration: Configuration


def _loaded(path: Path, average: str, preset: str | None) -> _Source:
    from experiments.adm.loading import read_state_dict
    from experiments.configuration import PRESETS
    from experiments.sampling.run import load_source

    if path.is_dir():
        run = load_source(path, average)
        name = path.name if average == "raw" else f"{path.name}+{average}"
        return _Source(
            subject(run.configuration, run.weights, name, {"step": run.step, "average": average}), run.configuration
        )
    presets = {str(name): configuration for name, configuration in PRESETS.items()}
    if preset not in presets:
        allowed = ", ".join(presets)
        raise CommandError(f"config is {preset}, and {path} is no run's folder; allowed for its file: {allowed}")
    return _Source(subject(presets[preset], read_state_dict(path), path.stem, {"preset": preset}), presets[preset])


def subject(configuration: Configuration, weights: dict[str, Tensor], label: str, about: dict[str, object]) -> Subject:
    """A network of ADM's, its loss the squared error of the predicted noise at uniform timesteps.

    Args:
        configuration: of the network and its process.
        weights: by name.
        label: how tables call it.
        about: for records.

    Raises:
        ValueError: the weights do not fit the network.
    """
    from experiments.adm import ADM
    from experiments.adm.loading import load_state_dict
    from experiments.diffusion.process import Process
    from experiments.measures.exposure import CLIP
    from flatness.cli.families.contract import Classes
    from flatness.cli.subject import Subject, weights_hash
    from flatness.diffusion.losses import epsilon_loss
    from flatness.diffusion.sampling import SamplingProcess, sampling_process

    network = ADM(configuration.network)
    load_state_dict(weights, network, source=label)
    process = Process(configuration.process)
    classes = configuration.network.num_classes
    loss = epsilon_loss(process.alphas_cumprod, labels=None if classes is None else "y")
    variance = "learned" if configuration.process.learn_sigma else "large"

    def sampling(labels: Tensor | None) -> SamplingProcess:
        own = None if classes is None else labels
        return sampling_process(network, loss, labels=own, variance=variance, clip=CLIP)

    options = configuration.network
    shape = (options.channels, options.image_size, options.image_size)
    description = {
        "kind": "adm",
        "source": label,
        **about,
        "configuration": configuration.to_dict(),
        "loss": loss.settings(),
    }
    about_it = description | {"sha256": weights_hash(network)}
    known = None if classes is None else Classes(classes)
    return Subject(label, network.eval(), loss, shape, sampling, "", about_it, known)


def _own_images(configurations: list[Configuration], root: Path | None) -> Data:
    """The held-out images of the data set that all sources were trained on.

    Raises:
        CommandError: they were trained on different ones.
    """
    from experiments import data

    wanted = {(c.dataset, c.network.image_size) for c in configurations}
    if len(wanted) > 1:
        raise CommandError(f"the sources are of different data sets, {sorted(wanted)}; allowed with --data alone")
    (name, size) = wanted.pop()
    note = ""
    if any(c.train_split == "all" for c in configurations):
        note = "a run was trained on all images, also on those that are measured here"
    return held_out(data.load(name, "test", size, root), note)


def held_out(images: Images, note: str = "") -> Data:
    """Images of a data set as the measures take them."""
    import torch

    from experiments.data import to_float
    from flatness.cli.data import Data

    @dataclasses.dataclass(frozen=True)
    class HeldOut(Data):
        def chosen(self, count: int, seed: int) -> tuple[Tensor, Tensor | None]:
            indices = torch.tensor(self.indices(count, seed))
            labels = None if images.labels is None else images.labels[indices]
            return to_float(images.gather(indices)), labels

    return HeldOut(f"{images.name}, {images.split}", len(images), note)
