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
from flatness.diffusion.ancestral_sampling import respaced_steps
from flatness.diffusion.likelihood import FIXED_VARIANCES, likelihood_loss
from flatness.diffusion.losses import Batch, DiffusionLoss
from flatness.diffusion.noise_paths import DiscretePath
from flatness.diffusion.sampling import SamplingProcess
from flatness.measuring.base import Estimate, Losses, plain, undisturbed
from flatness.measuring.readout import Readout
from flatness.measuring.rise_by_timestep import step_losses
from flatness.weights import derived_seed


@dataclass(frozen=True)
class Quantity:
    """A number of a measure.

    Attributes:
        name: for records, "lpf-filter.rise".
        words: for people.
        found: the number with its errors.
        parts: the single values it is the mean of; () where they are not known.
        x: where it lies on a curve; None for a number of its own.
        tick: what it is called on the axis of rises; "" where it is none of them.
        scale: of the weight noise that it is a number of; "" for others.
        detail: it is for records alone, not for tables.
    """

    name: str
    words: str
    found: Uncertain
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

    def recorded(self) -> RecordedLoss:
        """The loss, that keeps what it gives."""
        return RecordedLoss(self.loss, len(self.batches), self.advance)


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
    found = [
        Task(f"lpf-{scale}", f"weight noise, {scale}", options.draws + 1, _low_pass(scale)) for scale in options.scales
    ]
    if options.curve_rms:
        found.append(Task("curve", "perturbation curve", options.curve_draws * len(options.curve_rms) + 1, _curve))
    found += [Task(f"quantization-{bits}", f"rounding to {bits} bits", 2, _rounding(bits)) for bits in options.bits]
    if not found:
        found.append(LOSS)
    if options.readout:
        found.append(Task("readout", "readout", 2 + 2 * len(options.bits), _readout))
    if process:
        share = options.exposure_images / max(options.images or 1, 1)
        found += [Task(f"exposure-{t}", f"exposure bias, T' = {t}", 2 * t * share, _exposure(t)) for t in options.steps]
    if options.by_timestep:
        found.append(Task("timesteps", "rise by timestep", options.draws + 1, _timesteps))
    if options.worst_case:
        found.append(Task("worst-case", "worst case in a ball", 5 * options.ascent_steps + 1, _worst_case))
    if options.surface:
        found.append(Task("surface", "loss surface", options.surface**2 + 1, _surface))
    if options.curvature:
        passes = 4 * (options.probes + options.lanczos_steps) + 1
        found.append(Task("curvature", "curvature", passes, _curvature))
    if options.spectrum:
        passes = 4 * options.spectrum * options.lanczos_steps + 1
        found.append(Task("spectrum", "spectral density", passes, _spectrum))
    return found


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
    if loss.times not in (None, loss.path.uniform()):
        return []
    own = at.process.variance if at.process is not None else "small"
    try:
        in_nats = likelihood_loss(loss, variance=own if own in FIXED_VARIANCES else "small")
    except ValueError:  # a weight of its own, or a step without a likelihood, as of a schedule that ends in pure noise
        return []
    u = torch.cat([batch.u.cpu() for batch in at.batches if batch.u is not None])
    bits = rises * in_nats.of_samples(u, 1) / math.log(2.0)
    return [Quantity.of(f"{name}.bits", f"{words}, bits per dimension of the bound", Part(bits), scale=scale)]


def _unmoved(losses: Tensor) -> Quantity:
    return Quantity.of("loss", "loss", Part(losses[:1]))


def _noise_in_words(sigma: float, scale: str) -> str:
    units = {"absolute": "", "weight": " of each weight"}
    return f"noise {sigma:g}" + units.get(scale, f" of each {scale}'s rms")


