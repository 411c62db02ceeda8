"""Exposure bias where everything is Gaussian, so that the law of the chain is known in closed form at each step."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from contextlib import redirect_stderr
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor, nn

from flatness.diffusion.sampling import ReverseStep, ancestral_step, respaced_steps
from flatness.measuring.exposure_bias import exposure_bias
from tests.flatness import measures_common as common

implementation = import_module("flatness.measuring.exposure_bias")  # the package may export the function by this name
ALPHA_BAR = torch.cos((torch.arange(1, 101, dtype=torch.float64) / 100 + 0.008) / 1.008 * math.pi / 2).square()
ALPHA_BAR[-1] = 2e-4  # the cosine schedule ends at 0
STEPS = respaced_steps(100, 8)
MEAN = torch.tensor([0.5, -1.0, 0.0, 2.0], dtype=torch.float64)
VARIANCE = torch.tensor([0.04, 0.5, 1.0, 2.0], dtype=torch.float64)
SHAPE = (2, 2)


def data(n: int = 40000, seed: int = 0) -> Tensor:
    """Images (n, 2, 2) from N(MEAN, diag(VARIANCE))."""
    noise = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (MEAN + VARIANCE.sqrt() * noise).reshape(n, *SHAPE)


def exact_epsilon(x: Tensor, t: Tensor) -> Tensor:
    """E[epsilon | x_t] for that data."""
    bar = ALPHA_BAR[t][:, None]
    flat = x.flatten(1)
    return ((1 - bar).sqrt() * (flat - bar.sqrt() * MEAN) / (bar * VARIANCE + 1 - bar)).reshape(x.shape)


def with_v(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The same, with v = 0.3 everywhere."""
    return exact_epsilon(x, t), torch.full_like(x, 0.3)


FAR = torch.tensor([50.0, -50.0, 40.0, -60.0], dtype=torch.float64)


def far_x_0(x: Tensor, t: Tensor) -> Tensor:
    """The noise that makes the predicted x_0 equal to FAR."""
    bar = ALPHA_BAR[t][:, None, None]
    return (x - FAR.reshape(SHAPE) * bar.sqrt()) / (1 - bar).sqrt()


def expected_norm(mean: np.ndarray, variance: np.ndarray) -> float:
    """E||e|| for independent Gaussian entries: the Laplace transform phi of ||e||^2, integrated.

    E sqrt(Q) = (1 / sqrt(pi)) int_0^inf (1 - phi(u^2)) / u^2 du.
    """

    def integrand(u: float) -> float:
        grown = 1 + 2 * u * u * variance
        exponent = -0.5 * np.log(grown).sum() - (u * u * mean**2 / grown).sum()
        return float(-np.expm1(exponent) / (u * u))

    value = quad(integrand, 0, 1, limit=200)[0] + quad(integrand, 1, np.inf, limit=200)[0]
    return float(value / math.sqrt(math.pi))


def chain_norms(variance: str, clip: bool) -> list[float]:
    """E||epsilon|| along the chain, by propagating the mean and the variance of each coordinate; own arithmetic."""
    bars = ALPHA_BAR.numpy()[STEPS]
    mu, s = MEAN.numpy(), VARIANCE.numpy()
    m, v = np.zeros(4), np.ones(4)
    norms: list[float] = []
    for i in reversed(range(len(STEPS))):
        bar, before = bars[i], bars[i - 1] if i else 1.0
        if clip:  # epsilon = (x - FAR sqrt(bar)) / sqrt(1 - bar); the clipped x_0 is 1 or -1
            slope, shift = np.ones(4) / math.sqrt(1 - bar), -FAR.numpy() * math.sqrt(bar / (1 - bar))
            x_0_slope, x_0_shift = np.zeros(4), np.sign(FAR.numpy())
        else:
            slope = math.sqrt(1 - bar) / (bar * s + 1 - bar)
            shift = -slope * math.sqrt(bar) * mu
            x_0_slope = (1 - math.sqrt(1 - bar) * slope) / math.sqrt(bar)
            x_0_shift = -math.sqrt(1 - bar) * shift / math.sqrt(bar)
        norms.insert(0, expected_norm(slope * m + shift, slope**2 * v))
        alpha = bar / before
        beta, tilde = 1 - alpha, (1 - alpha) * (1 - before) / (1 - bar)
        added = {"small": tilde, "large": beta, "learned": beta**0.65 * tilde**0.35, "double": 2 * tilde}[variance]
        of_x_0, of_x = math.sqrt(before) * beta / (1 - bar), math.sqrt(alpha) * (1 - before) / (1 - bar)
        total = of_x_0 * x_0_slope + of_x
        m, v = total * m + of_x_0 * x_0_shift, total**2 * v + added
    return norms


