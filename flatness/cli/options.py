"""All that `flatness measure` and `flatness compare` can be asked for, as frozen dataclasses and as a command line.

What --quick can afford. ADM's network for CIFAR-10 (57 million weights, 32 x 32 pixels) makes 18.5 GFLOP an image. At
40 GFLOP/s, which two cores of a server's CPU reach in float32, that is 2 images/s. Of a minute, loading torch,
diffusers and the weights takes ten seconds, moving 57 million weights by noise or rounding them half a second a time,
more on busy cores. What is left, some 90 passes of an image at most, is spent on 8 images: 4 passes under noise per
filter (one of them without noise, 3 draws) and 2 of rounding to 4 bits, 48 in all. The loss comes with them. Exposure
bias, at 40 passes an image, and the curve are left out. Smaller networks get more images at the same cost, in inverse
proportion to weights times pixels; larger ones the same 8, which takes longer.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from flatness.cli.errors import CommandError
from flatness.cli.files import check_results_folder
from flatness.images import PIXEL_LIMIT

T = TypeVar("T")
SCALES = ("absolute", "layer", "filter")
FULL_IMAGES = 256
QUICK_IMAGES, QUICK_WORK = 8, 57_094_662 * 32 * 32
"""Images that --quick affords of a network with so many weights times pixels."""
MOST_POINTS = 1001
"""Of a line, or of a side of a grid: all are listed before the first is measured."""


def option(default: Any, text: str, **settings: Any) -> Any:
    """A field with its sentence for --help; settings are argparse's."""
    return dataclasses.field(default=default, metadata={"help": text, **settings})


def at_least(name: str, value: int, least: int) -> None:
    """Raise for a smaller number.

    Raises:
        CommandError: it is smaller.
    """
    if value < least:
        raise CommandError(f"{name} is {value}; allowed: a whole number of at least {least}")


