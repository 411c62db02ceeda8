"""Training by the paper's methods and others, all seeds at once, each with EMA and SWA beside the raw weights.

    runs = train_rows(models, data, Plan(steps=6000), seeds)     # {"adm": ..., "adm+ema": ..., ..., "sam+swa": ...}

A run gives three rows, since EMA and SWA do not act on training. Each seed is trained exactly as it would be alone with
torch.optim.Adam and the optimizers of `flatness` (SAM, RandomSAM, FriendlySAM, RandomWeightPerturbation, but for their
noise, which is drawn here for all seeds and many steps at a time): Adam works elementwise, and SAM's norm is taken over
each seed's own weights. The learnt weights (theta, or theta, W and U) are perturbed together.

Minibatches (timesteps, data, noise and input perturbation) are drawn for a block of steps at a time, from generators
that are functions of (seed, block): a step's numbers do not depend on where training began, on the other seeds, or on
the method, so methods are compared on the same draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flatness import arguments
from flatness.progress import Progress, reporter
from flatness.training.input_perturbation import perturbed_noise
from flatness.training.perturbed_optimizer import Always
from flatness.training.sam import SMALLEST_NORM
from flatness.training.weight_averaging import EMA, SWA, PowerEMA
from toy.data import generator_of
from toy.models import ScoreModels, losses_and_gradients
from toy.process import Process
from toy.training_sets import Data, checked_data, source_of

BLOCK = 50
"""Steps drawn at a time: few enough to stay in the cache, enough to make seeding generators cheap."""


@dataclass(frozen=True, eq=False)
class Minibatch:
    """What one step trains on, for S seeds.

    Attributes:
        t: (S, n), int64.
        x_t: (S, n, d), noised data; with input perturbation it is built with epsilon + gamma xi.
        epsilon: (S, n, d), the target.
    """

    t: Int[Tensor, "S n"]
    x_t: Float[Tensor, "S n d"]
    epsilon: Float[Tensor, "S n d"]


@dataclass(frozen=True, eq=False)
class Minibatches:
    """The stream of minibatches.

    Args:
        data: the distribution of x_0, or a training set of each seed, of which points are drawn with replacement.
        process: the diffusion process; timesteps are uniform on its T.
        seeds: the numbers of the seeds.
        batch: points a seed and step, n.
        input_perturbation: gamma of DDPM-IP.
        dtype: of x_t and epsilon.

    Raises:
        ValueError: an argument is not as above.
    """

    data: Data
    process: Process
    seeds: tuple[int, ...]
    batch: int = 128
    input_perturbation: float = 0.0
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        """Check the arguments that are not checked where they are used."""
        checked_data("data", self.data)
        arguments.instance("process", self.process, Process)
        if not self.seeds:
            raise arguments.refuse("seeds", self.seeds, "at least one seed")
        for seed in self.seeds:
            arguments.count("seeds", seed)
        arguments.count("batch", self.batch, at_least=1)
        arguments.number("input_perturbation", self.input_perturbation, at_least=0)

    def block(self, index: int) -> list[Minibatch]:
        """The minibatches of the steps index BLOCK, ..., (index + 1) BLOCK - 1."""
        batches = [self._of_seed(index, seed) for seed in self.seeds]
        t, x_t, epsilon = (torch.stack(tensors, dim=1) for tensors in zip(*batches, strict=True))
        return [Minibatch(*tensors) for tensors in zip(t, x_t, epsilon, strict=True)]

    def step(self, number: int) -> Minibatch:
        """The minibatch of one step; draws its whole block."""
        return self.block(arguments.count("number", number) // BLOCK)[number % BLOCK]

    def _of_seed(self, index: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """t (BLOCK, n), x_t and epsilon (BLOCK, n, d) of one seed."""
        generator = generator_of("minibatch", seed, index)
        shape = (BLOCK, self.batch, self.data.dimension)
        t = torch.randint(self.process.steps, shape[:2], generator=generator)
        x_0 = source_of(self.data, seed).sample(BLOCK * self.batch, generator, self.dtype).view(shape)
        epsilon = torch.randn(shape, generator=generator, dtype=self.dtype)
        noise = perturbed_noise(epsilon, self.input_perturbation, generator_of("perturbation", seed, index))
        return t, self.process.noisy(x_0, t, noise), epsilon


Schedule = Callable[[int], bool]
Rule = EMA | SWA | PowerEMA


@dataclass(frozen=True)
class Method:
    """How a step is made.

    Args:
        input_perturbation: gamma of DDPM-IP.
        rho: SAM's radius; 0 climbs nothing.
        schedule: from the step, counted from 0, to whether weights are perturbed, as `flatness.Late` is one.
        ascent_share: the share of the minibatch, its first points, on which SAM's ascent is computed.
        noise: deviation of noise on the weights, fresh each step: with rho = 0 random weight perturbation, of which
            the gradient there is the step's; with rho > 0 random SAM, which climbs from there.
        adaptive: ASAM's scaling of the ascent.
        friendly: friendly SAM's share of the running mean of gradients that its ascent leaves out; 0 is SAM.

    Raises:
        ValueError: an argument is not as above.
    """

    input_perturbation: float = 0.0
    rho: float = 0.0
    schedule: Schedule = field(default_factory=Always)
    ascent_share: float = 1.0
    noise: float = 0.0
    adaptive: bool = False
    friendly: float = 0.0

    def __post_init__(self) -> None:
        """Check every argument."""
        arguments.number("input_perturbation", self.input_perturbation, at_least=0)
        arguments.number("rho", self.rho, at_least=0)
        arguments.function("schedule", self.schedule)
        arguments.number("ascent_share", self.ascent_share, above=0, at_most=1)
        arguments.number("noise", self.noise, at_least=0)
        arguments.flag("adaptive", self.adaptive)
        arguments.number("friendly", self.friendly, at_least=0)

    @property
    def perturbs(self) -> bool:
        """Whether gradients are taken at other weights than the step's own, where the schedule says so."""
        return self.rho > 0 or self.noise > 0

    def gradients(self, steps: int) -> float:
        """Gradients of the whole minibatch that so many steps take."""
        climbs = sum(self.schedule(step) for step in range(steps)) if self.rho > 0 else 0
        return steps + climbs * self.ascent_share


