"""What the toy's training costs: all seeds at once against seed by seed, SAM against plain steps.

A gradient takes 4 n m (d + k) + 6 n m d floating-point operations a seed: two products each way with the inputs of
width d + k, three with the outputs of width d. At n = m = 128, d = 2, k = 32 that is 2.4 MFLOP; 16 seeds for 6,000
steps take 232 GFLOP (SAM twice that). One thread, as the toy has: the products are too small to share.
"""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.timing import Row, interleaved
from flatness.training.input_perturbation import perturbed_noise
from flatness.training.sam import SAM
from flatness.training.weight_averaging import Shadows
from toy.data import generator_of, ring
from toy.models import ScoreModels, random_models
from toy.process import cosine_process
from toy.training import METHODS, Method, Plan, Run, train

STEPS = 150
SEEDS = 16


def training() -> list[Row]:
    """Both ways of training, one thread, interleaved; then the cost of SAM."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        models = ring_models(SEEDS)
        seconds = interleaved(
            {
                "at once": lambda: all_at_once(models, STEPS, "adm"),
                "one by one": lambda: seed_by_seed(models, STEPS, "adm"),
                "sam": lambda: all_at_once(models, STEPS, "sam"),
            },
            rounds=3,
        )
    finally:
        torch.set_num_threads(threads)
    rate = gradient_flops(models, 128) * STEPS / seconds["at once"] / 1e9
    what = f"toy, {SEEDS} seeds, {STEPS} steps"
    return [
        (f"{what}: all at once", f"{seconds['at once']:.2f} s, {rate:.0f} GFLOP/s", "one thread"),
        (
            f"{what}: seed by seed",
            f"{seconds['one by one'] / seconds['at once']:.1f} times as long",
            "an ordinary module and optimizer a seed",
        ),
        (f"{what}: SAM", f"{seconds['sam'] / seconds['at once']:.2f} times as long", "two gradients a step"),
    ]


PARTS = (training,)


def ring_models(seeds: int = 16, features: int = 128, learn_features: bool = True) -> ScoreModels:
    """Initial models for the ring of eight under the cosine process of 1,000 steps, theta as an ordinary readout."""
    return random_models(seeds, 2, features, cosine_process(), learn_features=learn_features, divisor=1.0)


def gradient_flops(models: ScoreModels, batch: int) -> int:
    """Floating-point operations of one gradient of all seeds; see the module's docstring."""
    S, d, m = models.theta.shape
    inputs = d + models.U.shape[1]
    return S * batch * m * (4 * inputs + 6 * d if models.learn_features else 2 * inputs + 4 * d)


def all_at_once(models: ScoreModels, steps: int, method: str = "sam") -> Run:
    """Train all seeds on the ring, with EMA and SWA."""
    return train(models, ring(), METHODS[method], Plan(steps=steps), range(models.seeds), progress=False)


def seed_by_seed(models: ScoreModels, steps: int, method: str = "sam") -> list[nn.Module]:
    """The same training in the ordinary way: a module and an optimizer a seed, automatic differentiation."""
    plan = Plan(steps=steps)
    return [_train_one(models, seed, plan, METHODS[method]) for seed in range(models.seeds)]


def _train_one(models: ScoreModels, seed: int, plan: Plan, method: Method) -> nn.Module:
    module, data, process = models.single(seed), ring(), models.process
    adam = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=plan.learning_rate)
    optimizer = SAM(adam, rho=method.rho, schedule=method.schedule)
    shadows = Shadows(module, plan.rules)
    generator = generator_of("seed by seed", seed)
    for step in range(plan.steps):
        t = torch.randint(process.steps, (plan.batch,), generator=generator)
        x_0 = data.sample(plan.batch, generator, torch.float32)
        epsilon = torch.randn(x_0.shape, generator=generator)
        x_t = process.noisy(x_0, t, perturbed_noise(epsilon, method.input_perturbation, generator))

        def closure(x_t: torch.Tensor = x_t, t: torch.Tensor = t, epsilon: torch.Tensor = epsilon) -> torch.Tensor:
            optimizer.zero_grad()
            loss = (module(x_t, t) - epsilon).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        shadows.update(step)
    return module
