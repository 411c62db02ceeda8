"""Training many seeds at once against each seed alone with flatness.SAM and torch.optim.Adam, and mutants of it."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import toy.training
from benchmarks.toy import all_at_once, gradient_flops, ring_models, seed_by_seed
from flatness.training.friendly_sam import FriendlySAM
from flatness.training.perturbed_optimizer import EveryK, Late
from flatness.training.random_sam import RandomSAM
from flatness.training.random_weight_perturbation import RandomWeightPerturbation
from flatness.training.sam import SAM
from flatness.training.weight_averaging import EMA, SWA, PowerEMA, Shadows
from tests.toy.exact import minimiser
from tests.toy.moments import exact_moments
from toy.data import generator_of, ring
from toy.models import ScoreModels, random_models
from toy.process import cosine_process
from toy.training import BLOCK, METHODS, Method, Minibatches, Plan, Run, default_averages, train, train_rows

PROCESS = cosine_process(100)
DATA = ring()
SEEDS = (0, 3, 4)
STEPS = 60  # more than a block
PLAN = Plan(
    steps=STEPS, batch=8, learning_rate=0.01, averages={"ema": EMA(0.9), "swa": SWA(30, 4), "power": PowerEMA(5.0)}
)
AGREES = 1e-12
"""Gradients of the two differ by some 1e-17 through the order of sums. Adam's first steps divide by the gradient's own
size, which enlarges that where gradients are smallest; 60 steps of .01 leave the weights within 1e-15 here."""
DIFFERS = 1e-4
"""The mutants' weights differ by at least this."""
CASES: dict[str, tuple[Method, dict[str, Any]]] = {
    "adm": (Method(), {"learn_features": True}),
    "ip": (Method(input_perturbation=0.1), {"learn_features": True}),
    "sam": (Method(rho=0.1), {"learn_features": True}),
    "sam, frozen": (Method(rho=0.5), {}),
    "sam, score": (Method(rho=0.1), {"learn_features": True, "prediction": "score", "activation": "tanh"}),
    "sam, late": (Method(rho=0.1, schedule=Late(20)), {"learn_features": True}),
    "sam, every third": (Method(rho=0.1, schedule=EveryK(3)), {"learn_features": True}),
    "sam, part of the batch": (Method(rho=0.1, ascent_share=0.5), {"learn_features": True}),
    "asam": (Method(rho=0.3, adaptive=True), {"learn_features": True}),
    "noise": (Method(noise=0.1), {"learn_features": True}),
    "noise, every third": (Method(noise=0.1, schedule=EveryK(3)), {"learn_features": True}),
    "random sam": (Method(rho=0.1, noise=0.1), {"learn_features": True}),
    "friendly sam": (Method(rho=0.1, friendly=1.0), {"learn_features": True}),
    "friendly sam, late": (Method(rho=0.1, friendly=0.7, schedule=Late(20)), {"learn_features": True}),
    "ip and sam": (Method(rho=0.1, input_perturbation=0.2), {"learn_features": True, "divisor": 1.0}),
}


def initial(**settings: Any) -> ScoreModels:
    models = [
        random_models(range(seed, seed + 1), 2, 12, PROCESS, embedding=6, dtype=torch.float64, **settings)
        for seed in SEEDS
    ]
    theta, W, U = (torch.cat([getattr(m, name) for m in models]) for name in ("theta", "W", "U"))
    return models[0].replaced(theta, W, U)