def training_norms() -> list[float]:
    """E||epsilon|| on q(x_t | x_0)."""
    bars = ALPHA_BAR.numpy()[STEPS]
    return [expected_norm(np.zeros(4), (1 - bar) / (bar * VARIANCE.numpy() + 1 - bar)) for bar in bars]


def near(estimate: Any, expected: float) -> bool:
    return abs(estimate.value - expected) <= common.STANDARD_ERRORS * estimate.data_standard_error


def double(v: Tensor | None, step: ReverseStep) -> Tensor:
    """A variance of the caller's own."""
    assert v is not None
    return torch.full_like(v, 2 * step.posterior_variance)


CASES: dict[str, tuple[Callable[..., Any], Any, float | None]] = {
    "small": (exact_epsilon, "small", None),
    "large": (exact_epsilon, "large", None),
    "learned": (with_v, "learned", None),
    "double": (with_v, double, None),
    "clip": (far_x_0, "small", 1.0),
}


def check_curves(case: str) -> None:
    """Both curves are those of the exact Gaussian laws, within standard errors of about a tenth of a percent."""
    model, variance, clip = CASES[case]
    result = exposure_bias(model, ALPHA_BAR, STEPS, data(), variance=variance, clip=clip, batch_size=10000)
    assert result.steps == tuple(STEPS)
    sampled = chain_norms("small" if case == "clip" else case, clip is not None)
    for i in range(len(STEPS)):
        assert result.sampling[i].data_standard_error < 0.005 * sampled[i]  # so that the next line says something
        assert near(result.sampling[i], sampled[i]), ("sampling", i)
    if case != "clip":
        trained = training_norms()
        for i in range(len(STEPS)):
            assert near(result.training[i], trained[i]), ("training", i)
            assert near(result.gap[i], sampled[i] - trained[i]), ("gap", i)
        true_gaps = np.array(sampled) - np.array(trained)
        assert near(result.mean_signed_gap, true_gaps.mean())
        assert near(result.last_gap, true_gaps[0])


@pytest.mark.parametrize("case", CASES)
def test_curves_are_those_of_the_gaussian_laws(case: str) -> None:
    check_curves(case)


def test_oracle_itself() -> None:
    # a norm of two standard normal numbers has mean sqrt(pi / 2); a constant is its own norm
    assert expected_norm(np.zeros(2), np.ones(2)) == pytest.approx(math.sqrt(math.pi / 2), rel=1e-7)
    assert expected_norm(np.array([3.0, 4.0]), np.zeros(2)) == pytest.approx(5.0, rel=1e-6)


def mean_with(of_x_0: Callable[[ReverseStep], float], of_x: Callable[[ReverseStep], float]) -> Any:
    """Mutant: other coefficients of the posterior's mean."""
    return common.patched(ReverseStep, "mean", lambda step, x, x_0: of_x_0(step) * x_0 + of_x(step) * x)


def right_x_0(step: ReverseStep) -> float:
    return step.beta * step.previous_alpha_bar**0.5 / (1 - step.alpha_bar)


def right_x(step: ReverseStep) -> float:
    return (1 - step.beta) ** 0.5 * (1 - step.previous_alpha_bar) / (1 - step.alpha_bar)


