"""What defines a run: the resolved configuration, stored in every checkpoint and result, and the paper's presets.

Two dataclasses: `Configuration` is the run's identity (a checkpoint is resumed under the same one only); `RunOptions`
says where and how it is carried out (folders, devices, how often to save), which changes no result but by rounding,
and by dropout's random numbers.

The values of cifar10, lsun-tower and ffhq are those of DDPM-IP's published ADM commands and of "Understanding Flatness
in Generative Models: Its Role and Benefits", Section 4 (Adam, 1e-4, 200,000 steps, SWA cycle 100 from 180,000, EMA
.9999, input perturbation .1, rho in {.1, .01, .001}). Two are not published: ADM's options for FFHQ at 64 x 64 (here
the tower's) and the batch of FFHQ at that size (here the one published for 128 x 128).
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from experiments.adm.options import ADMOptions
from experiments.diffusion.process import ProcessOptions
from findings.names import Method
from flatness import EMA, arguments
from flatness.training.averaging_rules import SMALLEST_SIGMA_REL

DatasetName = Literal["cifar10", "lsun-tower", "ffhq", "fashion-mnist"]
VERSION = 3
"""Of the stored form; a reader takes earlier ones too, and refuses others."""
ADDED = {2: ("training_images", "weight_noise"), 3: ("averages.ema_start", "averages.ema_warmup")}
"""Fields by the version that has them first: a run of an earlier one had their defaults."""
WITHOUT_EFFECT = ("network.activation_checkpointing",)
"""Fields that may change when a run is resumed."""
PresetName = Literal["cifar10", "lsun-tower", "ffhq", "fashion-mnist", "fashion-mnist-tiny", "fashion-mnist-mini"]
_CIFAR10 = ADMOptions()
_TOWER = ADMOptions(
    image_size=64,
    model_channels=192,
    channel_mult=(1, 2, 3, 4),
    attention_resolutions=(32, 16, 8),
    num_head_channels=64,
    dropout=0.1,
)
_FASHION = ADMOptions(
    channels=1, model_channels=64, channel_mult=(1, 2, 2), num_res_blocks=2, attention_resolutions=(8,), dropout=0.1
)
# Small enough for two cores: see the plan command for parameters and operations
_TINY = ADMOptions(
    image_size=16,
    channels=1,
    model_channels=32,
    channel_mult=(1, 2, 2),
    num_res_blocks=1,
    attention_resolutions=(4,),
    dropout=0.0,
)
# Minutes a run on one core, so that seeds, radii and training sets can be many; small batches make step noise large
_MINI = ADMOptions(
    image_size=8,
    channels=1,
    model_channels=32,
    channel_mult=(1, 1),
    num_res_blocks=1,
    attention_resolutions=(),
    dropout=0.0,
)


@dataclass(frozen=True)
class SAMOptions:
    """Sharpness-aware minimisation, where the method has it."""

    rho: float = 0.1
    """Radius of the perturbation of the weights, in the L2 norm over all of them together."""
    adaptive: bool = False
    """ASAM: the perturbation scaled elementwise by the weights' magnitude."""
    sam_schedule: Literal["always", "late", "every-k"] = "always"
    """Which steps perturb: all; those after a share of the run; every k-th."""
    late_start: float = 0.9
    """Schedule late: the share of the run after which steps perturb."""
    every: int = 5
    """Schedule every-k: k."""
    ascent_share: float = 1.0
    """Share of each rank's batch that the ascent's gradient is taken from, in whole micro-batches."""
    ascent_gradients: Literal["averaged", "local"] = "averaged"
    """With several ranks: climb the averaged gradient, or each rank its own (not published which the paper did)."""

    def __post_init__(self) -> None:
        """Check all fields."""
        arguments.number("rho", self.rho, at_least=0)
        arguments.flag("adaptive", self.adaptive)
        arguments.choice("sam_schedule", self.sam_schedule, ("always", "late", "every-k"))
        arguments.number("late_start", self.late_start, at_least=0, at_most=1)
        arguments.count("every", self.every, at_least=1)
        arguments.number("ascent_share", self.ascent_share, above=0, at_most=1)
        arguments.choice("ascent_gradients", self.ascent_gradients, ("averaged", "local"))


