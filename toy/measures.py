"""What is measured on trained models: S seeds in one pass, a number a seed, on draws shared by all methods.

The measures are those of `flatness`, with the same definitions; a seed's evaluation points, weight noise and sampling
noise are functions of its number alone, so that methods are compared on common random numbers.

The Hessian in theta while the features stay as they are is measured, and computed as Theorem T3 has it: the loss is
then a quadratic in theta with Hessian (2/d) M kron I_d, M = E psi psi^T, whatever theta is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flatness.measuring.quantization import quantize_tensor
from toy.data import GaussianMixture, generator_of
from toy.distances import projections, sliced_wasserstein
from toy.models import ScoreModels, predicted_noise
from toy.process import Process
from toy.sampling import gap, sample, training_norms
from toy.training_sets import Data, source_of

PerSeed = Float[Tensor, " S"]
DRAWS_AT_ONCE = 32
"""Draws of noise on theta that are evaluated together: their outputs take no more memory than the features."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Fixed points on which losses are taken.

    Attributes:
        t: (S, n), evenly spread over the process's steps.
        x_t: (S, n, d).
        epsilon: (S, n, d), the target.
        seeds: the S numbers.
    """

    t: Int[Tensor, "S n"]
    x_t: Float[Tensor, "S n d"]
    epsilon: Float[Tensor, "S n d"]
    seeds: tuple[int, ...]


def evaluation_points(data: Data, process: Process, seeds: Sequence[int], points: int) -> Evaluation:
    """Points and targets of each seed. Two mixtures of equal shape get the same underlying draws."""
    t = (torch.arange(points) * process.steps // points).expand(len(seeds), points)
    x, targets = [], []
    for number in seeds:
        generator = generator_of("evaluation", number)
        x_0 = source_of(data, number).sample(points, generator, torch.float32)
        targets.append(torch.randn(x_0.shape, generator=generator))
        x.append(process.noisy(x_0, t[0], targets[-1]))
    return Evaluation(t, torch.stack(x), torch.stack(targets), tuple(seeds))


Weights = tuple[Tensor, ...]
"""theta (S, d, m) and, where the features are learnt, W (S, d, m) and U (S, k, m)."""


class Losses:
    """The mean loss of each seed at any weights: `losses(weights)` is (S,), in float64."""

    def __init__(self, models: ScoreModels, evaluation: Evaluation) -> None:
        """Gather what does not depend on the weights."""
        self.models = models
        self.evaluation = evaluation
        self.inputs = torch.cat([evaluation.x_t, models.embedding[evaluation.t]], dim=-1)
        self.scale = models.scales[evaluation.t][..., None]
        self.weights: Weights = (models.theta, models.W, models.U) if models.learn_features else (models.theta,)

    def __call__(self, weights: Sequence[Tensor]) -> PerSeed:
        """The mean squared error over points and coordinates."""
        theta, W, U = (*weights, *(self.models.W, self.models.U)[len(weights) - 1 :])
        V = torch.cat([W, U], dim=1)
        predicted = predicted_noise(theta, V, self.inputs, self.scale, self.models.activation)
        return (predicted - self.evaluation.epsilon).square().mean((1, 2), dtype=torch.float64)

    def psi(self) -> Float[Tensor, "S n m"]:
        """The readout's input, c_t phi / divisor."""
        return self.models.features(self.evaluation.x_t, self.evaluation.t) * self.scale


def noise_like(weights: Sequence[Tensor], seeds: Sequence[int], draw: int) -> list[Tensor]:
    """Standard normal numbers of the weights' shapes, a function of (seed, draw)."""
    generators = [generator_of("weight noise", number, draw) for number in seeds]
    return [torch.stack([torch.randn(w.shape[1:], generator=g) for g in generators]) for w in weights]


def root_mean_square(weight: Float[Tensor, "S a b"]) -> Float[Tensor, "S 1 1"]:
    """Of each seed's tensor."""
    return weight.square().mean((1, 2), keepdim=True).sqrt()