@dataclass(frozen=True)
class MeasureOptions:
    """What is measured and how finely; recorded with every result."""

    images: int | None = option(
        None, f"images (samples) of all measures of a loss; {FULL_IMAGES} by default, or all where there are fewer",
        type=int, metavar="N",
    )  # fmt: skip
    draws: int = option(20, "draws of weight noise for the low-pass filter (LPF)", metavar="N")
    sigma: float = option(0.01, "standard deviation of absolute weight noise (Bisla et al., 2022)")
    relative_sigma: float = option(
        0.05, "standard deviation of weight noise relative to the root mean square of a tensor or a filter"
    )
    scales: tuple[str, ...] = option(
        SCALES,
        "what weight noise is relative to: nothing (absolute), the layer's tensor, the filter, each weight, which is "
        "invariant under every rescaling of neurons",
        choices=(*SCALES, "weight"),
    )
    curve_rms: tuple[float, ...] = option(
        (0.0025, 0.005, 0.01, 0.02), "distances of the perturbation curve, as the root mean square change of a weight"
    )
    curve_draws: int = option(5, "random directions of the perturbation curve", metavar="N")
    bits: tuple[int, ...] = option((8, 4, 3), "widths to which weights are rounded", metavar="BITS")
    granularity: str = option(
        "tensor", "one grid of rounded values for a tensor, or for each output channel", choices=("tensor", "channel")
    )
    steps: tuple[int, ...] = option((20, 100), "sampling steps T' of exposure bias, where the process is known")
    exposure_images: int = option(
        64, "images, and as many sampling chains, of exposure bias; 2 T' passes each", metavar="N"
    )
    by_timestep: int = option(
        0, "also the rise under weight noise in N bins of timesteps, and its total as trained and in nats",
        metavar="N",
    )  # fmt: skip
    curvature: bool = option(False, "also the Hessian's largest eigenvalue and trace, by Hessian-vector products")
    probes: int = option(10, "probe vectors of the Hessian's trace", metavar="N")
    spectrum: int = option(
        0, "also the density of the Hessian's eigenvalues, by Lanczos quadrature from N probe vectors", metavar="N"
    )
    lanczos_steps: int = option(
        20, "most Lanczos steps towards the largest eigenvalue, or from each probe of the density", metavar="N"
    )
    worst_case: bool = option(False, "also the worst rise in a ball around the weights, by steps of gradient ascent")
    rho: float = option(0.05, "radius of that ball, over all weights together")
    ascent_steps: int = option(5, "steps of ascent in it, a pass with gradients each", metavar="N")
    surface: int = option(
        0,
        "also the loss on a grid of N x N points in the plane of two random directions, scaled by filter",
        metavar="N",
    )
    surface_range: float = option(1.0, "how far the grid goes, as a share of each filter's norm")
    readout: bool = option(
        True, "the feature energy of the last linear or convolutional layer, and the rises it predicts"
    )
    times: str = option(
        "trained",
        "distribution of timesteps: as trained (uniform where the source does not say), uniform, lognormal:MEAN,STD, "
        "logitnormal:MEAN,STD or given:T1,T2,...",
    )
    seed: int = option(0, "images, noise, timesteps and weight noise are a function of it")
    precision: str = option("float32", "of the network's passes; bfloat16 is autocast", choices=("float32", "bfloat16"))
    quick: bool = False

    def __post_init__(self) -> None:
        """Check what argparse does not.

        Raises:
            CommandError: a number is too small.
        """
        whole = {"draws": 2, "curve_draws": 2, "exposure_images": 2, "probes": 2, "lanczos_steps": 0, "seed": 0,
                 "ascent_steps": 1, "surface": 0, "by_timestep": 0, "spectrum": 0}  # fmt: skip
        for name, least in whole.items():
            at_least(name, getattr(self, name), least)
        if self.images is not None:
            at_least("images", self.images, 2)
        for name in ("sigma", "relative_sigma", "rho", "surface_range", *("curve_rms",) * len(self.curve_rms)):
            for value in self.curve_rms if name == "curve_rms" else (getattr(self, name),):
                if not 0 < value < float("inf"):
                    raise CommandError(f"{name} is {value}; allowed: a number greater than 0")
        if self.surface and (not 3 <= self.surface <= MOST_POINTS or self.surface % 2 == 0):
            allowed = f"an odd number from 3 to {MOST_POINTS}, the weights in the middle"
            raise CommandError(f"surface is {self.surface}; allowed: {allowed}")
        if self.spectrum == 1:
            raise CommandError("spectrum is 1; allowed: a whole number of at least 2, for an error over probes")
        if self.spectrum and not self.lanczos_steps:
            raise CommandError("lanczos_steps is 0; allowed with a spectrum: a whole number of at least 1")
        for value in self.bits:
            if not 2 <= value <= 16:
                raise CommandError(f"bits is {value}; allowed: 2 to 16")
        for value in self.steps:
            at_least("steps", value, 2)

    def resolved(self, weights: int, pixels: int, available: int) -> MeasureOptions:
        """The same with the number of images settled, for a network of so many weights and samples of so many pixels.

        Args:
            weights, pixels: of the largest of the networks that are compared.
            available: images there are.
        """
        wanted = self.images or FULL_IMAGES
        if self.quick and self.images is None:
            affordable = QUICK_IMAGES * QUICK_WORK // max(weights * pixels, 1)
            wanted = min(max(affordable, QUICK_IMAGES), FULL_IMAGES)
        exposure = min(self.exposure_images, available)
        return dataclasses.replace(self, images=min(wanted, available), exposure_images=exposure)


def _option_of(kind: type, name: str) -> Any:
    """Another dataclass's field, with its default and its sentence."""
    there = next(field for field in dataclasses.fields(kind) if field.name == name)
    return dataclasses.field(default=there.default, metadata=there.metadata)