@dataclass(frozen=True)
class WeightNoiseOptions:
    """Random weight perturbation, where the method has it: each step's gradient is that at weights moved by noise."""

    noise_sigma: float = 0.01
    """Standard deviation of the noise on each weight."""

    def __post_init__(self) -> None:
        """Check the field."""
        arguments.number("noise_sigma", self.noise_sigma, at_least=0)


@dataclass(frozen=True)
class AverageOptions:
    """The averages of the weights that every run carries beside the raw ones."""

    ema_decay: float = 0.9999
    """EMA's rate."""
    ema_start: float = 0.0
    """Share of the run at which EMA begins; until then it is the weights themselves."""
    ema_warmup: float | None = None
    """Exponent p of a rate that rises to EMA's, 1 - (1 + k)^-p at the k-th step since its start (2/3 and 3/4 are
    common); none by default: EMA's rate from the first step on."""
    swa_start: float = 0.9
    """Share of the run after which SWA begins."""
    swa_cycle: int = 100
    """Steps between two weights that SWA takes in."""
    power_widths: tuple[float, ...] = (0.05, 0.1)
    """Relative widths of the power-function EMAs, from whose snapshots any EMA is reconstructed after training."""

    def __post_init__(self) -> None:
        """Check all fields."""
        arguments.number("ema_decay", self.ema_decay, at_least=0, at_most=1)
        arguments.number("ema_start", self.ema_start, at_least=0, at_most=1)
        if self.ema_warmup is not None:
            arguments.number("ema_warmup", self.ema_warmup, above=0)
        arguments.number("swa_start", self.swa_start, at_least=0, at_most=1)
        arguments.count("swa_cycle", self.swa_cycle, at_least=1)
        for width in self.power_widths:
            arguments.number("power_widths", width, at_least=SMALLEST_SIGMA_REL, at_most=0.28)
        if len({f"{width:g}" for width in self.power_widths}) < len(self.power_widths):
            raise arguments.refuse("power_widths", self.power_widths, "widths that differ in their first six digits")