def low_pass_rise(losses: Losses, sigma: float, draws: int, *, relative: bool = False) -> PerSeed:
    """The rise of the loss under Gaussian noise on all learnt weights, the mean over draws.

    Args:
        losses: of the models.
        sigma: the deviation; in units of each tensor's root mean square if relative.
        draws: number of draws.
        relative: see sigma.
    """
    weights = losses.weights
    units = [root_mean_square(w) if relative else torch.ones(()) for w in weights]
    total = torch.zeros(len(losses.evaluation.seeds), dtype=torch.float64)
    for draw in range(draws):
        noise = noise_like(weights, losses.evaluation.seeds, draw)
        total += losses([w + sigma * unit * z for w, unit, z in zip(weights, units, noise, strict=True)])
    return total / draws - losses(weights)


def rise_along_curve(losses: Losses, distances: Sequence[float], draws: int) -> Float[Tensor, "S g"]:
    """The loss at given distances from the weights in random directions (Cha et al., 2021), the mean over draws."""
    weights = losses.weights
    total = torch.zeros(len(losses.evaluation.seeds), len(distances), dtype=torch.float64)
    for draw in range(draws):
        noise = noise_like(weights, losses.evaluation.seeds, draw)
        norm = torch.as_tensor(sum(z.square().sum((1, 2), keepdim=True) for z in noise)).sqrt()
        for index, distance in enumerate(distances):
            total[:, index] += losses([w + distance / norm * z for w, z in zip(weights, noise, strict=True)])
    return total / draws


def readout_rise(
    psi: Float[Tensor, "S n m"],
    residual: Float[Tensor, "S n d"],
    seeds: Sequence[int],
    scale: float | Float[Tensor, "S 1 1"],
    draws: int,
    *,
    uniform: bool = False,
) -> PerSeed:
    """The rise of the loss under noise on theta alone, the mean over draws.

    The noise is normal of deviation `scale`, or uniform on an interval of that length: dither of one step.

    Many draws are needed: a draw's rise scatters by about its mean, since few directions of theta carry the Hessian.
    """
    S, d, m = len(seeds), residual.shape[2], psi.shape[2]
    generators = [generator_of("readout noise", number) for number in seeds]
    total = torch.zeros(S, dtype=torch.float64)
    for start in range(0, draws, DRAWS_AT_ONCE):
        count = min(DRAWS_AT_ONCE, draws - start)
        drawn = [(torch.rand if uniform else torch.randn)(m, count * d, generator=g) for g in generators]
        z = torch.stack(drawn) - (0.5 if uniform else 0.0)
        moved = torch.bmm(psi, scale * z).unflatten(2, (count, d))
        total += (moved * (moved + 2.0 * residual[:, :, None])).mean((1, 3), dtype=torch.float64).sum(1)
    return total / draws


def readout_measures(losses: Losses, sigma: float, draws: int) -> dict[str, PerSeed]:
    """The readout's flatness measured next to what T3 says of it from the features alone.

    `feature_energy` is E|psi|^2, which is the theory's E|phi|^2 where noise is predicted and the divisor is 1.
    `top_rise_ratio` is the rise at T3's flat radius along the top eigenvector of E psi psi^T, both ways, over kappa: 1
    by T3 for every method, whatever kappa is (kappa = loss / 10 here, so that rounding does not show).
    """
    psi, theta = losses.psi(), losses.models.theta
    S, d, m = theta.shape
    residual = torch.bmm(psi, theta.mT) - losses.evaluation.epsilon
    energy = psi.square().sum(-1).mean(1, dtype=torch.float64)
    rises = readout_rise(psi, residual, losses.evaluation.seeds, sigma, draws)
    second = torch.bmm(psi.double().mT, psi.double()) / psi.shape[1]
    eigenvalues, vectors = torch.linalg.eigh(second)
    loss = residual.square().mean((1, 2), dtype=torch.float64)
    kappa = loss / 10.0
    radius = (d * kappa / eigenvalues[:, -1]).sqrt()  # T3, for losses that are means over d coordinates
    delta = torch.zeros(S, d, m)
    delta[:, 0] = (radius[:, None] * vectors[:, :, -1]).to(theta.dtype)
    rest = losses.weights[1:]
    both = losses([theta + delta, *rest]) + losses([theta - delta, *rest])
    return {
        "feature_energy": energy,
        "readout_rise": rises,
        "readout_rise_t3": sigma**2 * energy,
        "hessian_top": 2.0 / d * eigenvalues[:, -1],
        "flat_radius": (d * 0.01 / eigenvalues[:, -1]).sqrt(),
        "top_rise_ratio": (both / 2.0 - loss) / kappa,
        "energy_times_norm": energy * theta.double().square().sum((1, 2)),
    }


