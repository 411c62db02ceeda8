"""The measures of one network: which, with how many passes, and what each gives as numbers with errors.

Every measure is one of the package's own, called on the same batches. Beside its result, the losses of single samples
and draws are kept, from which errors and paired differences are computed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import flatness
from flatness.cli.errors import text_of
from flatness.cli.options import MeasureOptions
from flatness.cli.recording import Advance, RecordedLoss, RecordedNorms
from flatness.cli.statistics import Part, Uncertain
from flatness.diffusion.likelihood import FIXED_VARIANCES, likelihood_loss
from flatness.diffusion.losses import Batch, DiffusionLoss
from flatness.diffusion.noise_paths import DiscretePath
from flatness.diffusion.sampling import SamplingProcess, respaced_steps
from flatness.measuring.base import Estimate, Losses, plain, stored, undisturbed
from flatness.measuring.readout import Readout
from flatness.measuring.rise_by_timestep import step_losses
from flatness.weights import derived_seed


@dataclass(frozen=True)
class Quantity:
    """A number of a measure.

    Attributes:
        name: for records, "lpf-filter.rise".
        words: for people.
        number: the number with its errors.
        parts: the single values it is the mean of; () where they are not known.
        x: where it lies on a curve; None for a number of its own.
        tick: what it is called on the axis of rises; "" where it is none of them.
        scale: of the weight noise that it is a number of; "" for others.
        detail: it is for records alone, not for tables.
    """

    name: str
    words: str
    number: Uncertain
    parts: tuple[Part, ...] = ()
    x: float | None = None
    tick: str = ""
    scale: str = ""
    detail: bool = False

    @classmethod
    def of(cls, name: str, words: str, *parts: Part, **about: Any) -> Quantity:
        """From the single values; about: the other fields."""
        return cls(name, words, Uncertain.of_parts(parts), parts, **about)


@dataclass
class Outcome:
    """What a measure gave.

    Attributes:
        result: the package's own, for records.
        quantities: the numbers.
        note: what a reader of them has to know.
        sampling_steps: T' of exposure bias.
    """

    result: dict[str, Any]
    quantities: list[Quantity] = field(default_factory=list)
    note: str = ""
    sampling_steps: int | None = None


class DoesNotApplyError(Exception):
    """A measure that makes no sense for a network; its words say why."""


@dataclass(frozen=True)
class Setting:
    """One network on its device, with everything that is the same for all networks.

    Attributes:
        model, loss: as in `flatness.cli.subject.Subject`.
        batches: data, noise and times.
        options: resolved.
        process: for exposure bias, or None.
        exposure: images for it.
        gradient_batches: the same data in smaller batches.
        batch_size: images in one pass.
        advance: told of every pass.
    """

    model: nn.Module
    loss: Callable[..., Tensor]
    batches: Sequence[Batch]
    options: MeasureOptions
    process: SamplingProcess | None
    exposure: Tensor
    gradient_batches: Sequence[Batch]
    batch_size: int
    advance: Advance = lambda samples: None

    @property
    def variance(self) -> str:
        """Of the variational bound: the process' own where that is fixed."""
        own = self.process.variance if self.process is not None else "small"
        return own if own in FIXED_VARIANCES else "small"

    def sigma(self, scale: str) -> float:
        """The deviation of weight noise at the scale."""
        return self.options.sigma if scale == "absolute" else self.options.relative_sigma

    def recorded(self, gradients: bool = False) -> RecordedLoss:
        """The loss, that keeps what it gives; gradients: on the smaller batches."""
        return RecordedLoss(self.loss, len(self.gradient_batches if gradients else self.batches), self.advance)

    def run(
        self, measure: Callable[..., Any], *arguments: Any, gradients: bool = False, **settings: Any
    ) -> tuple[Any, RecordedLoss]:
        """One of the package's measures on this network and data: its result, and the losses that it saw.

        Args:
            measure: takes a model, a loss and batches first.
            arguments, settings: its own; the seed is that of the options where none is given.
            gradients: it takes gradients, for which batches are smaller.
        """
        loss = self.recorded(gradients)
        settings = {"seed": self.options.seed, "progress": False} | settings
        return measure(
            self.model, loss, self.gradient_batches if gradients else self.batches, *arguments, **settings
        ), loss