class NoiseOf:
    """The toy's own noise in place of the optimizers', which is theirs in shape and size, for one seed."""

    def __init__(self, module: Any, learn_features: bool, seed: int) -> None:
        self.parameters = [module.readout.weight, *([module.W, module.U] if learn_features else [])]
        self.seed = seed

    def add(self, step: int, deviation: float) -> None:
        size = sum(p.numel() for p in self.parameters)
        generator = generator_of("noise in training", self.seed, step // BLOCK)
        drawn = torch.randn(BLOCK, size, generator=generator)[step % BLOCK].double()
        with torch.no_grad():
            for p, z in zip(self.parameters, drawn.split([p.numel() for p in self.parameters]), strict=True):
                p.add_(z.view(p.shape), alpha=deviation)


def flattener(adam: torch.optim.Optimizer, module: Any, method: Method, seed: int) -> Any:
    """The optimizer of `flatness` that the method stands for."""
    noise = NoiseOf(module, module.W.requires_grad, seed)
    if method.noise and method.rho:
        random = RandomSAM(adam, method.rho, method.noise, schedule=method.schedule)
        random._step_aside = lambda parameters: noise.add(random.steps, method.noise)  # type: ignore[method-assign]
        return random
    if method.noise:
        perturbed = RandomWeightPerturbation(adam, method.noise, schedule=method.schedule)
        perturbed._add_noise = lambda parameters, step: noise.add(step, method.noise)  # type: ignore[method-assign]
        return perturbed
    if method.friendly:
        return FriendlySAM(adam, method.rho, method.friendly, schedule=method.schedule)
    return SAM(adam, method.rho, method.adaptive, method.schedule)


def alone(models: ScoreModels, index: int, method: Method) -> dict[str, dict[str, Tensor]]:
    """One seed's weights by average and name, trained by the instruments, with the input perturbation added by hand."""
    module = models.single(index)
    adam = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=PLAN.learning_rate)
    sam = flattener(adam, module, method, SEEDS[index])
    shadows = Shadows(module, PLAN.rules)
    stream = Minibatches(DATA, PROCESS, (SEEDS[index],), PLAN.batch, dtype=torch.float64)
    for step in range(STEPS):
        drawn = stream.step(step)
        t, x, epsilon = drawn.t[0], drawn.x_t[0], drawn.epsilon[0]
        generator = generator_of("perturbation", SEEDS[index], step // BLOCK)
        xi = torch.randn((BLOCK, *x.shape), generator=generator, dtype=torch.float64)[step % BLOCK]
        x = x + method.input_perturbation * (1 - PROCESS.alphas_cumprod[t]).sqrt()[:, None] * xi

        def closure(points: int, t: Tensor = t, x: Tensor = x, epsilon: Tensor = epsilon) -> Tensor:
            sam.zero_grad()
            loss = ((module(x[:points], t[:points]) - epsilon[:points]) ** 2).mean()
            loss.backward()
            return loss

        part = PLAN.batch if not sam.due else round(method.ascent_share * PLAN.batch)
        parts = () if sam.passes == 1 else (functools.partial(closure, part),)
        sam.step(functools.partial(closure, PLAN.batch), *parts)
        shadows.update(step)
    averaged = {"": module, **{name: shadows[name] for name in PLAN.rules}}
    return {name: {key: p.detach() for key, p in m.named_parameters()} for name, m in averaged.items()}


def discrepancy(case: str) -> float:
    """The largest difference of a weight between all seeds at once and each alone."""
    method, settings = CASES[case]
    models = initial(**settings)
    run = train(models, DATA, method, PLAN, SEEDS)
    worst = 0.0
    for index in range(len(SEEDS)):
        for name, weights in alone(models, index, method).items():
            model = run.models[name].single(index)
            worst = max(worst, *(float((p - weights[key]).detach().abs().max()) for key, p in model.named_parameters()))
    return worst


@pytest.mark.parametrize("case", CASES)
def test_all_seeds_at_once_train_as_each_alone(case: str) -> None:
    assert discrepancy(case) < AGREES


def _norm_over_seeds(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], rho: float, adaptive: bool
) -> list[Tensor]:
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    return [w + rho / norm * g for w, g in zip(weights, gradients, strict=True)]


def _norm_per_tensor(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], rho: float, adaptive: bool
) -> list[Tensor]:
    return [w + rho * g / g.flatten(1).norm(dim=1)[:, None, None] for w, g in zip(weights, gradients, strict=True)]


