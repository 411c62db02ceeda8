"""Networks measured one after the other on the same data, noise and times, and the document of what came out."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flatness.cli.data import Data, fingerprint
from flatness.cli.encoding import Samples
from flatness.cli.errors import (
    TRACEBACK,
    CommandError,
    is_ours,
    one_line,
    out_of_memory,
    place,
    text_of,
    their_traceback,
)
from flatness.cli.options import MeasureOptions, PlaceOptions
from flatness.cli.recording import Advance, Watch, precision
from flatness.cli.subject import Subject
from flatness.cli.tasks import LOSS, DoesNotApplyError, Outcome, Quantity, Setting, tasks_of
from flatness.diffusion.losses import Batch, DiffusionLoss, fixed_batches
from flatness.diffusion.noise_paths import DiscretePath, GivenTimes, LogitNormal, LogNormal, Times


@dataclass(frozen=True)
class Measured:
    """A network with what its measures gave.

    Attributes:
        label: how tables call it.
        about: where it came from.
        outcomes: by measure.
        failed: why others could not be taken, by measure.
        left_out: why others do not apply to this network, by measure.
        seconds: by measure.
    """

    label: str
    about: dict[str, Any]
    outcomes: dict[str, Outcome]
    failed: dict[str, str]
    left_out: dict[str, str]
    seconds: dict[str, float]

    @property
    def quantities(self) -> dict[str, Quantity]:
        """All numbers by name; the loss, which most measures take, once."""
        by_name: dict[str, Quantity] = {}
        for outcome in self.outcomes.values():
            for quantity in outcome.quantities:
                by_name.setdefault(quantity.name, quantity)
        return by_name


@dataclass(frozen=True)
class Common:
    """What all networks share: data as it is drawn, options with all numbers settled, and where it is computed.

    Attributes:
        x_0, labels: the samples as they lie in the data.
        options: resolved.
        place, device: where it is computed.
        remarks: what a person should know of the data and the networks.
        subjects: the networks, those with captions bound to them.
        encoded: x and labels as a network takes them, by its label; where they are missing, it takes them as they lie.
        captions: of the samples, where some network takes them.
    """

    x_0: Tensor
    labels: Tensor | None
    options: MeasureOptions
    place: PlaceOptions
    device: torch.device
    remarks: list[str] = field(default_factory=list)
    subjects: list[Subject] = field(default_factory=list)
    encoded: dict[str, tuple[Tensor, Tensor | None]] = field(default_factory=dict)
    captions: list[str] | None = None

    def samples(self, subject: Subject) -> tuple[Tensor, Tensor | None]:
        """x and labels as the network takes them."""
        return self.encoded.get(subject.label, (self.x_0, self.labels))


def chosen_device(name: str) -> torch.device:
    """The device.

    Raises:
        CommandError: there is none of this kind.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there[name]:
        raise CommandError(
            f"device is {name}, and torch finds none; allowed here: {', '.join(k for k in there if there[k])}"
        )
    return torch.device(name)


def gathered(
    subjects: Sequence[Subject], data: Data, options: MeasureOptions, place: PlaceOptions, watch: Watch | None = None
) -> Common:
    """The data that all subjects are measured on, encoded for those that want it.

    Raises:
        CommandError: subjects take samples of different shapes, or the data cannot be read or does not fit.
    """
    shapes = {subject.label: subject.shape for subject in subjects if subject.shape is not None}
    if len(set(shapes.values())) > 1:
        shown = ", ".join(f"{label}: {shape}" for label, shape in shapes.items())
        raise CommandError(f"the networks take samples of different shapes ({shown}); allowed: one shape")
    device = chosen_device(place.device)
    every = data.every_label()
    for subject in subjects:
        if subject.classes is not None and every is not None:
            subject.classes.check(every, subject.label, data.name)
    first, _ = data.chosen(2, options.seed)
    pixels = first[0, 0].numel() if first.dim() > 3 else 1
    factors = [one.encoding.encoder.factor for one in subjects if one.encoding is not None]
    if factors and data.latents is None:
        pixels //= min(factors) ** 2
    settled = options.resolved(max(subject.weights for subject in subjects), pixels, data.available)
    if settled.by_timestep > (settled.images or 0):
        raise CommandError(f"by_timestep is {settled.by_timestep}; allowed: at most the images, {settled.images}")
    count = settled.images or 2
    x_0, labels = data.chosen(count, options.seed)
    for subject in subjects:
        if subject.classes is not None:
            subject.classes.check(labels, subject.label, data.name)
    common = Common(x_0, labels, settled, place, device)
    captioned = any(one.encoding is not None and one.encoding.encoder.family.captioned for one in subjects)
    captions = data.captions(count, options.seed) if captioned else None
    samples = Samples(x_0, labels, captions, data.embeddings(count, options.seed), data.latents)
    ready = [_encoded(subject, samples, common, watch or Watch()) for subject in subjects]
    common.remarks.extend(data.remarks())
    unused = [one.label for one in subjects if isinstance(one.loss, DiffusionLoss) and not takes_labels(one)]
    if labels is not None and unused:
        common.remarks.append(f"labels are not given to {', '.join(unused)}, which takes none")
    common.remarks.extend(f"{subject.label}: {words}" for subject in subjects for words in subject.remarks)
    return dataclasses.replace(common, subjects=ready, captions=captions)


