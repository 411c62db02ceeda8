"""What training costs: the same run with all seeds at once and seed by seed, for others to time.

A gradient takes 4 n m (d + k) + 6 n m d floating-point operations a seed: two products each way with the inputs of
width d + k, three with the outputs of width d. At n = m = 128, d = 2, k = 32 that is 2.4 MFLOP; 16 seeds for 6,000
steps take 232 GFLOP (SAM twice that). `python -m benchmarks toy` measures both ways against each other.

Run it on one thread and give further cores other methods: the products are too small to share.
"""

from __future__ import annotations

import torch
from torch import nn

from flatness.training.input_perturbation import perturbed_noise
from flatness.training.sam import SAM
from flatness.training.weight_averaging import Shadows
from toy.data import generator_of, ring
from toy.models import ScoreModels, random_models
from toy.process import cosine_process
from toy.training import METHODS, Method, Plan, Run, train


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