class Need(NamedTuple):
    """What an option does nothing without.

    Attributes:
        words: the options that it needs one of.
        met: whether one of them is taken.
    """

    words: str
    met: Callable[[MeasureOptions], object]


NEEDS: dict[str, Need] = {
    "sigma": Need("--scales absolute", lambda o: "absolute" in o.scales),
    "relative_sigma": Need(
        "--scales layer, filter or weight, or --readout",
        lambda o: {*o.scales} - {"absolute"} or o.readout or (o.by_timestep and not o.scales),
    ),
    "draws": Need("--scales or --by-timestep", lambda o: o.scales or o.by_timestep),
    "curve_draws": Need("--curve-rms", lambda o: o.curve_rms),
    "granularity": Need("--bits", lambda o: o.bits),
    "exposure_images": Need("--steps", lambda o: o.steps),
    "probes": Need("--curvature", lambda o: o.curvature),
    "lanczos_steps": Need("--curvature or --spectrum", lambda o: o.curvature or o.spectrum),
    "rho": Need("--worst-case", lambda o: o.worst_case),
    "ascent_steps": Need("--worst-case", lambda o: o.worst_case),
    "surface_range": Need("--surface", lambda o: o.surface),
    "gradient_batch": Need(
        "--curvature, --spectrum or --worst-case", lambda o: o.curvature or o.spectrum or o.worst_case
    ),
}
"""By option; in a namespace these are only where they were given, so that they are refused at their defaults too."""


QUICK = MeasureOptions(draws=3, scales=("filter",), curve_rms=(), bits=(4,), steps=(), readout=False, quick=True)
"""The defaults with --quick; see the module's docstring."""