def _encoded(subject: Subject, samples: Samples, common: Common, watch: Watch) -> Subject:
    """The subject, bound to the samples' captions; its samples are noted."""
    encoding = subject.encoding
    if encoding is None:
        return subject
    keep = None if common.place.out is None else Path(common.place.out) / "encoded"
    watch.begins(subject.label, len(samples.x))
    watch.measure("encoding images and captions")
    try:
        with _in_a_line(subject, common):
            x, labels, rows = encoding.encoder.encoded(samples, common.device, common.options.seed, keep, watch.advance)
    finally:
        watch.ends()
    if not bool(x.isfinite().all()):
        raise CommandError(f"{subject.label}: its autoencoder gives latents that are not finite")
    common.encoded[subject.label] = (x, labels)
    loss, process = encoding.rebound(tuple(x.shape[1:]), rows)
    own = {"sha256": fingerprint(x, None if rows else labels, **rows), "shape": list(x.shape[1:])}
    about = subject.about | {"loss": loss.settings(), "encoded": own}
    return dataclasses.replace(subject, loss=loss, process=process, about=about)


def takes_labels(subject: Subject) -> bool:
    """Whether a network is known to be given labels."""
    return isinstance(subject.loss, DiffusionLoss) and subject.loss.call.labels is not None


def with_times(subject: Subject, given: str) -> Subject:
    """The subject with the distribution of times that --times names.

    Raises:
        CommandError: there is no such distribution, or the subject's loss takes none.
    """
    if given == "trained":
        return subject
    if not isinstance(subject.loss, DiffusionLoss):
        raise CommandError(f"{subject.label} has a loss of its own, whose times --times cannot set")
    try:
        loss = dataclasses.replace(subject.loss, times=_times(given, subject.loss))
    except ValueError as error:
        raise CommandError(f"times is {given}: {text_of(error)}") from error
    return dataclasses.replace(subject, loss=loss, about=subject.about | {"loss": loss.settings()})


def _times(given: str, loss: DiffusionLoss) -> Times:
    name, _, rest = given.partition(":")
    if name == "uniform" and not rest:
        return loss.path.uniform()
    discrete = isinstance(loss.path, DiscretePath)
    if name == "given" and rest:
        return GivenTimes([int(value) if discrete else float(value) for value in rest.split(",")])
    kinds: dict[str, Callable[..., Times]] = {"lognormal": LogNormal, "logitnormal": LogitNormal}
    if name not in kinds:
        raise ValueError("allowed: trained, uniform, lognormal:MEAN,STD, logitnormal:MEAN,STD or given:T1,T2,...")
    if discrete:
        raise ValueError("the network's time is discrete; allowed: uniform or given:T1,T2,...")
    return kinds[name](*(float(value) for value in rest.split(",")))