@dataclass(frozen=True)
class Configuration:
    """All that a run's result depends on, but for rounding."""

    dataset: DatasetName = "cifar10"
    """Which images."""
    train_split: Literal["train", "all"] = "train"
    """Train without the held-out images, or with them too: the paper has no held-out images of LSUN and FFHQ (here a
    seventieth, of which measures are then not held out)."""
    training_images: int | None = None
    """Train on so many images alone, drawn by the seed; on all by default."""
    method: Method = "adm"
    """Plain ADM, input perturbation, SAM, the last two together, or random weight perturbation."""
    steps: int = 200_000
    """Optimizer steps."""
    global_batch: int = 128
    """Images a step, over all ranks and micro-batches together."""
    learning_rate: float = 1e-4
    """Adam's, constant."""
    weight_decay: float = 0.0
    """Decoupled (AdamW)."""
    input_perturbation: float = 0.1
    """DDPM-IP's gamma, where the method has it."""
    timestep_weights: Literal["second-moment", "uniform"] = "second-moment"
    """How timesteps are drawn: by the second moment of their loss, as DDPM-IP, or uniformly; the paper does not say."""
    flip: bool = True
    """Mirror half of the images at random."""
    seed: int = 0
    """Initial weights, order, flips, timesteps, noise and dropout are a function of it, the rank and the step."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the network's passes (autocast); weights, optimizer and norms are float32 in either case."""
    network: ADMOptions = field(default_factory=ADMOptions)
    process: ProcessOptions = field(default_factory=ProcessOptions)
    sam: SAMOptions = field(default_factory=SAMOptions)
    weight_noise: WeightNoiseOptions = field(default_factory=WeightNoiseOptions)
    averages: AverageOptions = field(default_factory=AverageOptions)

    def __post_init__(self) -> None:
        """Check all fields, and those of different parts against each other."""
        arguments.choice("dataset", self.dataset, typing.get_args(DatasetName))
        arguments.choice("train_split", self.train_split, ("train", "all"))
        if self.training_images is not None:
            arguments.count("training_images", self.training_images, at_least=1)
        arguments.choice("method", self.method, typing.get_args(Method))
        arguments.count("steps", self.steps, at_least=1)
        arguments.count("global_batch", self.global_batch, at_least=1)
        arguments.number("learning_rate", self.learning_rate, above=0)
        arguments.number("weight_decay", self.weight_decay, at_least=0)
        arguments.number("input_perturbation", self.input_perturbation, at_least=0)
        arguments.choice("timestep_weights", self.timestep_weights, ("second-moment", "uniform"))
        arguments.flag("flip", self.flip)
        arguments.count("seed", self.seed)
        arguments.choice("precision", self.precision, ("float32", "bfloat16"))
        if round(self.averages.ema_start * self.steps) >= self.steps:
            allowed = f"so little of the {self.steps} steps that EMA averages at least one"
            raise arguments.refuse("averages.ema_start", self.averages.ema_start, allowed)
        if self.network.learn_sigma != self.process.learn_sigma:
            raise ValueError(
                f"network.learn_sigma is {self.network.learn_sigma}; allowed: process.learn_sigma, "
                f"{self.process.learn_sigma}"
            )
        if self.network.num_classes is not None:
            raise arguments.refuse("network.num_classes", self.network.num_classes, "None: training is unconditional")

    @property
    def ema(self) -> EMA:
        """How its EMA is made."""
        averages = self.averages
        return EMA(averages.ema_decay, round(averages.ema_start * self.steps), averages.ema_warmup)

    @property
    def swa_models(self) -> int:
        """How many weights SWA takes in: with none, the run has no SWA row."""
        start, cycle = round(self.averages.swa_start * self.steps), self.averages.swa_cycle
        return len(range(-(-start // cycle) * cycle, self.steps, cycle))

    @property
    def perturbs_weights(self) -> bool:
        """Whether the method is SAM's."""
        return "sam" in self.method

    @property
    def noise_sigma(self) -> float:
        """Standard deviation of the weights' noise in this run: 0 where the method has no random perturbation."""
        return self.weight_noise.noise_sigma if self.method == "rwp" else 0.0

    @property
    def noise_strength(self) -> float:
        """DDPM-IP's gamma in this run: 0 where the method has no input perturbation."""
        return self.input_perturbation if "ip" in self.method else 0.0

    def to_dict(self) -> dict[str, Any]:
        """In JSON's types."""
        return {"version": VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Configuration:
        """From `to_dict`'s form, also after a round through JSON.

        Raises:
            ValueError: another version, a key that is missing or unknown, or a value that is not allowed.
        """
        version = stored.get("version") if isinstance(stored, dict) else stored
        if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= VERSION:
            raise ValueError(f"the stored configuration's version is {version!r}; allowed: 1 to {VERSION}")
        present = {name: value for name, value in stored.items() if name != "version"}
        for name in (name for since, names in ADDED.items() if since > version for name in names):
            present = _completed(present, name.split("."), dataclasses.asdict(cls()))
        return typing.cast("Configuration", _built(cls, present, ""))

    def differing(self, other: Configuration) -> dict[str, tuple[Any, Any]]:
        """This one's value and the other's of each field in which they differ, by its dotted name.

        Whether activations are recomputed does not count: it changes memory and time alone.
        """
        ours, theirs = flat(self.to_dict()), flat(other.to_dict())
        names = (name for name in ours if name not in WITHOUT_EFFECT and ours[name] != theirs[name])
        return {name: (ours[name], theirs[name]) for name in names}

    def differences(self, other: Configuration) -> list[str]:
        """One line for each field in which the two differ: name, this one's value, the other's."""
        return [f"{name}: {ours!r}, {theirs!r}" for name, (ours, theirs) in self.differing(other).items()]


@dataclass(frozen=True)
class RunOptions:
    """Where and how a run is carried out; with dropout, devices, ranks and micro-batches change its random numbers."""

    out: Path
    """The run's folder: made if missing, resumed if it holds a run of the same configuration."""
    data: Path | None = None
    """The data root; FLATNESS_DATA, or ./data, by default."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes CUDA where there is one."""
    micro_batch: int | None = None
    """Most images in one pass of one rank; gradients are accumulated over passes. All at once by default."""
    compile: bool = False
    """torch.compile the network."""
    checkpoint_every: int = 5_000
    """Steps between checkpoints; one is always written at the end."""
    log_every: int = 50
    """Steps between lines of metrics."""
    sample_every: int = 10_000
    """Steps between sample grids, and between held-out losses; 0 for both at the end alone."""
    points: tuple[int, ...] = ()
    """Steps after which weights, EMA and SWA are put aside for measuring, in points/."""
    until: int | None = None
    """Stop after this step, with a checkpoint; the run can be resumed later."""

    def __post_init__(self) -> None:
        """Check all fields."""
        arguments.choice("device", self.device, ("auto", "cpu", "cuda"))
        if self.micro_batch is not None:
            arguments.count("micro_batch", self.micro_batch, at_least=1)
        arguments.flag("compile", self.compile)
        arguments.count("checkpoint_every", self.checkpoint_every, at_least=1)
        arguments.count("log_every", self.log_every, at_least=1)
        arguments.count("sample_every", self.sample_every)
        for point in self.points:
            arguments.count("points", point, at_least=1)
        if len(set(self.points)) < len(self.points):
            raise arguments.refuse("points", self.points, "steps that differ")
        if self.until is not None:
            arguments.count("until", self.until, at_least=1)

    def check_within(self, steps: int) -> None:
        """Refuse steps that a run of so many never comes to.

        Raises:
            ValueError: naming the option.
        """
        for name, named in (("until", () if self.until is None else (self.until,)), ("points", self.points)):
            if any(step > steps for step in named):
                raise arguments.refuse(name, getattr(self, name), f"at most the run's {steps} steps")


def current_settings(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A result's or a plan's settings with its configurations in today's form; what cannot be read stays as it is.

    Args:
        stored: settings that an earlier version may have written: a `configuration`, or `runs` with one each.
    """
    settings = dict(stored)
    if "configuration" in settings:
        settings["configuration"] = _current(settings["configuration"])
    if isinstance(settings.get("runs"), dict):
        settings["runs"] = {name: _current(of) for name, of in settings["runs"].items()}
    return settings


def _current(stored: Any) -> Any:
    try:
        return Configuration.from_dict(stored).to_dict()
    except (ValueError, TypeError, AttributeError):
        return stored  # which is then told apart from what is asked for


def _completed(stored: dict[str, Any], names: list[str], defaults: dict[str, Any]) -> dict[str, Any]:
    """A stored form with a field, named part by part, at its default; one that is there stays."""
    first, *inside = names
    if not inside:
        return {first: defaults[first], **stored}
    part = stored.get(first)
    return stored | {first: _completed(part, inside, defaults[first])} if isinstance(part, dict) else stored


def flat(stored: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted names."""
    flattened: dict[str, Any] = {}
    for key, value in stored.items():
        name = prefix + key
        flattened |= flat(value, name + ".") if isinstance(value, dict) else {name: value}
    return flattened


def _built(kind: type, stored: dict[str, Any], prefix: str) -> object:
    hints = typing.get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]
    missing, unknown = [n for n in names if n not in stored], [n for n in stored if n not in names]
    if missing or unknown:
        raise ValueError(f"the stored configuration lacks {prefix}{missing} and has unknown {prefix}{unknown}")
    return kind(**{name: _value(hints[name], stored[name], f"{prefix}{name}.") for name in names})


def _value(hint: Any, value: Any, prefix: str) -> Any:
    """A value as JSON gave it, in the type its field has: tuples come back as lists."""
    if dataclasses.is_dataclass(hint):
        return _built(typing.cast("type", hint), value, prefix)
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    is_tuple = any(typing.get_origin(option) is tuple for option in options)
    return tuple(value) if is_tuple and isinstance(value, list) else value


PRESETS: dict[PresetName, Configuration] = {
    "cifar10": Configuration(network=_CIFAR10),
    "lsun-tower": Configuration(dataset="lsun-tower", network=_TOWER, global_batch=256),
    "ffhq": Configuration(dataset="ffhq", network=_TOWER),
    "fashion-mnist": Configuration(
        dataset="fashion-mnist", network=_FASHION, steps=40_000, averages=AverageOptions(ema_decay=0.999)
    ),
    # The averages' lengths go with the steps: an EMA of .9999 would still hold two thirds of the initial weights
    "fashion-mnist-tiny": Configuration(
        dataset="fashion-mnist",
        network=_TINY,
        steps=4_000,
        global_batch=64,
        learning_rate=5e-4,
        timestep_weights="uniform",
        averages=AverageOptions(ema_decay=0.995, swa_cycle=10),
    ),
    "fashion-mnist-mini": Configuration(
        dataset="fashion-mnist",
        network=_MINI,
        steps=20_000,
        global_batch=16,
        learning_rate=1e-3,
        timestep_weights="uniform",
        averages=AverageOptions(ema_decay=0.999, swa_cycle=10),
    ),
}
