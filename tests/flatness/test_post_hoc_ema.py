"""Power-function averages of any width after training, against averages that were tracked, and mutants."""

import io
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from torch import Tensor

from flatness.training.averaging_rules import SMALLEST_SIGMA_REL
from flatness.training.weight_averaging import (
    EMA,
    LARGEST_SIGMA_REL,
    PowerEMA,
    Rule,
    Shadows,
    Snapshot,
    fit,
    reconstruct,
)
from tests.flatness.averaging_common import flat, history, network, profile_weights, walk

Profile = tuple[float, float]


@given(sigma_rel=st.floats(SMALLEST_SIGMA_REL, LARGEST_SIGMA_REL))
def test_width_and_exponent_are_inverse(sigma_rel: float) -> None:
    rule = PowerEMA.of_width(sigma_rel)
    # sigma_rel changes by less than itself over gamma + 1, so an ulp of gamma is an ulp of sigma_rel; a few for roots
    assert rule.sigma_rel == pytest.approx(sigma_rel, rel=1e-14)


def test_width_is_the_standard_deviation_of_the_profile() -> None:
    for gamma in (0.0, 1.0, 6.94, 16.97):
        mean, square = (
            integrate.quad(lambda s, k=k, g=gamma: (g + 1) * s**g * s**k, 0, 1, epsabs=1e-13)[0] for k in (1, 2)
        )
        assert PowerEMA(gamma).sigma_rel == pytest.approx(math.sqrt(square - mean**2), rel=1e-9)
    # Karras et al. 2024 print gamma = 16.97 and 6.94 beside the widths .05 and .10
    assert [round(PowerEMA.of_width(s).gamma, 2) for s in (0.05, 0.10)] == [16.97, 6.94]


def leftover(profiles: Sequence[Profile], coefficients: Sequence[float], target: Profile) -> float:
    """The L2 norm of sum x_i p_i - p over that of p, by quadrature."""

    def p(s: float, gamma: float, t: float) -> float:
        return (gamma + 1) / t * (s / t) ** gamma if s <= t else 0.0

    def square(s: float) -> float:
        parts = (x * p(s, *profile) for x, profile in zip(coefficients, profiles, strict=True))
        return float((sum(parts) - p(s, *target)) ** 2)

    ends = sorted({0.0, target[1], *(t for _, t in profiles)})
    above = sum(integrate.quad(square, a, b, epsabs=1e-15)[0] for a, b in itertools.pairwise(ends))
    below = integrate.quad(lambda s: p(s, *target) ** 2, 0, target[1], epsabs=1e-15)[0]
    return math.sqrt(above / below)


@settings(max_examples=25, deadline=None)
@given(
    profiles=st.lists(st.tuples(st.floats(0, 20), st.floats(0.1, 1)), min_size=2, max_size=4, unique=True),
    gamma=st.floats(0, 20),
    share=st.floats(0.2, 1),
    seed=st.integers(0, 2**31),
)
def test_fit_is_the_best_combination(
    profiles: list[tuple[float, float]], gamma: float, share: float, seed: int
) -> None:
    target = (gamma, share * max(t for _, t in profiles))
    fitted = fit(profiles, target)
    # where profiles nearly coincide the coefficients are large, and rounding grows with them
    slack = 1e-7 * fitted.amplification
    assert sum(fitted.coefficients) == pytest.approx(1, abs=slack)
    best = leftover(profiles, fitted.coefficients, target)
    assert fitted.error == pytest.approx(best, abs=1e-6 + slack)
    rng = np.random.default_rng(seed)
    for size in (1e-3, 1e-1):
        change = rng.normal(size=len(profiles))
        other = np.array(fitted.coefficients) + size * (change - change.mean())
        assert leftover(profiles, list(other), target) >= best - slack


def tracked(rules: dict[str, Rule], steps: int, every: int) -> tuple[Shadows, list[Snapshot]]:
    model = network()
    shadows, snapshots = Shadows(model, rules), []
    for step in range(steps):
        walk(model, step)
        shadows.update(step)
        if (step + 1) % every == 0:
            snapshots += [s for s in shadows.snapshots() if s["gamma"] in (16.97, 6.94)]
    return shadows, snapshots


Reconstruct = Callable[[Sequence[Snapshot], PowerEMA, int | None], dict[str, Tensor]]


def check_reconstruction(rebuild: Reconstruct) -> None:
    """Averages of widths between, below and above the two that were kept, against averages tracked for the purpose."""
    steps, every = 240, 20
    wanted = {str(w): PowerEMA.of_width(w) for w in (0.05, 0.075, 0.1, 0.15)}
    shadows, snapshots = tracked({"a": PowerEMA(16.97), "b": PowerEMA(6.94), **wanted}, steps, every)
    profiles = [(s["gamma"], s["steps"]) for s in snapshots]
    _, after = history(steps)
    spread = np.abs(after - after.mean(0)).max()
    for name, rule in wanted.items():
        direct = flat(shadows[name])
        rebuilt = torch.cat([t.flatten() for t in rebuild(snapshots, rule, None).values()]).numpy()
        fitted = fit(profiles, (rule.gamma, steps))
        # The coefficients sum to 1, so only what the profiles differ by acts, on the weights' distance from a constant.
        combined = sum(
            x * profile_weights(g, t, steps) for x, (g, t) in zip(fitted.coefficients, profiles, strict=True)
        )
        difference = np.abs(profile_weights(rule.gamma, steps, steps) - combined).sum()
        rounding = 1e-14 * fitted.amplification
        assert np.abs(rebuilt - direct).max() <= spread * difference + rounding
        assert difference <= 0.05  # which twelve snapshots of two are good for: under a twentieth of the spread
        assert np.abs(after[-1] - direct).max() > 0.2 * spread  # and that says something here