def _low_pass(scale: str) -> Callable[[Setting], Outcome]:
    def run(at: Setting) -> Outcome:
        options, loss = at.options, at.recorded()
        sigma = options.sigma if scale == "absolute" else options.relative_sigma
        found = flatness.low_pass_filter(
            at.model, loss, at.batches, sigma=sigma, draws=options.draws, scale=scale, seed=options.seed, progress=False
        )
        losses = loss.matrix(options.draws + 1)
        rises = losses[1:] - losses[:1]
        told = _noise_in_words(sigma, scale)
        quantities = [
            _unmoved(losses),
            Quantity.of(f"lpf-{scale}.value", f"LPF, {told}", Part(losses[1:]), scale=scale),
            Quantity.of(f"lpf-{scale}.rise", f"rise, {told}", Part(rises), scale=scale, tick=f"noise,\n{scale}"),
            *_in_bits(at, f"lpf-{scale}", f"rise, {told}", rises, scale),
        ]
        return Outcome(stored(found), quantities)

    return run


def _curve(at: Setting) -> Outcome:
    """Along other directions than the low-pass filter's, which the curve would otherwise run once more."""
    options, loss = at.options, at.recorded()
    weights = sum(parameter.numel() for parameter in at.model.parameters())
    distances = [rms * math.sqrt(weights) for rms in options.curve_rms]
    found = flatness.perturbation_curve(
        at.model, loss, at.batches, distances, draws=options.curve_draws, seed=derived_seed("curve", options.seed),
        progress=False,
    )  # fmt: skip
    losses = loss.matrix(options.curve_draws * len(distances) + 1)
    along = losses[1:].view(options.curve_draws, len(distances), -1)
    quantities = [_unmoved(losses)]
    for index, rms in enumerate(options.curve_rms):
        rises = Part(along[:, index] - losses[:1])
        quantities.append(Quantity.of(f"curve.rise-{rms:g}", f"rise at a distance of rms {rms:g}", rises, x=rms))
    return Outcome(stored(found) | {"rms": list(options.curve_rms)}, quantities)


def _rounding(bits: int) -> Callable[[Setting], Outcome]:
    def run(at: Setting) -> Outcome:
        loss = at.recorded()
        found = flatness.quantization_rise(
            at.model, loss, at.batches, bits, granularity=at.options.granularity, seed=at.options.seed
        )
        losses = loss.matrix(2)
        words, rises = f"rise, rounded to {bits} bits", losses[1:] - losses[:1]
        rise = Quantity.of(f"quantization-{bits}.rise", words, Part(rises), tick=f"{bits} bits")
        in_bits = _in_bits(at, f"quantization-{bits}", words, rises)
        return Outcome(stored(found), [_unmoved(losses), rise, *in_bits])

    return run


def _readout(at: Setting) -> Outcome:
    """Feature energy; and where the loss is the output's squared error, the rises it predicts beside measured ones."""
    options = at.options
    found = flatness.readout(
        at.model, at.recorded(), at.batches, second_moment=False, seed=options.seed, progress=False
    )
    samples = int(found.settings["samples"])
    energy = Uncertain.of_estimate(found.feature_energy, samples)
    quantities = [Quantity("readout.energy", f"feature energy of {found.layer or 'the model'}", energy)]
    rises: dict[str, Any] = {}
    if squared_error(at.loss) and found.is_output:
        rises = _predicted_and_measured(at, found, quantities, samples)
    return Outcome(stored(found) | {"rises": plain(rises)}, quantities)