@dataclass(frozen=True)
class Task:
    """A measure: its name, what a person reads while it runs, the passes over the data it makes, and the measure."""

    name: str
    words: str
    passes: float
    run: Callable[[Setting], Outcome]


def tasks_of(options: MeasureOptions, process: bool) -> list[Task]:
    """The measures that are asked for, in their order.

    Args:
        options: which.
        process: whether exposure bias can be measured.
    """
    tasks = [
        Task(f"lpf-{scale}", f"weight noise, {scale}", options.draws + 1, _low_pass(scale)) for scale in options.scales
    ]
    if options.curve_rms:
        tasks.append(Task("curve", "perturbation curve", options.curve_draws * len(options.curve_rms) + 1, _curve))
    tasks += [Task(f"quantization-{bits}", f"rounding to {bits} bits", 2, _rounding(bits)) for bits in options.bits]
    if not tasks:
        tasks.append(LOSS)
    if options.readout:
        tasks.append(Task("readout", "readout", 2 + 2 * len(options.bits), _readout))
    if process:
        share = options.exposure_images / max(options.images or 1, 1)
        tasks += [Task(f"exposure-{t}", f"exposure bias, T' = {t}", 2 * t * share, _exposure(t)) for t in options.steps]
    if options.by_timestep:
        tasks.append(Task("timesteps", "rise by timestep", options.draws + 1, _timesteps))
    if options.worst_case:
        tasks.append(Task("worst-case", "worst case in a ball", 5 * options.ascent_steps + 1, _worst_case))
    if options.surface:
        tasks.append(Task("surface", "loss surface", options.surface**2 + 1, _surface))
    if options.curvature:
        passes = 4 * (options.probes + options.lanczos_steps) + 1
        tasks.append(Task("curvature", "curvature", passes, _curvature))
    if options.spectrum:
        passes = 4 * options.spectrum * options.lanczos_steps + 1
        tasks.append(Task("spectrum", "spectral density", passes, _spectrum))
    return tasks


def _loss(at: Setting) -> Outcome:
    losses = Losses(at.recorded(), at.model, at.batches, at.options.seed)
    with undisturbed(at.model, eval_mode=True) as buffers:
        losses.buffers = buffers
        values = losses()
    return Outcome({"samples": len(values)}, [_unmoved(values[None])])


LOSS = Task("loss", "loss", 1, _loss)
"""The loss alone."""


def _in_bits(at: Setting, name: str, words: str, rises: Tensor, scale: str = "") -> list[Quantity]:
    """Rises (draws, N) of the variational bound, in bits per dimension; [] where the process does not give them.

    It does where times are drawn alike from all steps of a discrete process, each of which has a likelihood.
    """
    loss = at.loss
    if not isinstance(loss, DiffusionLoss) or not isinstance(loss.path, DiscretePath):
        return []
    if not _evenly_drawn(loss):
        return []
    try:
        in_nats = likelihood_loss(loss, variance=at.variance)
    except ValueError:  # a weight of its own, or a step without a likelihood, as of a schedule that ends in pure noise
        return []
    u = torch.cat([batch.u.cpu() for batch in at.batches if batch.u is not None])
    bits = rises * in_nats.of_samples(u, 1) / math.log(2.0)
    return [Quantity.of(f"{name}.bits", f"{words}, bits per dimension of the bound", Part(bits), scale=scale)]


def _evenly_drawn(loss: DiffusionLoss) -> bool:
    """Whether training draws all times alike."""
    return loss.times in (None, loss.path.uniform())


def _unmoved(losses: Tensor) -> Quantity:
    return Quantity.of("loss", "loss", Part(losses[:1]))


def _noise_in_words(sigma: float, scale: str) -> str:
    units = {"absolute": "", "weight": " of each weight"}
    return f"noise {sigma:g}" + units.get(scale, f" of each {scale}'s rms")