SAM_WEIGHTS = toy.training.sam_weights
SAM_MUTANTS = {
    "no perturbation": lambda w, g, rho, adaptive: list(w),
    "descent in place of ascent": lambda w, g, rho, adaptive: SAM_WEIGHTS(w, g, -rho, adaptive),
    "one norm over all seeds": _norm_over_seeds,
    "a norm per tensor": _norm_per_tensor,
    "no norm": lambda w, g, rho, adaptive: [a + rho * b for a, b in zip(w, g, strict=True)],
}


@pytest.mark.parametrize("mutant", SAM_MUTANTS)
def test_mutants_of_sam_are_found_out(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy.training, "sam_weights", SAM_MUTANTS[mutant])
    assert discrepancy("sam") > DIFFERS


@pytest.mark.parametrize("case", ["noise", "random sam", "friendly sam", "asam"])
def test_mutants_of_other_flatteners_are_found_out(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise of the other sign, a mean that is added, ASAM without its scaling."""
    own = toy.training._WeightNoise.__call__
    monkeypatch.setattr(toy.training._WeightNoise, "__call__", lambda self, step: [-z for z in own(self, step)])
    monkeypatch.setattr(toy.training._Steps, "_own_part", lambda self, gradients: gradients)
    monkeypatch.setattr(toy.training, "sam_weights", lambda w, g, rho, adaptive: SAM_WEIGHTS(w, g, rho))
    assert discrepancy(case) > DIFFERS


@pytest.mark.parametrize(("mutant", "factor"), [("no perturbation", 0.0), ("another sign", -1.0), ("twice", 2.0)])
def test_mutants_of_input_perturbation_are_found_out(
    mutant: str, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = toy.training.perturbed_noise
    monkeypatch.setattr(toy.training, "perturbed_noise", lambda e, gamma, g: e + factor * (own(e, gamma, g) - e))
    assert discrepancy("ip") > DIFFERS


def test_mutants_of_the_averages_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy.training._Averages, "update", lambda self, step, weights: None)
    assert discrepancy("adm") > DIFFERS


def test_input_perturbation_leaves_the_target() -> None:
    plain, perturbed = (Minibatches(DATA, PROCESS, (1,), 8, gamma).step(3) for gamma in (0.0, 0.1))
    assert torch.equal(plain.epsilon, perturbed.epsilon)
    assert torch.equal(plain.t, perturbed.t)
    assert not torch.equal(plain.x_t, perturbed.x_t)


def test_minibatches_are_functions_of_seed_and_step() -> None:
    together = Minibatches(DATA, PROCESS, (5, 7), 8).step(BLOCK + 3)
    lone = Minibatches(DATA, PROCESS, (7,), 8).block(1)[3]
    assert torch.equal(together.x_t[1], lone.x_t[0])
    assert torch.equal(together.t[1], lone.t[0])
    assert not torch.equal(together.x_t[0], together.x_t[1])
    assert not torch.equal(lone.x_t, Minibatches(DATA, PROCESS, (7,), 8).step(3).x_t)


@pytest.mark.parametrize("learn", [False, True])
def test_loss_falls_on_the_ring(learn: bool) -> None:
    models = random_models(4, 2, 64, PROCESS, learn_features=learn, divisor=1.0)
    for name, method in METHODS.items():
        run = train(models, DATA, replace(method, rho=method.rho / 10), Plan(steps=500, learning_rate=3e-3), range(4))
        # .35 is the least loss there is on the ring, 1 that of predicting zero
        assert bool((run.losses[:, -1] < 0.6).all()), name
        assert bool((run.losses[:, -1] < run.losses[:, 0] - 0.1).all()), name


def test_frozen_features_reach_the_exact_minimum_from_above() -> None:
    models = random_models(2, 2, 10, PROCESS, embedding=6, divisor=1.0, dtype=torch.float64)
    averages = {"swa": SWA(start=1000)}
    run = train(models, DATA, Method(), Plan(2000, 64, 0.02, averages), range(2))
    for seed in range(2):
        moments = exact_moments(models, seed, DATA)
        least = minimiser(moments).loss
        before, after = (moments.loss(m.theta[seed]) for m in (models, run.models["swa"]))
        assert least <= after
        # Adam has left less than a twentieth of the way in the badly conditioned directions
        assert after - least < 0.05 * (before - least)


def test_nine_rows_from_three_runs() -> None:
    models = initial(learn_features=True)
    rows = train_rows(models, DATA, replace(PLAN, steps=35), SEEDS)
    assert list(rows) == [m + a for m in ("adm", "ip", "sam") for a in ("", "+ema", "+swa", "+power")]
    thetas = [row.theta for row in rows.values()]
    assert not any(torch.equal(a, b) for i, a in enumerate(thetas) for b in thetas[:i])


def test_a_run_counts_its_cost() -> None:
    models = initial(learn_features=True)
    costs = {
        Method(): 1.0,
        Method(rho=0.1): 2.0,
        Method(rho=0.1, schedule=Late(50)): 1 + 10 / 60,
        Method(rho=0.1, schedule=EveryK(3)): 1 + 1 / 3,
        Method(rho=0.1, ascent_share=0.25): 1.25,
        Method(noise=0.1): 1.0,
        Method(rho=0.1, noise=0.1): 2.0,
        Method(rho=0.1, friendly=1.0): 2.0,
    }
    for method, cost in costs.items():
        assert train(models, DATA, method, PLAN, SEEDS).gradient_points == cost * STEPS * PLAN.batch
        assert method.gradients(STEPS) == pytest.approx(cost * STEPS)


def test_runs_share_nothing_with_their_input() -> None:
    models = initial(learn_features=True)
    before = [tensor.clone() for tensor in (models.theta, models.W, models.U)]
    run: Run = train(models, DATA, Method(), PLAN, SEEDS)
    again = train(models, DATA, Method(), PLAN, SEEDS)
    assert all(torch.equal(a, b) for a, b in zip(before, (models.theta, models.W, models.U), strict=True))
    assert torch.equal(run.models["swa"].theta, again.models["swa"].theta)
    assert run.losses.shape == (3, 2)


def test_sam_moves_each_seed_by_rho_and_not_without_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(3, 2, 4, generator=generator), torch.randn(3, 5, 4, generator=generator)]
    gradients = [torch.randn(w.shape, generator=generator) for w in weights]
    for g in gradients:
        g[1] = 0
    moved = SAM_WEIGHTS(weights, gradients, 0.3)
    squares = sum((a - b).square().sum((1, 2)) for a, b in zip(moved, weights, strict=True))
    # float32 weights of size 1 are rounded at 1e-7, their differences of size .05 with them
    torch.testing.assert_close(torch.as_tensor(squares).sqrt(), torch.tensor([0.3, 0.0, 0.3]), rtol=1e-5, atol=0)


def test_models_along_the_run_are_those_of_shorter_runs() -> None:
    models = initial(learn_features=True)
    run = train(models, DATA, Method(rho=0.1), PLAN, SEEDS, at=(20, 55))
    assert list(run.points) == [20, 55]
    for steps, point in run.points.items():
        short = train(models, DATA, Method(rho=0.1), replace(PLAN, steps=steps, averages={"ema": EMA(0.9)}), SEEDS)
        for average in ("", "ema"):
            assert torch.equal(point[average].theta, short.models[average].theta)
            assert torch.equal(point[average].U, short.models[average].U)
    assert not torch.equal(run.points[55]["swa"].theta, run.models["swa"].theta)


def test_default_averages_are_the_papers_at_its_length() -> None:
    assert default_averages(200_000) == {"ema": EMA(0.9999), "swa": SWA(start=180_000, cycle=100)}
    assert Plan(steps=1).rules["swa"] == SWA(start=0)


def test_bad_input_is_named() -> None:
    models = initial()
    with pytest.raises(ValueError, match=r"seeds is \(0, 1\)"):
        train(models, DATA, Method(), PLAN, range(2))
    with pytest.raises(ValueError, match="data has dimension 2; allowed: that of the models, 3"):
        train(random_models(1, 3, 4, PROCESS), DATA, Method(), PLAN, range(1))
    settings: tuple[dict[str, Any], ...] = (
        {"rho": -1},
        {"ascent_share": 0},
        {"input_perturbation": float("nan")},
        {"schedule": 3},
        {"noise": -0.1},
        {"friendly": -1.0},
        {"adaptive": 1},
    )
    for bad in settings:
        with pytest.raises(ValueError, match=f"{next(iter(bad))} is"):
            Method(**bad)
    for arguments in ((0, 8, 0.1), (5, 0, 0.1), (5, 8, 0)):
        with pytest.raises(ValueError, match=r"(steps|batch|learning_rate) is 0; allowed"):
            Plan(*arguments)
    with pytest.raises(ValueError, match=r"averages\['late'\] is .* begins within 10 steps"):
        Plan(steps=10, averages={"late": SWA(start=9, cycle=4)})
    with pytest.raises(ValueError, match=r"averages\['odd'\] is 3"):
        Plan(steps=10, averages={"odd": 3})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="batch is 0"):
        Minibatches(DATA, PROCESS, (0,), 0)
    with pytest.raises(ValueError, match="seeds is"):
        Minibatches(DATA, PROCESS, ())


def test_a_loss_that_is_not_finite_is_named() -> None:
    models = initial()
    broken = models.theta.clone()
    broken[1, 0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="loss of seed 3 is nan at step 0"):
        train(models.replaced(theta=broken), DATA, Method(), PLAN, SEEDS)


def test_the_workload_is_the_same_run_in_two_ways() -> None:
    models = ring_models(2, 16)
    forward, outputs = 2 * 2 * 128 * 16 * 34, 2 * 2 * 128 * 16 * 2
    assert gradient_flops(models, 128) == 2 * forward + 3 * outputs
    assert gradient_flops(ring_models(2, 16, learn_features=False), 128) == forward + 2 * outputs
    run, modules = all_at_once(models, 100, "sam"), seed_by_seed(models, 100, "sam")
    x, t, epsilon = (
        getattr(Minibatches(DATA, models.process, (8, 9), 4000).step(0), n) for n in ("x_t", "t", "epsilon")
    )
    before, after = models.losses(x, t, epsilon).mean(1), run.models[""].losses(x, t, epsilon).mean(1)
    for seed, module in enumerate(modules):
        alone = float((module(x[seed], t[seed]) - epsilon[seed]).detach().square().mean())
        # other minibatches, so the losses agree as two runs of one seed do: to a tenth of what was learnt
        assert abs(alone - float(after[seed])) < 0.1 * float(before[seed] - after[seed])


def test_minibatches_hold_noised_data_at_uniform_times() -> None:
    drawn = Minibatches(DATA, PROCESS, (2,), 40000, dtype=torch.float64).step(BLOCK)
    t, x_t, epsilon = drawn.t[0], drawn.x_t[0], drawn.epsilon[0]
    counts = torch.bincount(t, minlength=100).double()
    # chi^2 of 99 degrees of freedom: mean 99, standard deviation 14
    assert abs(float(((counts - 400) ** 2 / 400).sum()) - 99) < 5 * 14.1
    early = t < 50  # where alpha_bar > .5, so that rounding is not enlarged
    bars = PROCESS.alphas_cumprod[t[early]][:, None]
    x_0 = (x_t[early] - (1 - bars).sqrt() * epsilon[early]) / bars.sqrt()
    for values, expected in (
        (x_0, DATA.mean()),
        (x_0 * x_0.flip(1), torch.zeros(2)),
        (x_0**2, DATA.covariance().diag()),
    ):
        assert bool(((values.mean(0) - expected).abs() < 5 * values.std(0) / len(x_0) ** 0.5).all())
    for values in (epsilon, epsilon[early] * x_0):
        assert bool((values.mean(0).abs() < 5 * values.std(0) / len(values) ** 0.5).all())
    assert float(DATA.log_density(x_0).min()) > -20  # each on its mode: N(0, .1^2 I) leaves 6 deviations once in 10^8