def _predicted_and_measured(at: Setting, found: Readout, quantities: list[Quantity], samples: int) -> dict[str, Any]:
    options = at.options
    weight = f"{found.layer}.weight".lstrip(".")
    noise = found.noise_rise(options.relative_sigma, scale="layer")
    rises: dict[str, Any] = {"lpf-layer": {"predicted": noise}}

    def predicted(name: str, words: str, estimate: Estimate, detail: bool = False) -> Quantity:
        return Quantity(f"readout.{name}", words, Uncertain.of_estimate(estimate, samples), detail=detail)

    told = f"noise {options.relative_sigma:g} of its rms"
    quantities.append(predicted("noise-predicted", f"readout alone, {told}: predicted", noise))
    for bits in options.bits:
        loss = at.recorded()
        measured = flatness.quantization_rise(
            at.model, loss, at.batches, bits, granularity=options.granularity, parameters=[weight], seed=options.seed
        )
        expected = found.quantization_rise(bits, granularity=options.granularity)
        rises[f"quantization-{bits}"] = {"predicted": expected, "measured": measured.rise}
        losses = loss.matrix(2)
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
        found = flatness.exposure_bias(
            model, process.alphas_cumprod, steps, at.exposure, variance=process.variance, clip=process.clip,
            batch_size=at.batch_size, seed=at.options.seed, progress=False,
        )  # fmt: skip
        training, sampling = model.norms(len(steps), len(at.exposure))
        signs = torch.where(sampling.mean(1) < training.mean(1), -1.0, 1.0).double()[:, None]
        words = f"exposure bias, T' = {count}"
        quantities = [
            _gap(f"exposure-{count}.{name}", f"{words}: {told}", factor * training, factor * sampling)
            for name, told, factor in (("gap", "norm's gap", signs), ("signed-gap", "the same, signed", signs.abs()))
        ]
        return Outcome(found.to_dict(), quantities, sampling_steps=count)

    return run


def _gap(name: str, words: str, training: Tensor, sampling: Tensor) -> Quantity:
    """The mean over steps of norms (steps, samples) along chains less those on images."""
    return Quantity.of(name, words, Part(sampling.mean(0)[None]), Part(training.mean(0)[None], -1.0))


def _worst_case(at: Setting) -> Outcome:
    options = at.options
    loss = RecordedLoss(at.loss, len(at.gradient_batches), at.advance)
    found = flatness.worst_case_sharpness(
        at.model, loss, at.gradient_batches, rho=options.rho, steps=options.ascent_steps, seed=options.seed,
        progress=False,
    )  # fmt: skip
    losses = loss.matrix(2 * options.ascent_steps + 1)
    rises = losses[2::2] - losses[:1]  # between them the passes with gradients
    best = int(rises.mean(1).argmax())
    worst = rises[best : best + 1]
    if not found.rise.value > 0:  # the centre of the ball is in it
        worst = torch.zeros_like(worst)
    words = f"worst rise in a ball of radius {options.rho:g}"
    tick = f"worst,\nradius {options.rho:g}"
    return Outcome(stored(found), [Quantity.of("worst-case.rise", words, Part(worst), tick=tick)])


def _surface(at: Setting) -> Outcome:
    options, loss = at.options, at.recorded()
    half = options.surface // 2
    places = [options.surface_range * (index - half) / half for index in range(options.surface)]
    found = flatness.loss_surface(
        at.model, loss, at.batches, places, places, seed=derived_seed("surface", options.seed), progress=False
    )
    return Outcome(stored(found), [_unmoved(loss.matrix(options.surface**2 + 1))])


def _curvature(at: Setting) -> Outcome:
    options = at.options
    loss = RecordedLoss(at.loss, len(at.gradient_batches), at.advance)
    found = flatness.curvature(
        at.model, loss, at.gradient_batches, probes=options.probes, max_steps=options.lanczos_steps, seed=options.seed,
        progress=False,
    )  # fmt: skip
    nan = math.nan
    top = Uncertain(found.top_eigenvalue, nan, nan, nan, nan)
    trace = Uncertain.of_estimate(Estimate(found.trace.value, found.trace.draw_standard_error, 0.0), options.probes)
    trace = dataclasses.replace(trace, data_error=nan)  # not estimated
    told = "" if found.converged else f" (not converged: residual {found.residual:.2g})"
    quantities = [
        Quantity("curvature.top", f"largest eigenvalue of the Hessian{told}", top),
        Quantity("curvature.trace", "trace of the Hessian (error over probes alone)", trace),
    ]
    return Outcome(stored(found), quantities)