def _low_pass(scale: str) -> Callable[[Setting], Outcome]:
    def run(at: Setting) -> Outcome:
        result, losses = _under_noise(at, scale)
        rises = losses[1:] - losses[:1]
        noise = _noise_in_words(at.sigma(scale), scale)
        quantities = [
            _unmoved(losses),
            Quantity.of(f"lpf-{scale}.value", f"LPF, {noise}", Part(losses[1:]), scale=scale),
            Quantity.of(f"lpf-{scale}.rise", f"rise, {noise}", Part(rises), scale=scale, tick=f"noise,\n{scale}"),
            *_in_bits(at, f"lpf-{scale}", f"rise, {noise}", rises, scale),
        ]
        return Outcome(stored(result), quantities)

    return run


def _under_noise(at: Setting, scale: str) -> tuple[Any, Tensor]:
    """The low-pass filter, and its losses (1 + draws, N), those of the unmoved weights first."""
    draws = at.options.draws
    result, loss = at.run(flatness.low_pass_filter, sigma=at.sigma(scale), draws=draws, scale=scale)
    return result, loss.matrix(draws + 1)


def _curve(at: Setting) -> Outcome:
    """Along other directions than the low-pass filter's, which the curve would otherwise run once more."""
    options = at.options
    weights = sum(parameter.numel() for parameter in at.model.parameters())
    distances = [rms * math.sqrt(weights) for rms in options.curve_rms]
    seed = derived_seed("curve", options.seed)
    curve, loss = at.run(flatness.perturbation_curve, distances, draws=options.curve_draws, seed=seed)
    losses = loss.matrix(options.curve_draws * len(distances) + 1)
    along = losses[1:].view(options.curve_draws, len(distances), -1)
    quantities = [_unmoved(losses)]
    for index, rms in enumerate(options.curve_rms):
        rises = Part(along[:, index] - losses[:1])
        quantities.append(Quantity.of(f"curve.rise-{rms:g}", f"rise at a distance of rms {rms:g}", rises, x=rms))
    return Outcome(stored(curve) | {"rms": list(options.curve_rms)}, quantities)


def _rounding(bits: int) -> Callable[[Setting], Outcome]:
    def run(at: Setting) -> Outcome:
        result, losses = _rounded(at, bits)
        words, rises = f"rise, rounded to {bits} bits", losses[1:] - losses[:1]
        rise = Quantity.of(f"quantization-{bits}.rise", words, Part(rises), tick=f"{bits} bits")
        in_bits = _in_bits(at, f"quantization-{bits}", words, rises)
        return Outcome(stored(result), [_unmoved(losses), rise, *in_bits])

    return run


def _rounded(at: Setting, bits: int, **settings: Any) -> tuple[Any, Tensor]:
    """The rise under rounding, and the losses (2, N) before and after."""
    result, loss = at.run(flatness.quantization_rise, bits, granularity=at.options.granularity, **settings)
    return result, loss.matrix(2)


def _readout(at: Setting) -> Outcome:
    """Feature energy; and where the loss is the output's squared error, the rises it predicts beside measured ones."""
    readout, _ = at.run(flatness.readout, second_moment=False)
    samples = int(readout.settings["samples"])
    energy = Uncertain.of_estimate(readout.feature_energy, samples)
    quantities = [Quantity("readout.energy", f"feature energy of {readout.layer or 'the model'}", energy)]
    rises: dict[str, Any] = {}
    if squared_error(at.loss) and readout.is_output:
        rises = _predicted_and_measured(at, readout, quantities, samples)
    return Outcome(stored(readout) | {"rises": plain(rises)}, quantities)