def step_with(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Mutant: the ancestral step gets other arguments."""
    step, names = ancestral_step, ("x", "epsilon", "step", "variance", "noise", "clip")

    def mutant(*values: Any) -> Tensor:
        given = dict(zip(names, values, strict=True))
        return step(**{**given, **change(given)})

    return common.patched(implementation, "ancestral_step", mutant)


def sampling_is_training() -> Any:
    def mutant(network: Any, shape: Any, reverse: Any, *rest: Any) -> Tensor:
        return implementation._training_norms(network, data(seed=1), reverse, 5, lambda done, total: None)

    return common.patched(implementation, "_sampling_norms", mutant)


def training_is_sampling() -> Any:
    def mutant(network: Any, x_0: Tensor, reverse: Any, seed: int, report: Any) -> Tensor:
        return implementation._sampling_norms(network, tuple(x_0.shape), reverse, "small", None, 5, report)

    return common.patched(implementation, "_training_norms", mutant)


MUTANTS: dict[str, Callable[[], Any]] = {
    "the mean forgets sqrt(alpha)": lambda: mean_with(right_x_0, lambda s: right_x(s) / (1 - s.beta) ** 0.5),
    "the mean takes alpha_bar before for after": lambda: mean_with(
        lambda s: s.beta * s.alpha_bar**0.5 / (1 - s.alpha_bar), right_x
    ),
    "the mean is x": lambda: mean_with(lambda s: 0.0, lambda s: 1.0),
    "does nothing": lambda: common.patched(implementation, "ancestral_step", lambda x, *rest: x),
    "noise is scaled by the variance": lambda: step_with(lambda given: {"variance": given["variance"] ** 2}),
    "no noise": lambda: step_with(lambda given: {"variance": 0.0}),
    "epsilon has the wrong sign": lambda: step_with(lambda given: {"epsilon": -given["epsilon"]}),
    "the other variance": lambda: common.patched(implementation, "variance_of", lambda choice, v, step: step.beta),
    "sampling is training": sampling_is_training,
    "training is sampling": training_is_sampling,
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_fail(mutant: str) -> None:
    with MUTANTS[mutant](), pytest.raises(AssertionError):
        check_curves("small")


def test_a_chain_without_the_clip_fails() -> None:
    with step_with(lambda given: {"clip": None}), pytest.raises(AssertionError):
        check_curves("clip")


def test_reductions_and_their_errors() -> None:
    result = exposure_bias(exact_epsilon, ALPHA_BAR, STEPS, data(500), chains=300, variance="large")
    gaps = [gap.value for gap in result.gap]
    assert gaps == pytest.approx([s.value - t.value for s, t in zip(result.sampling, result.training, strict=True)])
    assert result.mean_signed_gap.value == pytest.approx(sum(gaps) / 8)
    assert result.mean_absolute_gap.value == pytest.approx(sum(map(abs, gaps)) / 8)
    assert result.largest_absolute_gap.value == pytest.approx(max(map(abs, gaps)))
    assert result.last_gap == result.gap[0]
    for sampling, training, gap in zip(result.sampling, result.training, result.gap, strict=True):
        assert gap.data_standard_error == pytest.approx(
            math.hypot(sampling.data_standard_error, training.data_standard_error)
        )
    assert result.settings["images"] == 500
    assert result.settings["chains"] == 300
    # the mean over steps is less certain than if its steps were independent: they belong to one chain
    independent = math.sqrt(sum(gap.data_standard_error**2 for gap in result.gap)) / 8
    assert result.mean_signed_gap.data_standard_error > independent


def test_standard_error_of_the_signed_gap_is_honest() -> None:
    truth = float(np.mean(np.array(chain_norms("small", False)) - np.array(training_norms())))
    scores = []
    for seed in range(40):
        result = exposure_bias(exact_epsilon, ALPHA_BAR, STEPS, data(100, seed + 100), seed=seed)
        scores.append((result.mean_signed_gap.value - truth) / result.mean_signed_gap.data_standard_error)
    # the sum of 40 squared scores is about chi-squared: mean 40, standard deviation sqrt(80)
    assert abs(sum(score**2 for score in scores) - 40) < common.STANDARD_ERRORS * math.sqrt(80)


def test_result_is_reproducible_whatever_the_batch_size() -> None:
    results = [
        exposure_bias(exact_epsilon, ALPHA_BAR, STEPS, data(50), batch_size=size, seed=seed, chains=40)
        for size, seed in ((50, 0), (50, 0), (7, 0), (50, 1))
    ]
    text = [json.dumps(result.to_dict(), allow_nan=False) for result in results]
    assert text[0] == text[1]
    for a, b in zip(results[0].sampling, results[2].sampling, strict=True):
        assert a.value == pytest.approx(b.value, rel=1e-12)
    assert results[0].sampling[0].value != results[3].sampling[0].value


def test_every_step_and_seed_has_noise_of_its_own() -> None:
    seen: dict[tuple[int, int], list[Tensor]] = {}

    def record(seed: int) -> Callable[[Tensor, Tensor], Tensor]:
        def model(x: Tensor, t: Tensor) -> Tensor:
            seen.setdefault((seed, int(t[0])), []).append(x / (1 - ALPHA_BAR[t[0]]).sqrt())
            return torch.zeros_like(x)

        return model

    for seed in (0, 1):
        exposure_bias(record(seed), ALPHA_BAR, STEPS, torch.zeros(3, 2, 2, dtype=torch.float64), seed=seed)
    noises = [parts[0] for parts in seen.values()]  # the first call at a step is on the images, here zero
    starts = [seen[seed, STEPS[-1]][1] for seed in (0, 1)]
    for index, one in enumerate([*noises, *starts]):
        assert not any(torch.allclose(one, other, atol=0.1) for other in [*noises, *starts][:index])


class Network(nn.Module):
    """A module with everything that could be disturbed, that looks like a noise predictor."""

    def __init__(self, last_good: int) -> None:
        super().__init__()
        self.inner = common.Crowded()
        self.last_good = last_good

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        torch.rand(1)
        assert not self.inner.norm.training
        output = self.inner(torch.cat([x, t[:, None].float()], 1))
        return output if int(t[0]) <= self.last_good else output * math.nan


@pytest.mark.parametrize("fails", [False, True])
def test_a_module_is_left_as_it_was(fails: bool) -> None:
    def check() -> None:
        network = Network(50 if fails else 99)
        before = common.state_of(network)
        x_0 = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
        if fails:
            with pytest.raises(ValueError, match="norm at t = 57 on real images is not finite"):
                exposure_bias(network, ALPHA_BAR, STEPS, x_0)
        else:
            exposure_bias(network, ALPHA_BAR, STEPS, x_0)
        assert common.same(before, common.state_of(network))

    check()
    with common.forgetful_buffers(), pytest.raises(AssertionError):
        check()


def finite_at_first(calls: int) -> Any:
    """A network whose predictions are finite so many times: on real images, and not along the chain."""
    left = calls

    def model(x: Tensor, t: Tensor) -> Tensor:
        nonlocal left
        left -= 1
        return x if left >= 0 else x * math.nan

    return model


def always(value: object) -> Any:
    """A variance of one value, whatever v and the step."""
    return lambda v, step: value


def test_progress_is_told() -> None:
    """Twice over the steps, on real images and along the chain, from 1 upwards; the line names the measure."""
    told: list[tuple[int, int]] = []
    exposure_bias(exact_epsilon, ALPHA_BAR, STEPS, data(3), progress=lambda *step: told.append(step))
    total = 2 * len(STEPS)
    assert told == [(done, total) for done in range(1, total + 1)]
    written = io.StringIO()
    with redirect_stderr(written):
        exposure_bias(exact_epsilon, ALPHA_BAR, STEPS, data(3), progress=True)
    assert written.getvalue().endswith(f"\rexposure bias: {total}/{total}, 0:00:00 left\n")


def test_wrong_arguments_are_refused() -> None:
    def call(**own: Any) -> Any:
        given = {"epsilon_model": exact_epsilon, "alphas_cumprod": ALPHA_BAR, "steps": STEPS, "x_0": data(4)}
        return exposure_bias(**{**given, **own})

    increasing = ALPHA_BAR.flip(0)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"epsilon_model": 3}, "epsilon_model is 3"),
        ({"epsilon_model": lambda x, t: x[:, :1]}, "what epsilon_model returned"),
        ({"epsilon_model": lambda x, t: None}, "what epsilon_model returned"),
        ({"epsilon_model": lambda x, t: (x, x, x)}, "what epsilon_model returned"),
        ({"epsilon_model": lambda x, t: x * math.nan}, "norm at t = 0"),
        ({"alphas_cumprod": increasing}, "alphas_cumprod is"),
        ({"alphas_cumprod": torch.tensor([1.0, 0.5])}, "alphas_cumprod is"),
        ({"alphas_cumprod": torch.tensor([0.5, 0.0])}, "alphas_cumprod is"),
        ({"alphas_cumprod": ALPHA_BAR[None]}, "alphas_cumprod is"),
        ({"alphas_cumprod": [0.5]}, "alphas_cumprod is"),
        ({"steps": []}, "steps is"),
        ({"steps": [3, 1]}, "steps is"),
        ({"steps": [0, 100]}, "steps is"),
        ({"steps": [0.0, 1.0]}, "steps is 0.0"),
        ({"steps": 5}, "steps is 5"),
        ({"x_0": torch.ones(3)}, "x_0 is"),
        ({"x_0": torch.ones(3, 2) * math.nan}, "x_0 is"),
        ({"x_0": torch.ones(0, 2)}, "x_0 is"),
        ({"x_0": torch.ones(3, 2).int()}, "x_0 is"),
        ({"chains": 0}, "chains is 0"),
        ({"variance": "tiny"}, "variance is 'tiny'"),
        ({"variance": "learned"}, "allowed with a variance from v: a pair"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"chains": 2**63}, "chains is"),
        ({"epsilon_model": lambda x, t: x + 1j}, "what epsilon_model returned"),
        ({"epsilon_model": lambda x, t: x.long()}, "what epsilon_model returned"),
        ({"epsilon_model": lambda x, t: x.to_sparse()}, "what epsilon_model returned"),
        ({"epsilon_model": lambda x, t: x.to("meta")}, "what epsilon_model returned"),
        *(
            (
                {"epsilon_model": lambda x, t: (x, x), "variance": always(value)},
                "what variance ret",
            )
            for value in (
                -1.0,
                math.nan,
                None,
                "x",
                torch.ones(7),
                -torch.ones(2),
                torch.ones(2, 4, 2),
                1j,
                torch.ones(1).to_sparse(),
            )
        ),
        ({"epsilon_model": finite_at_first(len(STEPS))}, f"norm at t = {STEPS[-1]} along the chain is not finite"),
    ]
    for own, message in cases:
        with pytest.raises(ValueError, match=message):
            call(**own)


def test_a_missing_v_is_seen_at_the_first_evaluation() -> None:
    calls = []

    def model(x: Tensor, t: Tensor) -> Tensor:
        calls.append(int(t[0]))
        return x

    with pytest.raises(ValueError, match="a pair"):
        exposure_bias(model, ALPHA_BAR, STEPS, data(4), variance=double)
    assert calls == [0]


def test_one_step_and_one_chain_are_enough() -> None:
    result = exposure_bias(exact_epsilon, ALPHA_BAR, [99], data(1))
    assert len(result.sampling) == 1
    assert math.isnan(result.gap[0].data_standard_error)
    assert result.to_dict()["gap"][0]["data_standard_error"] is None