def _spectrum(at: Setting) -> Outcome:
    options = at.options
    loss = RecordedLoss(at.loss, len(at.gradient_batches), at.advance)
    found = flatness.spectral_density(
        at.model, loss, at.gradient_batches, probes=options.spectrum, steps=options.lanczos_steps, seed=options.seed,
        progress=False,
    )  # fmt: skip
    places, nan = found.grid(), math.nan
    drawn = {"at": places, "width": found.default_width(), "density": found.density(places)}

    def over_probes(estimate: Estimate) -> Uncertain:
        told = Uncertain.of_estimate(Estimate(estimate.value, estimate.draw_standard_error, 0.0), options.spectrum)
        return dataclasses.replace(told, data_error=nan)

    quantities = [
        *(
            Quantity(f"spectrum.{name}", f"{name} eigenvalue that Lanczos finds", Uncertain(value, nan, nan, nan, nan))
            for name, value in (("largest", found.largest), ("smallest", found.smallest))
        ),
        Quantity("spectrum.trace", "sum of the eigenvalues (error over probes alone)", over_probes(found.trace)),
        Quantity("spectrum.negative", "sum of the negative eigenvalues (likewise)", over_probes(found.negative)),
    ]
    return Outcome(stored(found) | {"drawn": plain(drawn)}, quantities)


def _timesteps(at: Setting) -> Outcome:
    """The rise under the finest weight noise that is asked for, in bins of timesteps, and its totals."""
    options, loss = at.options, at.loss
    if not isinstance(loss, DiffusionLoss):
        raise DoesNotApplyError("its loss is a function of the source's own, whose timesteps are not known")
    scale = next((name for name in ("weight", "filter", "layer", "absolute") if name in options.scales), "filter")
    sigma = options.sigma if scale == "absolute" else options.relative_sigma
    own = at.process.variance if at.process is not None else "small"
    variance, why = _with_likelihood(loss, own if own in FIXED_VARIANCES else "small")
    samples = sum(len(batch.x_0) for batch in at.batches)
    evenly = step_losses(
        at.model, loss, at.batches, sigma=sigma, draws=options.draws, scale=scale, variance=variance,
        seed=options.seed, progress=lambda done, total: at.advance(samples),
    )  # fmt: skip
    bins = min(options.by_timestep, len(evenly.times))
    curve, rises = evenly.binned(bins), evenly.rises
    told = _noise_in_words(sigma, scale)
    total = Part(rises if loss.times in (None, loss.path.uniform()) else _as_trained(at, sigma, scale))
    quantities = [Quantity.of("timesteps.rise", f"rise, {told}: total, as trained", total)]
    if evenly.factors is not None:
        nats = Part(rises * evenly.factors)
        quantities.append(Quantity.of("timesteps.nats", f"rise, {told}: total, nats of the bound", nats))
    for one, inside in zip(curve.bins, evenly.members(bins), strict=True):
        low, high = (f"{time:.3g}" if isinstance(time, float) else str(time) for time in one.times)
        words = f"rise, {told}: timesteps {low} to {high}"
        place = (one.times[0] + one.times[1]) / 2
        quantities.append(Quantity.of(f"timesteps.rise-{one.first}-{one.last}", words, Part(rises[:, inside]), x=place))
    result = stored(curve) | {"scale": scale, "sigma": sigma, "no_nats": why or None}
    return Outcome(result, quantities, f"timesteps have no nats: {why}" if why else "")


def _with_likelihood(loss: DiffusionLoss, variance: str) -> tuple[str | None, str]:
    """The variance of the bound, and ""; or None, and why the loss has none."""
    try:
        likelihood_loss(loss, variance=variance)
    except ValueError as error:
        return None, text_of(error)
    return variance, ""


def _as_trained(at: Setting, sigma: float, scale: str) -> Tensor:
    """Rises (draws, N) under the same weight noise, at the times of training."""
    options, loss = at.options, RecordedLoss(at.loss, len(at.batches))
    flatness.low_pass_filter(
        at.model, loss, at.batches, sigma=sigma, draws=options.draws, scale=scale, seed=options.seed, progress=False
    )
    losses = loss.matrix(options.draws + 1)
    return losses[1:] - losses[:1]


def stored(found: Any) -> dict[str, Any]:
    """A measurement for JSON; a list of all weights' names is left out."""
    kept: dict[str, Any] = found.to_dict()
    if len(kept["settings"].get("parameters", ())) > 2:
        kept["settings"]["parameters"] = "all"
    return kept