METHODS: dict[str, Method] = {"adm": Method(), "ip": Method(input_perturbation=0.1), "sam": Method(rho=0.1)}
"""The paper's three, at its strength of IP and the largest of its radii."""


@dataclass(frozen=True)
class Plan:
    """How long and how fast.

    Args:
        steps: number of steps.
        batch: points a seed and step.
        learning_rate: Adam's; its other settings are torch's defaults.
        averages: EMA, SWA or PowerEMA by name; None for `default_averages(steps)`.

    Raises:
        ValueError: an argument is not as above.
    """

    steps: int = 6000
    batch: int = 128
    learning_rate: float = 1e-3
    averages: Mapping[str, Rule] | None = None

    def __post_init__(self) -> None:
        """Check every argument."""
        arguments.count("steps", self.steps, at_least=1)
        arguments.count("batch", self.batch, at_least=1)
        arguments.number("learning_rate", self.learning_rate, above=0)
        if self.averages is None:
            object.__setattr__(self, "averages", default_averages(self.steps))
        for name, rule in self.rules.items():
            if not isinstance(rule, Rule):
                raise arguments.refuse(f"averages[{name!r}]", rule, "an EMA, SWA or PowerEMA of flatness")
            if isinstance(rule, SWA) and -(-rule.start // rule.cycle) * rule.cycle >= self.steps:
                raise arguments.refuse(f"averages[{name!r}]", rule, f"an SWA that begins within {self.steps} steps")

    @property
    def rules(self) -> Mapping[str, Rule]:
        """The averages by name."""
        return {} if self.averages is None else self.averages


def default_averages(steps: int) -> dict[str, EMA | SWA]:
    """The paper's (EMA of rate .9999, SWA of the last tenth in cycles of 100, over 200,000 steps) at another length.

    The EMA's time constant is a twentieth of the steps; the SWA takes up to 200 of the last tenth.
    """
    swa = SWA(start=steps - max(steps // 10, 1), cycle=max(steps // 2000, 1))
    return {"ema": EMA(max(1.0 - 20.0 / steps, 0.0)), "swa": swa}


@dataclass(frozen=True, eq=False)
class Run:
    """What a training run leaves.

    Attributes:
        models: by the name of the average; "" holds the raw weights.
        losses: (S, blocks), each seed's training loss, the mean over blocks of BLOCK steps; taken where the first
            gradient of a step is, at w but for methods with noise.
        gradient_points: points per seed of which a gradient was taken: what the run has cost.
        points: the models as they were after some steps, by step and average.
    """

    models: dict[str, ScoreModels]
    losses: Float[Tensor, "S blocks"]
    gradient_points: int
    points: dict[int, dict[str, ScoreModels]] = field(default_factory=dict)

    def rows(self, method: str) -> dict[str, ScoreModels]:
        """The models by the paper's names of methods: "sam", "sam+ema", ..."""
        return {method + f"+{name}" * bool(name): models for name, models in self.models.items()}


class _Averages:
    """Averages of the learnt tensors, as `flatness.training.weight_averaging` defines them."""

    def __init__(self, rules: Mapping[str, Rule], weights: list[Tensor]) -> None:
        self.rules = rules
        self.shadows = {name: [w.clone() for w in weights] for name in rules}
        self.taken = dict.fromkeys(rules, 0)

    def update(self, step: int, weights: list[Tensor]) -> None:
        for name, rule in self.rules.items():
            if isinstance(rule, SWA) and (step < rule.start or step % rule.cycle):
                continue
            self.taken[name] += 1
            if isinstance(rule, EMA):
                share = 1.0 - rule.decay
            elif isinstance(rule, SWA):
                share = 1.0 / self.taken[name]
            else:
                share = 1.0 - (1.0 - 1.0 / (step + 1)) ** (rule.gamma + 1.0)
            torch._foreach_lerp_(self.shadows[name], weights, share)


class _Batch:
    """The loss and its gradients on one minibatch, at any weights."""

    def __init__(self, models: ScoreModels, minibatch: Minibatch, features: Tensor) -> None:
        self.models = models
        self.features = features
        self.epsilon = minibatch.epsilon
        embedded = models.embedding.index_select(0, minibatch.t.flatten()).view(*minibatch.t.shape, -1)
        self.inputs = torch.cat([minibatch.x_t, embedded], dim=-1)
        one_scale = models.prediction == "noise"
        self.scale = 1.0 / models.normaliser if one_scale else models.scales[minibatch.t][..., None]

    def __call__(self, weights: Sequence[Tensor], points: int) -> tuple[Tensor, list[Tensor]]:
        theta, V = (*weights, self.features)[:2]
        scale = self.scale[:, :points] if isinstance(self.scale, Tensor) else self.scale
        inputs, epsilon = self.inputs[:, :points], self.epsilon[:, :points]
        return losses_and_gradients(
            theta, V, inputs, scale, epsilon, self.models.activation, self.models.learn_features
        )


ADAPTIVE_ETA = 0.01
"""ASAM's eta, as in `flatness.training.sam.SAM`."""
FRIENDLY_DECAY = 0.9
"""Of friendly SAM's mean, as in `flatness.training.friendly_sam.FriendlySAM`."""


def sam_weights(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], rho: float, adaptive: bool = False
) -> list[Tensor]:
    """w + rho g / |g|, the norm over one seed's weights together, in float64; a seed without gradient stays put.

    Adaptive: w + rho T^2 g / |T g|, T = |w| + eta.
    """
    if adaptive:
        units = [w.abs() + ADAPTIVE_ETA for w in weights]
        gradients = [g * T for g, T in zip(gradients, units, strict=True)]
    # Summed in float64 as it is read: a copy of all gradients in float64 takes longer than the sum
    parts = [torch.linalg.vector_norm(g, dim=(1, 2), dtype=torch.float64) for g in gradients]
    norms = torch.stack(parts).square().sum(0).sqrt()
    factors = torch.where(norms >= SMALLEST_NORM, rho / norms, 0.0)[:, None, None]
    if adaptive:
        gradients = [g * T for g, T in zip(gradients, units, strict=True)]
    return [torch.addcmul(w, g, factors.to(w.dtype)) for w, g in zip(weights, gradients, strict=True)]


class _WeightNoise:
    """Standard normal numbers of the weights' shapes for every step, functions of (seed, step); drawn by blocks."""

    def __init__(self, weights: Sequence[Tensor], seeds: Sequence[int]) -> None:
        self.shapes = [w.shape for w in weights]
        self.dtype = weights[0].dtype
        self.seeds = seeds
        self.size = sum(w[0].numel() for w in weights)
        self.index = -1
        self.drawn = torch.empty(0)

    def __call__(self, step: int) -> list[Tensor]:
        if step // BLOCK != self.index:
            self.index = step // BLOCK
            if not self.drawn.numel():  # once: fresh memory of this size costs as much as the numbers
                self.drawn = torch.empty(len(self.seeds), BLOCK, self.size)
            for seed, numbers in zip(self.seeds, self.drawn, strict=True):
                numbers.normal_(generator=generator_of("noise in training", seed, self.index))
        numbers = self.drawn[:, step % BLOCK].to(self.dtype).split([s[1:].numel() for s in self.shapes], 1)
        return [part.view(shape) for part, shape in zip(numbers, self.shapes, strict=True)]


class _Steps:
    """A method's gradients, step by step."""

    def __init__(self, method: Method, weights: Sequence[Tensor], seeds: Sequence[int], batch: int) -> None:
        self.method = method
        self.noise = _WeightNoise(weights, seeds)
        self.batch = batch
        self.ascent_points = max(round(method.ascent_share * batch), 1)
        self.mean: list[Tensor] | None = None
        self.gradient_points = 0

    def __call__(self, step: int, batch: _Batch, weights: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The loss, and the gradients to descend along."""
        method = self.method
        self.gradient_points += self.batch
        if not (method.perturbs and method.schedule(step)):
            return batch(weights, self.batch)
        place = weights
        if method.noise:
            place = [torch.add(w, z, alpha=method.noise) for w, z in zip(weights, self.noise(step), strict=True)]
        if not method.rho:
            return batch(place, self.batch)
        self.gradient_points += self.ascent_points
        loss, ascent = batch(place, self.ascent_points)
        if method.friendly:
            ascent = self._own_part(ascent)
        return loss, batch(sam_weights(place, ascent, method.rho, method.adaptive), self.batch)[1]

    def _own_part(self, gradients: list[Tensor]) -> list[Tensor]:
        """Gradients less the share of their running mean, which takes them in."""
        if self.mean is None:
            self.mean = [g.clone() for g in gradients]
            return gradients
        own = [torch.sub(g, mean, alpha=self.method.friendly) for g, mean in zip(gradients, self.mean, strict=True)]
        torch._foreach_lerp_(self.mean, gradients, 1.0 - FRIENDLY_DECAY)
        return own


@torch.no_grad()
def train(
    models: ScoreModels,
    data: Data,
    method: Method,
    plan: Plan,
    seeds: Sequence[int],
    *,
    at: Sequence[int] = (),
    progress: Progress = None,
    label: str = "training",
) -> Run:
    """Train copies of the models; those given stay as they are.

    Args:
        models: the initial weights.
        data: the distribution of x_0, of the models' dimension, or training sets of the seeds.
        method: how a step is made.
        plan: how long and how fast.
        seeds: their numbers, one a model; a model's minibatches are functions of its number and the step.
        at: numbers of steps after which the models are kept as they are then, beside those at the end.
        progress: see `flatness.progress`.
        label: what the progress line begins with.

    Raises:
        ValueError: an argument is not as above.
        FloatingPointError: a seed's loss is not finite; names the seed and the step.
    """
    seeds = tuple(seeds)
    if len(seeds) != models.seeds:
        raise arguments.refuse("seeds", seeds, f"{models.seeds} numbers, one a model")
    if data.dimension != models.dimension:
        raise ValueError(f"data has dimension {data.dimension}; allowed: that of the models, {models.dimension}")
    stream = Minibatches(data, models.process, seeds, plan.batch, method.input_perturbation, models.theta.dtype)
    features = torch.cat([models.W, models.U], dim=1)
    weights = [models.theta.clone(), *([features.clone()] if models.learn_features else [])]
    optimizer = torch.optim.Adam(weights, lr=plan.learning_rate, fused=True)
    averages = _Averages(plan.rules, weights)
    make = _Steps(method, weights, seeds, plan.batch)
    report = reporter(label, plan.steps, progress)
    blocks: list[Tensor] = []
    points: dict[int, dict[str, ScoreModels]] = {}
    for start in range(0, plan.steps, BLOCK):
        losses: list[Tensor] = []
        for step, minibatch in enumerate(stream.block(start // BLOCK)[: plan.steps - start], start=start):
            loss, gradients = make(step, _Batch(models, minibatch, features), weights)
            losses.append(loss)
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient
            optimizer.step()
            averages.update(step, weights)
            if step + 1 in at:
                points[step + 1] = _models(models, weights, averages, copy=True)
        blocks.append(_mean_of_finite(losses, seeds, start))
        report(start + len(losses), plan.steps)
    return Run(_models(models, weights, averages), torch.stack(blocks, 1), make.gradient_points, points)


def _models(
    models: ScoreModels, weights: list[Tensor], averages: _Averages, copy: bool = False
) -> dict[str, ScoreModels]:
    """By average; "" holds the raw weights."""
    every = {"": weights, **averages.shadows}
    return {name: _with(models, [w.clone() for w in one] if copy else one) for name, one in every.items()}


def _mean_of_finite(losses: list[Tensor], seeds: Sequence[int], start: int) -> Tensor:
    stacked = torch.stack(losses, dim=1).double()
    if not bool(stacked.isfinite().all()):
        seed, step = (int(i) for i in (~stacked.isfinite()).nonzero()[0])
        raise FloatingPointError(
            f"the loss of seed {seeds[seed]} is {float(stacked[seed, step])} at step {start + step}"
        )
    return stacked.mean(1)


def _with(models: ScoreModels, weights: list[Tensor]) -> ScoreModels:
    if not models.learn_features:
        return models.replaced(theta=weights[0])
    W, U = weights[1].split([models.dimension, models.U.shape[1]], dim=1)
    return models.replaced(weights[0], W.contiguous(), U.contiguous())


def train_rows(
    models: ScoreModels,
    data: Data,
    plan: Plan,
    seeds: Sequence[int],
    methods: Mapping[str, Method] | None = None,
    *,
    progress: Progress = None,
) -> dict[str, ScoreModels]:
    """The rows of the paper's tables, one run a method; arguments and errors as in `train`.

    Args:
        methods: by name; None for the paper's three, which give nine rows.
    """
    rows: dict[str, ScoreModels] = {}
    for name, method in (METHODS if methods is None else methods).items():
        rows |= train(models, data, method, plan, seeds, progress=progress, label=f"training {name}").rows(name)
    return rows