def _predicted_and_measured(at: Setting, readout: Readout, quantities: list[Quantity], samples: int) -> dict[str, Any]:
    options = at.options
    weight = f"{readout.layer}.weight".lstrip(".")
    noise = readout.noise_rise(options.relative_sigma, scale="layer")
    rises: dict[str, Any] = {"lpf-layer": {"predicted": noise}}

    def predicted(name: str, words: str, estimate: Estimate, detail: bool = False) -> Quantity:
        return Quantity(f"readout.{name}", words, Uncertain.of_estimate(estimate, samples), detail=detail)

    words = f"readout alone, noise {options.relative_sigma:g} of its rms: predicted"
    quantities.append(predicted("noise-predicted", words, noise))
    for bits in options.bits:
        measured, losses = _rounded(at, bits, parameters=[weight])
        expected = readout.quantization_rise(bits, granularity=options.granularity)
        rises[f"quantization-{bits}"] = {"predicted": expected, "measured": measured.rise}
        name, words = f"quantization-{bits}", f"readout alone, rounded to {bits} bits"
        # Predicted to second order, while rounding to the nearest has a linear part too, of any size for one network
        quantities.append(predicted(f"{name}-predicted", f"{words}: predicted", expected, detail=True))
        rise = Part(losses[1:] - losses[:1])
        quantities.append(Quantity.of(f"readout.{name}-measured", f"{words}: measured", rise, detail=True))
    return rises


def squared_error(loss: object) -> bool:
    """Whether a sample's loss is known to be the mean squared error of the network's output, with weight 1."""
    return isinstance(loss, DiffusionLoss) and loss.is_squared_error


def _exposure(count: int) -> Callable[[Setting], Outcome]:
    def run(at: Setting) -> Outcome:
        process = at.process
        assert process is not None
        steps = respaced_steps(len(process.alphas_cumprod), count)
        model = RecordedNorms(process.epsilon_model, at.advance)
        bias = flatness.exposure_bias(
            model, process.alphas_cumprod, steps, at.exposure, variance=process.variance, clip=process.clip,
            batch_size=at.batch_size, seed=at.options.seed, progress=False,
        )  # fmt: skip
        training, sampling = model.norms(len(steps), len(at.exposure))
        signs = torch.where(sampling.mean(1) < training.mean(1), -1.0, 1.0).double()[:, None]
        words = f"exposure bias, T' = {count}"
        quantities = [
            _gap(f"exposure-{count}.{name}", f"{words}: {what}", factor * training, factor * sampling)
            for name, what, factor in (("gap", "norm's gap", signs), ("signed-gap", "the same, signed", signs.abs()))
        ]
        return Outcome(bias.to_dict(), quantities, sampling_steps=count)

    return run


def _gap(name: str, words: str, training: Tensor, sampling: Tensor) -> Quantity:
    """The mean over steps of norms (steps, samples) along chains less those on images."""
    return Quantity.of(name, words, Part(sampling.mean(0)[None]), Part(training.mean(0)[None], -1.0))


def _worst_case(at: Setting) -> Outcome:
    options = at.options
    worst, loss = at.run(flatness.worst_case_sharpness, rho=options.rho, steps=options.ascent_steps, gradients=True)
    losses = loss.matrix(2 * options.ascent_steps + 1)
    rises = losses[2::2] - losses[:1]  # between them the passes with gradients
    best = int(rises.mean(1).argmax())
    largest = rises[best : best + 1]
    if not worst.rise.value > 0:  # the centre of the ball is in it
        largest = torch.zeros_like(largest)
    words = f"worst rise in a ball of radius {options.rho:g}"
    tick = f"worst,\nradius {options.rho:g}"
    return Outcome(stored(worst), [Quantity.of("worst-case.rise", words, Part(largest), tick=tick)])


def _surface(at: Setting) -> Outcome:
    options = at.options
    half = options.surface // 2
    places = [options.surface_range * (index - half) / half for index in range(options.surface)]
    surface, loss = at.run(flatness.loss_surface, places, places, seed=derived_seed("surface", options.seed))
    return Outcome(stored(surface), [_unmoved(loss.matrix(options.surface**2 + 1))])


def _curvature(at: Setting) -> Outcome:
    options = at.options
    curvature, _ = at.run(flatness.curvature, probes=options.probes, max_steps=options.lanczos_steps, gradients=True)
    residual = "" if curvature.converged else f" (not converged: residual {curvature.residual:.2g})"
    top = Uncertain.without_error(curvature.top_eigenvalue)
    trace = _over_probes(curvature.trace, options.probes)
    quantities = [
        Quantity("curvature.top", f"largest eigenvalue of the Hessian{residual}", top),
        Quantity("curvature.trace", "trace of the Hessian (error over probes alone)", trace),
    ]
    return Outcome(stored(curvature), quantities)


