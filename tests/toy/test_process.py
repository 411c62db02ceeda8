"""Schedules against their published definitions, x_t against its law."""

import math

import pytest
import torch

from toy.process import Process, cosine_process, linear_process, process_of, time_embedding

ROUNDING = 1e-12
"""Products of up to a thousand factors in float64 err by some 1e-13."""


@pytest.mark.parametrize("steps", [100, 1000])
def test_cosine_schedule_is_the_published_one(steps: int) -> None:
    bars = cosine_process(steps).alphas_cumprod
    for t in (0, steps // 3, steps - 2):  # the clipped beta is the last one
        angles = [((i / steps) + 0.008) / 1.008 * math.pi / 2 for i in (0, t + 1)]
        expected = math.cos(angles[1]) ** 2 / math.cos(angles[0]) ** 2
        assert float(bars[t]) == pytest.approx(expected, rel=ROUNDING)
    assert float(1 - bars[-1] / bars[-2]) == pytest.approx(0.999, rel=ROUNDING)


def test_linear_schedule_is_the_published_one() -> None:
    process = linear_process(1000)
    product = 1.0
    for t in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * t / 999)
    assert float(process.alphas_cumprod[-1]) == pytest.approx(product, rel=ROUNDING)
    assert float(process.alphas_cumprod[0]) == pytest.approx(1 - 1e-4, rel=ROUNDING)
    # its sum of betas, and so its last alpha_bar up to second order in beta, is kept at another number of steps
    assert math.log(float(linear_process(100).alphas_cumprod[-1])) == pytest.approx(math.log(product), rel=0.1)


def test_both_cosine_processes_run_through_the_same_levels() -> None:
    short, long = cosine_process(100).alphas_cumprod, cosine_process(1000).alphas_cumprod
    torch.testing.assert_close(short[:-1], long[9:-1:10], rtol=ROUNDING, atol=0)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_noisy_points_have_the_stated_law(schedule: str) -> None:
    process = process_of(schedule, 100)
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.tensor([1.0, -2.0], dtype=torch.float64).expand(40000, 2)
    t = torch.tensor([5, 60]).repeat(20000)
    x_t = process.noisy(x_0, t, torch.randn(x_0.shape, generator=generator, dtype=torch.float64))
    for step in (5, 60):
        bar, points = float(process.alphas_cumprod[step]), x_t[t == step]
        variance = 1 - bar
        # five standard errors of a mean and of a variance of 20,000 normal points
        assert bool(((points.mean(0) - bar**0.5 * x_0[0]).abs() < 5 * (variance / 20000) ** 0.5).all())
        assert bool(((points.var(0) - variance).abs() < 5 * variance * (2 / 20000) ** 0.5).all())


def test_one_step_for_all_points_is_that_step_for_each() -> None:
    process = cosine_process(100)
    x_0, noise = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(process.noisy(x_0, 40, noise), process.noisy(x_0, torch.full((7,), 40), noise))
    assert process.noisy(x_0.float(), 40, noise.float()).dtype == torch.float32


def test_reverse_steps_are_respaced() -> None:
    assert [step.t for step in cosine_process(1000).reverse(20)][:5] == [0, 53, 105, 158, 210]


@pytest.mark.parametrize("steps", [100, 1000])
def test_time_embedding_is_sinusoidal(steps: int) -> None:
    table = time_embedding(steps, 8)
    t = steps // 2  # 500 of 1000
    for i in range(4):
        angle = 500 * 10000.0 ** (-2 * i / 8)
        assert float(table[t, i]) == pytest.approx(math.cos(angle), abs=ROUNDING)
        assert float(table[t, 4 + i]) == pytest.approx(math.sin(angle), abs=ROUNDING)
    torch.testing.assert_close(table.square().sum(1), torch.full((steps,), 4.0, dtype=torch.float64))


def test_bad_input_is_named() -> None:
    process = cosine_process(10)
    x = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"alphas_cumprod .* allowed"):
        Process(torch.tensor([0.5, 0.6]))
    with pytest.raises(ValueError, match="schedule is 'sine'"):
        process_of("sine")
    with pytest.raises(ValueError, match="steps is 20"):
        linear_process(20)
    with pytest.raises(ValueError, match="size is 3"):
        time_embedding(10, 3)
    for t in (10, -1, True, 1.0, torch.tensor([0, 3, 11])):
        with pytest.raises(ValueError, match="t is"):
            process.noisy(x, t, x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="t is a tensor of shape"):
        process.noisy(x, torch.zeros(2, dtype=torch.int64), x)
    with pytest.raises(ValueError, match="epsilon is"):
        process.noisy(x, 0, x[:2])