def quantized_weights(weights: Sequence[Tensor], bits: int) -> list[Tensor]:
    """Each seed's tensors rounded to symmetric grids of their own, as `flatness.quantize_tensor` does."""
    return [torch.stack([quantize_tensor(one, bits) for one in w]) for w in weights]


def quantization_measures(
    losses: Losses, energy: PerSeed, bits: Sequence[int], dither_draws: int
) -> dict[str, PerSeed]:
    """The rise with all learnt weights rounded, with theta alone rounded, and T5's prediction of the latter.

    `even` is the rise with theta rounded less the part that is linear in the rounding error (the mean of the rises at
    both signs of the error): that part vanishes at a minimum, and minibatches leave theta beside one. `dithered` is the
    rise under uniform dither of one step on each weight of theta, of which T5 is exact.
    """
    unmoved = losses(losses.weights)
    theta, *rest = losses.weights
    psi = losses.psi()
    residual = torch.bmm(psi, theta.mT) - losses.evaluation.epsilon
    largest = theta.double().abs().amax((1, 2))
    measured = {"largest_theta": largest, "log_step_part": 2.0 * largest.log(), "log_energy_part": energy.log()}
    for b in bits:
        rounded = quantized_weights(losses.weights, b)
        measured[f"quantized_rise_{b}"] = losses(rounded) - unmoved
        measured[f"quantized_readout_rise_{b}"] = losses([rounded[0], *rest]) - unmoved
        error = rounded[0] - theta
        mirrored = losses([theta - error, *rest])
        measured[f"quantized_readout_even_{b}"] = (losses([rounded[0], *rest]) + mirrored) / 2.0 - unmoved
        step = largest / (2 ** (b - 1) - 1)
        scale = step.to(theta.dtype)[:, None, None]
        numbers = losses.evaluation.seeds
        dithered = readout_rise(psi, residual, numbers, scale, dither_draws, uniform=True)
        measured[f"dithered_readout_rise_{b}"] = dithered
        measured[f"quantized_readout_rise_{b}_t5"] = step.square() / 12.0 * energy
    return measured


def balanced(models: ScoreModels) -> ScoreModels:
    """The same functions with ||theta||_F = ||(W, U)||_F in every seed, by the rescaling of T7; for ReLU only."""
    norm = models.theta.square().sum((1, 2), keepdim=True).sqrt()
    features = torch.cat([models.W, models.U], 1).square().sum((1, 2), keepdim=True).sqrt()
    a = (norm / features).sqrt()
    return models.replaced(models.theta / a, models.W * a, models.U * a)


@dataclass(frozen=True, eq=False)
class Sampled:
    """Samples of every seed and what was measured along the way; curves are (S, steps)."""

    points: Float[Tensor, "S n d"]
    measures: dict[str, PerSeed]
    steps: tuple[int, ...]
    sampling_norm: Float[Tensor, "S steps"]
    training_norm: Float[Tensor, "S steps"]


def sampling_measures(
    models: ScoreModels, data: GaussianMixture, seeds: Sequence[int], count: int, points: int
) -> Sampled:
    """Sliced W_2 to fresh data and the epsilon-norm gap, with `count` respaced steps.

    `absolute_gap` is the epsilon-norm gap, the mean over steps of the difference's magnitude, which sampling noise
    raises, alike for all methods; `signed_gap` is the mean with signs.
    """
    sampled = sample(models.epsilon, models.process, data.dimension, count, seeds, points=points, clip=data.extent)
    real = training_norms(models.epsilon, models.process, data, count, seeds, points=points)
    difference, _ = gap(sampled.norms, real)
    fresh = torch.stack([data.sample(points, generator_of("fresh data", number)) for number in seeds])
    distance = sliced_wasserstein(sampled.points, fresh, projections(data.dimension)).value
    measures = {
        f"sw_{count}": distance,
        f"absolute_gap_{count}": difference.abs().mean(1),
        f"signed_gap_{count}": difference.mean(1),
    }
    return Sampled(sampled.points, measures, sampled.norms.steps, sampled.norms.mean, real.mean)