def _over_probes(estimate: Estimate, probes: int) -> Uncertain:
    """With its error over the probes; that over samples is not estimated."""
    over_draws = Estimate(estimate.value, estimate.draw_standard_error, 0.0)
    return dataclasses.replace(Uncertain.of_estimate(over_draws, probes), data_error=math.nan)


def _spectrum(at: Setting) -> Outcome:
    probes = at.options.spectrum
    density, _ = at.run(flatness.spectral_density, probes=probes, steps=at.options.lanczos_steps, gradients=True)
    places = density.grid()
    drawn = {"at": places, "width": density.default_width(), "density": density.density(places)}
    quantities = [
        *(
            Quantity(f"spectrum.{name}", f"{name} eigenvalue that Lanczos finds", Uncertain.without_error(value))
            for name, value in (("largest", density.largest), ("smallest", density.smallest))
        ),
        Quantity(
            "spectrum.trace", "sum of the eigenvalues (error over probes alone)", _over_probes(density.trace, probes)
        ),
        Quantity(
            "spectrum.negative", "sum of the negative eigenvalues (likewise)", _over_probes(density.negative, probes)
        ),
    ]
    return Outcome(stored(density) | {"drawn": plain(drawn)}, quantities)


def _timesteps(at: Setting) -> Outcome:
    """The rise under the finest weight noise that is asked for, in bins of timesteps, and its totals."""
    options, loss = at.options, at.loss
    if not isinstance(loss, DiffusionLoss):
        raise DoesNotApplyError("its loss is a function of the source's own, whose timesteps are not known")
    scale = next((name for name in ("weight", "filter", "layer", "absolute") if name in options.scales), "filter")
    sigma = at.sigma(scale)
    variance, why = _with_likelihood(loss, at.variance)
    samples = sum(len(batch.x_0) for batch in at.batches)
    evenly = step_losses(
        at.model, loss, at.batches, sigma=sigma, draws=options.draws, scale=scale, variance=variance,
        seed=options.seed, progress=lambda done, total: at.advance(samples),
    )  # fmt: skip
    bins = min(options.by_timestep, len(evenly.times))
    curve, rises = evenly.binned(bins), evenly.rises
    words = f"rise, {_noise_in_words(sigma, scale)}"
    total = Part(rises if _evenly_drawn(loss) else _as_trained(at, scale))
    quantities = [Quantity.of("timesteps.rise", f"{words}: total, as trained", total)]
    if evenly.factors is not None:
        nats = Part(rises * evenly.factors)
        quantities.append(Quantity.of("timesteps.nats", f"{words}: total, nats of the bound", nats))
    for one, inside in zip(curve.bins, evenly.members(bins), strict=True):
        low, high = (f"{time:.3g}" if isinstance(time, float) else str(time) for time in one.times)
        name, place = f"timesteps.rise-{one.first}-{one.last}", (one.times[0] + one.times[1]) / 2
        quantities.append(Quantity.of(name, f"{words}: timesteps {low} to {high}", Part(rises[:, inside]), x=place))
    result = stored(curve) | {"scale": scale, "sigma": sigma, "no_nats": why or None}
    return Outcome(result, quantities, f"timesteps have no nats: {why}" if why else "")


def _with_likelihood(loss: DiffusionLoss, variance: str) -> tuple[str | None, str]:
    """The variance of the bound, and ""; or None, and why the loss has none."""
    try:
        likelihood_loss(loss, variance=variance)
    except ValueError as error:
        return None, text_of(error)
    return variance, ""


def _as_trained(at: Setting, scale: str) -> Tensor:
    """Rises (draws, N) under the same weight noise, at the times of training."""
    _, losses = _under_noise(dataclasses.replace(at, advance=lambda samples: None), scale)
    return losses[1:] - losses[:1]
