"""Respaced steps and the coefficients of the reverse process."""

from __future__ import annotations

import pytest
import torch

from flatness.diffusion.sampling import respaced_steps, reverse_steps

ALPHA_BAR = torch.linspace(0.99, 0.01, 100)


def test_steps_are_respaced_evenly() -> None:
    twenty = [0, 53, 105, 158, 210, 263, 315, 368, 421, 473, 526, 578, 631, 684, 736, 789, 841, 894, 946, 999]
    assert respaced_steps(1000, 20) == twenty
    assert respaced_steps(1000, 1000) == list(range(1000))
    assert respaced_steps(10, 1) == [0]
    assert respaced_steps(10, 2) == [0, 9]


def test_reverse_steps_are_consistent() -> None:
    steps = respaced_steps(100, 8)
    coefficients = reverse_steps(ALPHA_BAR, steps)
    product = 1.0
    for step in coefficients:
        product *= 1 - step.beta
        assert step.alpha_bar == pytest.approx(product, rel=1e-12)
        assert 0.0 <= step.posterior_variance < step.beta
        # x_0 = x = 1 at no noise: sqrt(alpha_bar) x_0 goes to sqrt(previous_alpha_bar) x_0
        one = torch.ones((), dtype=torch.float64)
        assert float(step.mean(step.alpha_bar**0.5 * one, one)) == pytest.approx(
            step.previous_alpha_bar**0.5, rel=1e-12
        )
    assert coefficients[0].posterior_variance == 0.0
    assert [step.t for step in coefficients] == steps


def test_schedules_may_be_clamped_where_no_steps_are() -> None:
    clamped = ALPHA_BAR.clamp(0.05, 0.95)
    assert [step.t for step in reverse_steps(clamped, [0, 50, 99])] == [0, 50, 99]
    with pytest.raises(ValueError, match=r"alphas_cumprod is 0.95 at steps 0 and 3; allowed: less noise"):
        reverse_steps(clamped, [0, 3, 50])


def test_wrong_numbers_are_refused() -> None:
    for total, count, message in ((0, 1, "total is 0"), (5, 0, "count is 0"), (5, 6, "count is 6")):
        with pytest.raises(ValueError, match=message):
            respaced_steps(total, count)