def distance_floor(data: GaussianMixture, seeds: Sequence[int], points: int) -> PerSeed:
    """Sliced W_2 between two samples of the data: what a perfect sampler would get."""
    first, second = (
        torch.stack([data.sample(points, generator_of(label, number)) for number in seeds])
        for label in ("fresh data", "floor")
    )
    return sliced_wasserstein(first, second, projections(data.dimension)).value


def loss_plane(losses: Losses, coordinates: Sequence[float], seed: int = 0) -> list[list[float]]:
    """The first seed's loss on a plane of two random directions, each tensor's of that tensor's norm."""
    weights = losses.weights
    axes = []
    for axis in range(2):
        noise = noise_like(weights, losses.evaluation.seeds, 10**6 + 2 * seed + axis)
        axes.append([z * (root_mean_square(w) / root_mean_square(z)) for w, z in zip(weights, noise, strict=True)])

    def loss(a: float, b: float) -> float:
        return float(losses([w + a * u + b * v for w, u, v in zip(weights, *axes, strict=True)])[0])

    return [[loss(a, b) for b in coordinates] for a in coordinates]


def single(models: ScoreModels, seed: int = 0) -> ScoreModels:
    """The models of one seed alone."""
    cut = slice(seed, seed + 1)
    return models.replaced(models.theta[cut], models.W[cut], models.U[cut])


RESOLVED = 1e-12
"""Eigenvalues below this share of the largest are rounding: float64's 2e-16 times some thousand operations."""


def in_float64(models: ScoreModels) -> ScoreModels:
    """The same weights in float64: the smallest eigenvalues are below float32's rounding of the largest."""
    return models.replaced(*(tensor.detach().double() for tensor in (models.theta, models.W, models.U)))


@torch.enable_grad()
def measured_hessian(models: ScoreModels, seed: int, points: Evaluation) -> Float[Tensor, "p p"]:
    """The Hessian in theta, p = d m entries, of one seed's mean loss on its points.

    Args:
        models: the models.
        seed: the position of the seed, among the models as among the points.
        points: where the loss is taken.

    Raises:
        ValueError: a seed from outside 0 to S - 1.
    """
    module = models.single(seed)
    theta = module.readout.weight
    loss = (module(points.x_t[seed], points.t[seed]) - points.epsilon[seed]).square().mean()
    (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
    axes = torch.eye(theta.numel()).to(theta).view(-1, *theta.shape)
    (rows,) = torch.autograd.grad(gradient, theta, axes, is_grads_batched=True)
    return rows.flatten(1)


def closed_spectra(models: ScoreModels, points: Evaluation) -> Float[Tensor, "S p"]:
    """T3's spectra on the same points, ascending: each eigenvalue of (2/d) E psi psi^T, d times."""
    psi = models.features(points.x_t, points.t) * models.scales[points.t][..., None]
    d = models.dimension
    seconds = (one.mT @ one / psi.shape[1] for one in psi)
    return torch.stack([2.0 / d * torch.linalg.eigvalsh(second).repeat_interleave(d) for second in seconds])


def largest_relative_error(measured: Float[Tensor, " p"], closed: Float[Tensor, " p"]) -> float:
    """The largest deviation of one ascending spectrum from another, in units of the latter's eigenvalues.

    Eigenvalues below RESOLVED times the largest are rounding; they are held against that bound instead.
    """
    sizes = closed.abs()
    units = sizes.clamp(min=RESOLVED * float(sizes.max()))
    return float(((measured - closed).abs() / units).max())


def spectrum_measures(models: ScoreModels, points: Evaluation) -> dict[str, PerSeed]:
    """The largest relative error of T3's spectrum, and the least eigenvalue measured."""
    precise = in_float64(models)
    closed = closed_spectra(precise, points)
    measured = [torch.linalg.eigvalsh(measured_hessian(precise, seed, points)) for seed in range(models.seeds)]
    errors = [largest_relative_error(*both) for both in zip(measured, closed, strict=True)]
    return {
        "hessian_error": torch.tensor(errors, dtype=torch.float64),
        "hessian_least": torch.stack(measured)[:, 0],
    }