def takes_the_latest(snapshots: Sequence[Snapshot], rule: PowerEMA, steps: int | None) -> dict[str, Tensor]:
    return snapshots[-1]["weights"]


def takes_the_mean(snapshots: Sequence[Snapshot], rule: PowerEMA, steps: int | None) -> dict[str, Tensor]:
    return {k: torch.stack([s["weights"][k] for s in snapshots]).mean(0) for k in snapshots[0]["weights"]}


def takes_width_for_exponent(snapshots: Sequence[Snapshot], rule: PowerEMA, steps: int | None) -> dict[str, Tensor]:
    return reconstruct(snapshots, PowerEMA(rule.sigma_rel), steps)


def test_reconstruction_is_the_average_that_was_not_kept() -> None:
    check_reconstruction(reconstruct)


@pytest.mark.parametrize("mutant", [takes_the_latest, takes_the_mean, takes_width_for_exponent])
def test_mutant_reconstruction_is_found_out(mutant: Reconstruct) -> None:
    with pytest.raises(AssertionError):
        check_reconstruction(mutant)


def test_reconstruction_of_what_was_kept_and_of_weights_that_stand_still() -> None:
    shadows, snapshots = tracked({"a": PowerEMA(16.97), "b": PowerEMA(6.94)}, 60, 10)
    for name, rule in (("a", PowerEMA(16.97)), ("b", PowerEMA(6.94))):
        fitted = fit([(s["gamma"], s["steps"]) for s in snapshots], (rule.gamma, 60))
        rebuilt = reconstruct(snapshots, rule)
        for key, p in shadows[name].named_parameters():
            torch.testing.assert_close(rebuilt[key], p.detach(), rtol=0, atol=1e-10 * fitted.amplification)
    for snapshot in snapshots:
        snapshot["weights"] = {key: torch.full_like(value, 0.1) for key, value in snapshot["weights"].items()}
    for value in reconstruct(snapshots, PowerEMA(30.0), 33).values():
        torch.testing.assert_close(value, torch.full_like(value, 0.1), rtol=0, atol=1e-12)


def test_reconstruction_sums_in_float64() -> None:
    profiles = [(gamma, steps) for gamma in (16.97, 6.94) for steps in (20, 40, 60)]
    values = torch.rand(6, 1000, generator=torch.Generator().manual_seed(0))
    snapshots: list[Snapshot] = [
        {"gamma": gamma, "steps": steps, "weights": {"w": value}}
        for (gamma, steps), value in zip(profiles, values, strict=True)
    ]
    coefficients = np.array(fit(profiles, (3.0, 60)).coefficients)
    expected = (coefficients[:, None] * values.numpy().astype(float)).sum(0).astype(np.float32)
    assert np.array_equal(reconstruct(snapshots, PowerEMA(3.0))["w"].numpy(), expected)


def test_snapshots_are_copies_that_load_as_plain_weights() -> None:
    shadows, snapshots = tracked({"a": PowerEMA(16.97), "ema": EMA()}, 4, 2)
    assert [(s["gamma"], s["steps"]) for s in snapshots] == [(16.97, 2), (16.97, 4)]
    before = snapshots[1]["weights"]["0.weight"].clone()
    walk(shadows._model, 4)
    shadows.update(4)
    assert torch.equal(snapshots[1]["weights"]["0.weight"], before)
    file = io.BytesIO()
    torch.save(snapshots, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    missing = network().load_state_dict(reconstruct(loaded, PowerEMA(16.97)), strict=False)
    assert not missing.unexpected_keys
    assert all("running" in key or "num_batches" in key for key in missing.missing_keys)


def test_arguments() -> None:
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: PowerEMA.of_width(0.3), r"sigma_rel is 0\.3"),
        (lambda: PowerEMA.of_width(1e-310), "sigma_rel is 1e-310"),
        (lambda: PowerEMA.of_width(9e-7), "sigma_rel is 9e-07; allowed: a finite number of at least 1e-06"),
        (lambda: fit([], (1.0, 1.0)), "profiles is empty"),
        (lambda: fit([(1.0, 5.0)], (1.0, 6.0)), "target has 6.0 steps; allowed: at most 5.0"),
        (lambda: fit([(-1.0, 5.0)], (1.0, 5.0)), r"gamma of profiles is -1\.0"),
        (lambda: reconstruct([], PowerEMA(1.0)), "snapshots is empty"),
        (
            lambda: reconstruct(
                [{"gamma": 1.0, "steps": 2, "weights": {k: torch.ones(1)}} for k in "ab"], PowerEMA(1.0)
            ),
            "different parameters",
        ),
    ]
    for make, message in cases:
        with pytest.raises(ValueError, match=message):
            make()