def measured(subject: Subject, common: Common, watch: Watch | None = None) -> Measured:
    """Take all measures of a network. One whose numbers are not finite fails without keeping the others from it.

    Raises:
        CommandError: data and network do not fit, or there is no memory for a pass.
    """
    watch = watch or Watch()
    subject = with_times(subject, common.options.times)
    outcomes: dict[str, Outcome] = {}
    failed: dict[str, str] = {}
    left_out: dict[str, str] = {}
    seconds: dict[str, float] = {}
    with placed(subject, common, watch.advance) as setting, contextlib.ExitStack() as at_the_end:
        tasks = tasks_of(setting.options, process=setting.process is not None)
        if setting.process is None:
            left_out = {f"exposure-{steps}": subject.no_process for steps in common.options.steps}
        else:
            there, wanted = setting.options.steps, common.options.steps
            chain = f"its process has {len(setting.process.alphas_cumprod)} steps"
            left_out = {f"exposure-{steps}": chain for steps in wanted if steps not in there}
        watch.begins(subject.label, sum(task.passes for task in tasks) * len(common.x_0))
        at_the_end.callback(watch.ends)
        for task in tasks:
            watch.measure(task.words)
            begin = time.perf_counter()
            try:
                with precision(common.options.precision, common.device):
                    outcomes[task.name] = task.run(setting)
            except DoesNotApplyError as error:
                left_out[task.name] = text_of(error)
            except Exception as error:  # of the user's code too: what the other measures have given is kept
                if out_of_memory(error) and not outcomes:
                    raise CommandError(f"{subject.label}: {_less_memory(common)}") from error
                if os.environ.get(TRACEBACK):
                    raise
                why = _less_memory(common) if out_of_memory(error) else f"{one_line(error)}{place(error)}"
                # Not every network has a readout
                absent = task.name == "readout" and isinstance(error, ValueError)
                (left_out if absent else failed)[task.name] = why
            seconds[task.name] = round(time.perf_counter() - begin, 3)
    about = subject.about | {"weights": subject.weights}
    return Measured(subject.label, about, outcomes, failed, left_out, seconds)


def tried(subject: Subject, common: Common) -> None:
    """Run a network once on two samples.

    Raises:
        CommandError: as `measured`.
    """
    with placed(with_times(subject, common.options.times), common, lambda samples: None):
        pass


@contextlib.contextmanager
def placed(subject: Subject, common: Common, advance: Advance) -> Iterator[Setting]:
    """The network on its device, where it has been run once; it is back on the CPU after the block."""
    try:
        with _in_a_line(subject, common):
            subject.model.to(common.device)
            setting = _setting(subject, common, advance)
            _first_pass(setting)
        yield setting
    finally:
        subject.model.to("cpu")


def _less_memory(common: Common) -> str:
    size = min(common.place.batch_size, len(common.x_0))
    return f"out of memory with {size} images in a pass: a smaller --batch-size (and --gradient-batch) needs less"


def _setting(subject: Subject, common: Common, advance: Advance) -> Setting:
    options, place, device = common.options, common.place, common.device
    x_0, labels = common.samples(subject)

    def batches(size: int) -> Any:
        return fixed_batches(x_0, labels, batch_size=size, seed=options.seed, device=device)

    exposure = x_0[: options.exposure_images].to(device)
    process = None
    if subject.process is not None and options.steps:
        process = subject.process(None if labels is None else labels[: options.exposure_images])
        most = len(process.alphas_cumprod)
        if max(options.steps) > most and options.steps != MeasureOptions.steps:
            raise CommandError(f"steps is {max(options.steps)}; allowed: at most {most}")
        options = dataclasses.replace(options, steps=tuple(steps for steps in options.steps if steps <= most))
    return Setting(
        subject.model, subject.loss, batches(place.batch_size), options, process, exposure,
        batches(place.gradient_batch), place.batch_size, advance,
    )  # fmt: skip


def _first_pass(setting: Setting) -> None:
    """Run the network once on two samples, so that what does not fit is told as such, and not as a failed measure."""
    few = Batch(*(part if part is None else part[:2] for part in setting.batches[0]))  # type: ignore[arg-type]
    LOSS.run(dataclasses.replace(setting, batches=[few], advance=lambda samples: None))


@contextlib.contextmanager
def _in_a_line(subject: Subject, common: Common) -> Iterator[None]:
    """What goes wrong inside, in a line that a person can act on."""
    shape = tuple(common.samples(subject)[0].shape[1:])
    try:
        yield
    except CommandError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise CommandError(f"{subject.label}: {_less_memory(common)}") from error
        own = subject.about.get("kind") == "function"
        if not own and os.environ.get(TRACEBACK):
            raise
        if is_ours(error):
            raise CommandError(f"{subject.label}: {one_line(error)}{_not_finite(subject.model)}") from error
        message = f"{subject.label} cannot be run on samples of shape {shape}: {one_line(error)}"
        raise CommandError(message, their_traceback(error) if own else "") from error


def _not_finite(model: nn.Module) -> str:
    """Says which weight is not finite, where one is not."""
    for name, parameter in model.named_parameters():
        if not bool(parameter.detach().float().isfinite().all()):
            return f" (its weight {name} is not finite)"
    return ""