@dataclass(frozen=True)
class PathOptions:
    """What is measured along the line between two checkpoints; recorded with the result."""

    points: int = option(11, "points of the line, both ends among them, evenly spaced", metavar="N")
    images: int | None = option(
        None, f"images (samples); {FULL_IMAGES} by default, or all where there are fewer", type=int, metavar="N"
    )
    times: str = _option_of(MeasureOptions, "times")
    seed: int = option(0, "images, noise and timesteps are a function of it")
    precision: str = _option_of(MeasureOptions, "precision")

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            CommandError: a number is too small or too large.
        """
        if not 3 <= self.points <= MOST_POINTS:
            raise CommandError(f"points is {self.points}; allowed: a whole number from 3 to {MOST_POINTS}")
        at_least("seed", self.seed, 0)
        if self.images is not None:
            at_least("images", self.images, 2)

    def measuring(self) -> MeasureOptions:
        """The same as options of measures, of which none is taken."""
        none: dict[str, Any] = {"scales": (), "curve_rms": (), "bits": (), "steps": (), "readout": False}
        return MeasureOptions(images=self.images, times=self.times, seed=self.seed, precision=self.precision, **none)


@dataclass(frozen=True)
class SourceOptions:
    """What a folder with a bare network leaves open: how it was trained."""

    prediction: str | None = option(
        None, "what a network without a scheduler predicts", choices=("epsilon", "sample", "v_prediction")
    )
    schedule: str | None = option(
        None, "its beta schedule, as diffusers names it", choices=("linear", "scaled_linear", "squaredcos_cap_v2")
    )
    train_steps: int | None = option(None, "its number of timesteps, 1000 by default", type=int, metavar="T")
    beta_start: float | None = option(None, "its first beta, 0.0001 by default", type=float, metavar="BETA")
    beta_end: float | None = option(None, "its last beta, 0.02 by default", type=float, metavar="BETA")

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.train_steps is not None:
            at_least("train_steps", self.train_steps, 1)
        for name in ("beta_start", "beta_end"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise CommandError(f"{name} is {value}; allowed: a number between 0 and 1")


@dataclass(frozen=True)
class DataOptions:
    """Which data, and what is done to it; None: not given, so that what cannot apply is refused at any value."""

    data: str | None = option(
        None,
        "a folder or zip of images, with classes and captions beside them; an .npz with arr_0, images or latents (and "
        "labels, or arr_1, captions, embeddings); or an .npy. uint8 is scaled to [-1, 1], floats are taken as they are",
    )
    resize: int | None = option(
        None, "scale images so that the shorter side has N pixels, and crop the middle square", type=int, metavar="N"
    )
    layout: str | None = option(
        None, "where an array of pixels has its channels; auto, the default, tells by its shape, if it can",
        choices=("auto", "nchw", "nhwc"),
    )  # fmt: skip
    latents: str | None = option(
        None, "an array of latents is scaled as the network takes them, or raw as its VAE gave them",
        choices=("scaled", "raw"),
    )  # fmt: skip
    caption: str | None = option(
        None, 'the caption of all images, for a network that takes captions; "" measures it without', metavar="TEXT"
    )
    pixel_limit: int | None = option(
        None, f"pixels of an image beyond which it is refused, {PIXEL_LIMIT} by default", type=int, metavar="N"
    )

    @property
    def most_pixels(self) -> int:
        """Of an image."""
        return PIXEL_LIMIT if self.pixel_limit is None else self.pixel_limit


@dataclass(frozen=True)
class PlaceOptions:
    """Where and how it is carried out; changes results by rounding, but for the kind of device, which is recorded."""

    device: str = option("auto", "auto takes CUDA, then the CPU", choices=("auto", "cpu", "cuda", "mps"))
    batch_size: int = option(64, "images in one pass", metavar="N")
    gradient_batch: int = option(8, "images in one pass of --curvature, which needs more memory", metavar="N")
    out: str | None = option(
        None, "folder for results: a JSON, and PNG plots where matplotlib is installed", metavar="DIR"
    )

    def __post_init__(self) -> None:
        """Check the numbers, and before minutes are spent that results can be written.

        Raises:
            CommandError: a number is too small, or `out` is no folder and cannot be made.
        """
        at_least("batch_size", self.batch_size, 1)
        at_least("gradient_batch", self.gradient_batch, 1)
        if self.out is not None:
            check_results_folder(self.out)


def add_options(
    parser: argparse.ArgumentParser, kind: type, defaults: Any, title: str, without: Collection[str] = ()
) -> None:
    """An option for each field of a dataclass that has a sentence of help, but for some."""
    group = parser.add_argument_group(title)
    for field in dataclasses.fields(kind):
        if "help" not in field.metadata or field.name in without:
            continue
        settings = {name: value for name, value in field.metadata.items() if name != "help"}
        default = getattr(defaults, field.name)
        flag = f"--{field.name.replace('_', '-')}"
        sentence = field.metadata["help"]
        if isinstance(default, bool):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=sentence)
            continue
        if isinstance(field.default, tuple):
            settings |= {"nargs": "*", "type": type(field.default[0]) if field.default else str}
            shown = " ".join(map(str, default)) or "none"
        else:
            settings.setdefault("type", str if field.default is None else type(field.default))
            shown = str(default)
        if default is not None:
            sentence += f" (default: {shown})"
        if field.name in NEEDS:
            default = argparse.SUPPRESS
        group.add_argument(flag, default=default, help=sentence, **settings)


def taken(kind: type[T], given: argparse.Namespace, **own: Any) -> T:
    """The dataclass with the command line's values.

    Raises:
        CommandError: a value is not allowed, or an option does nothing without another.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if "help" in field.metadata:
            default = getattr(QUICK, field.name) if own.get("quick") else field.default
            value = getattr(given, field.name, default)
            values[field.name] = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
    options = kind(**values, **own)
    if isinstance(options, MeasureOptions):
        for name, need in NEEDS.items():
            if hasattr(given, name) and not need.met(options):
                raise CommandError(f"--{name.replace('_', '-')} does nothing without {need.words}")
    return options
