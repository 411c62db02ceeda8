"""Weight averages against direct sums over the whole history, post-hoc EMA against EMAs that were tracked, mutants."""

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
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from flatness import weight_averaging
from flatness.weight_averaging import (
    EMA,
    LARGEST_SIGMA_REL,
    SWA,
    PowerEMA,
    Rule,
    Shadows,
    Snapshot,
    _Average,
    fit,
    reconstruct,
)

STEPS = 60
ROUNDING = 1e-13
"""float64, weights of order 1: a rounding of 1e-16 a step, sixty steps, and the direct sum's own."""
RULES: dict[str, Rule] = {"ema": EMA(0.9), "swa": SWA(start=12, cycle=5), "all": SWA(), "power": PowerEMA(2.5)}
Averaged = Callable[[nn.Module, Rule], _Average]
Profile = tuple[float, float]


def network(seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)).to(dtype)


def flat(module: nn.Module) -> np.ndarray:
    return torch.cat([p.detach().flatten() for p in module.parameters()]).double().numpy()


@torch.no_grad()
def walk(model: nn.Module, step: int) -> None:
    """The weights after a step, a function of the step: a slow drift with noise."""
    generator = torch.Generator().manual_seed(step)
    for p in model.parameters():
        p.copy_(math.sin(step / 40) + 0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype))


def history(count: int = STEPS) -> tuple[np.ndarray, np.ndarray]:
    """The initial weights, and those after steps 0 to count - 1."""
    model, after = network(), []
    initial = flat(model)
    for step in range(count):
        walk(model, step)
        after.append(flat(model))
    return initial, np.array(after)


def profile_weights(gamma: float, steps: int, total: int) -> np.ndarray:
    """What the weights after each of the steps count for in a power-function EMA after `steps` of them."""
    k = np.arange(1, total + 1)
    return np.where(k <= steps, (k ** (gamma + 1.0) - (k - 1) ** (gamma + 1.0)) / steps ** (gamma + 1.0), 0)


def check_averages() -> None:
    """Every average, after the last step, is the weighted sum that its definition says."""
    model = network()
    shadows = Shadows(model, RULES)
    for step in range(STEPS):
        walk(model, step)
        shadows.update(step)
    initial, after = history()
    decays = 0.9 ** np.arange(STEPS, -1, -1)
    expected = {
        "ema": decays[0] * initial + 0.1 * (decays[1:, None] * after).sum(0),
        "swa": after[[15, 20, 25, 30, 35, 40, 45, 50, 55]].mean(0),
        "all": after.mean(0),
        "power": (profile_weights(2.5, STEPS, STEPS)[:, None] * after).sum(0),
    }
    for name, value in expected.items():
        assert np.abs(flat(shadows[name]) - value).max() <= ROUNDING, name


# Mutants: what an averaging rule can get wrong.


def _library_swa(average: _Average, share: Callable[[int], float]) -> _Average:
    def update(averages: Any, weights: Any, _: Any) -> None:
        torch._foreach_lerp_(averages, weights, share(int(average.n_averaged) + 1))

    average.multi_avg_fn = update
    return average


def never_averages(model: nn.Module, rule: Rule) -> _Average:
    return _library_swa(original(model, rule), lambda t: 0.0)


def runs_away(model: nn.Module, rule: Rule) -> _Average:
    return _library_swa(original(model, rule), lambda t: -1 / t)


def ema_starts_late(model: nn.Module, rule: Rule) -> _Average:
    average = original(model, rule)
    average.n_averaged.fill_(0 if isinstance(rule, EMA) else int(average.n_averaged))
    return average


def ema_rate_is_swapped(model: nn.Module, rule: Rule) -> _Average:
    return original(model, EMA(1 - rule.decay) if isinstance(rule, EMA) else rule)


def mean_counts_from_zero(model: nn.Module, rule: Rule) -> _Average:
    average = original(model, rule)
    return _library_swa(average, lambda t: 1 / (t + 1)) if isinstance(rule, SWA) else average


def exponent_is_gamma(model: nn.Module, rule: Rule) -> _Average:
    return original(model, PowerEMA(rule.gamma - 1) if isinstance(rule, PowerEMA) else rule)


original = weight_averaging._averaged
MUTANTS: list[Averaged] = [
    never_averages,
    runs_away,
    ema_starts_late,
    ema_rate_is_swapped,
    mean_counts_from_zero,
    exponent_is_gamma,
]


def test_averages_are_direct_sums() -> None:
    check_averages()


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutant_rule_is_found_out(mutant: Averaged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_averaging, "_averaged", mutant)
    with pytest.raises(AssertionError):
        check_averages()


def test_swa_takes_in_multiples_of_its_cycle_from_its_start_on() -> None:
    for start, cycle, expected in ((0, 4, [0, 4, 8]), (5, 4, [8]), (4, 4, [4, 8]), (10, 1, [10, 11])):
        model = network()
        shadows = Shadows(model, {"swa": SWA(start, cycle)})
        taken = []
        for step in range(12):
            if step < expected[0]:
                with pytest.raises(ValueError, match="averaged nothing yet"):
                    shadows["swa"]
            before = int(shadows._shadows["swa"].n_averaged)
            shadows.update(step)
            taken += [step] * (int(shadows._shadows["swa"].n_averaged) - before)
        assert taken == expected


def test_buffers_are_those_of_the_last_update() -> None:
    model = network()
    shadows = Shadows(model, RULES)
    model(torch.randn(8, 2, dtype=torch.float64))
    shadows.update(0)
    assert torch.equal(dict(shadows["ema"].named_buffers())["1.running_mean"], model[1].running_mean)  # type: ignore[index]


def of_the_library(model: nn.Module, rule: Rule) -> AveragedModel:
    """The same average, kept up by torch's own update."""
    library = AveragedModel(model, multi_avg_fn=weight_averaging._averaged(model, rule).multi_avg_fn)
    if isinstance(rule, EMA):
        library.update_parameters(model)
        return library

    def update(averages: Any, weights: Any, n: Any) -> None:
        t = int(n) + 1
        share = 1 / t if isinstance(rule, SWA) else -math.expm1((rule.gamma + 1) * math.log1p(-1 / t))
        torch._foreach_lerp_(averages, weights, share)

    library.multi_avg_fn = torch.no_grad()(update)
    return library


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_updates_are_torchs_own_bit_for_bit_buffers_too(dtype: torch.dtype) -> None:
    model = network(dtype=dtype)
    model.register_buffer("shared", model.get_buffer("1.running_mean"))  # one buffer by two names
    ours, theirs = Shadows(model, RULES), {name: of_the_library(model, rule) for name, rule in RULES.items()}
    for step in range(20):
        walk(model, step)
        model(torch.randn(4, 2, dtype=dtype))  # moves the buffers
        ours.update(step)
        for name, rule in RULES.items():
            if not isinstance(rule, SWA) or (step >= rule.start and step % rule.cycle == 0):
                theirs[name].update_parameters(model)
    for name, library in theirs.items():
        found, expected = ours._shadows[name].state_dict(), library.state_dict()
        assert list(found) == list(expected)
        assert all(torch.equal(found[key], expected[key]) for key in expected), name


class Transfers(TorchDispatchMode):
    """Counts tensors that are copied from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and args and isinstance(args[0], Tensor):
            self.count += found.device != args[0].device
        return found


def test_an_update_copies_nothing_to_the_device() -> None:
    """On CUDA such a copy waits for all that is queued; a device without numbers shows it, too."""
    model = network().to("meta")
    shadows, library = Shadows(model, RULES), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    with Transfers() as ours:
        for step in range(20):
            shadows.update(step)
    assert ours.count == 0
    with Transfers() as theirs:
        for _ in range(2):
            library.update_parameters(model)
    assert theirs.count > 0  # what is counted is there to be found


def test_resumed_equals_uninterrupted_bit_for_bit() -> None:
    ended = []
    for stops in (False, True):
        model = network()
        shadows = Shadows(model, RULES)
        for step in range(STEPS):
            if stops and step == 31:
                file = io.BytesIO()
                torch.save(shadows.state_dict(), file)
                file.seek(0)
                shadows = Shadows(network(seed=3), RULES)
                shadows.load_state_dict(torch.load(file, weights_only=True))
                shadows._model = model
            walk(model, step)
            shadows.update(step)
        ended.append([t.clone() for name in RULES for t in shadows[name].state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*ended, strict=True))
    with pytest.raises(ValueError, match=r"0\.99.*allowed: .*0\.9"):
        Shadows(model, {"ema": EMA(0.9)}).load_state_dict(Shadows(model, {"ema": EMA(0.99)}).state_dict())


def test_an_average_takes_the_place_of_the_weights_and_gives_it_back() -> None:
    model = network(dtype=torch.float32)
    shadows = Shadows(model, {"ema": EMA(0.5)})
    walk(model, 0)
    shadows.update(0)
    model(torch.randn(8, 2))  # moves the model's buffers from those of the average
    before = [t.clone() for t in model.state_dict().values()]
    addresses = [p.data_ptr() for p in model.parameters()]
    raw = flat(model)

    def use() -> None:
        with shadows.applied("ema", model):
            assert np.array_equal(flat(model), flat(shadows["ema"]))
            assert not np.array_equal(flat(model), raw)
            with pytest.raises(RuntimeError, match="average would take in an average"):
                shadows.update(1)
            with torch.no_grad():
                next(model.parameters()).zero_()
            raise KeyError

    with pytest.raises(KeyError):
        use()
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), before, strict=True))
    assert [p.data_ptr() for p in model.parameters()] == addresses
    assert float(next(shadows["ema"].parameters()).detach().abs().max()) > 0
    other = network(seed=9, dtype=torch.float32)
    shadows.copy_to("ema", other)
    assert np.array_equal(flat(other), flat(shadows["ema"]))
    shadows.update(1)


# Post-hoc EMA.


@given(sigma_rel=st.floats(1e-4, LARGEST_SIGMA_REL))
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
    found = fit(profiles, target)
    # where profiles nearly coincide the coefficients are large, and rounding grows with them
    slack = 1e-7 * found.amplification
    assert sum(found.coefficients) == pytest.approx(1, abs=slack)
    best = leftover(profiles, found.coefficients, target)
    assert found.error == pytest.approx(best, abs=1e-6 + slack)
    rng = np.random.default_rng(seed)
    for size in (1e-3, 1e-1):
        change = rng.normal(size=len(profiles))
        other = np.array(found.coefficients) + size * (change - change.mean())
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
        found = fit(profiles, (rule.gamma, steps))
        # The coefficients sum to 1, so only what the profiles differ by acts, on the weights' distance from a constant.
        combined = sum(x * profile_weights(g, t, steps) for x, (g, t) in zip(found.coefficients, profiles, strict=True))
        difference = np.abs(profile_weights(rule.gamma, steps, steps) - combined).sum()
        rounding = 1e-14 * found.amplification
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
        found = fit([(s["gamma"], s["steps"]) for s in snapshots], (rule.gamma, 60))
        rebuilt = reconstruct(snapshots, rule)
        for key, p in shadows[name].named_parameters():
            torch.testing.assert_close(rebuilt[key], p.detach(), rtol=0, atol=1e-10 * found.amplification)
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
    kept = snapshots[1]["weights"]["0.weight"].clone()
    walk(shadows._model, 4)
    shadows.update(4)
    assert torch.equal(snapshots[1]["weights"]["0.weight"], kept)
    file = io.BytesIO()
    torch.save(snapshots, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    missing = network().load_state_dict(reconstruct(loaded, PowerEMA(16.97)), strict=False)
    assert not missing.unexpected_keys
    assert all("running" in key or "num_batches" in key for key in missing.missing_keys)


class Wrapped(nn.Linear):
    def no_sync(self) -> None:
        """Stands for DistributedDataParallel."""


def test_arguments() -> None:
    model = network()
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: EMA(1.1), r"decay is 1\.1; allowed: a finite number of at least 0 and of at most 1"),
        (lambda: SWA(-1), "start is -1"),
        (lambda: SWA(0, 0), "cycle is 0; allowed: a whole number of at least 1"),
        (lambda: PowerEMA(-0.5), r"gamma is -0\.5"),
        (lambda: PowerEMA.of_width(0.3), r"sigma_rel is 0\.3"),
        (lambda: Shadows(nn.ReLU(), RULES), "without parameters"),
        (lambda: Shadows(Wrapped(1, 1), RULES), "the module inside"),
        (lambda: Shadows(network(dtype=torch.bfloat16), RULES), "bfloat16; allowed: float32, float64"),
        (lambda: Shadows(model, {}), "rules is {}"),
        (lambda: Shadows(model, {"ema": 0.9}), "allowed: at least one EMA, SWA or PowerEMA"),  # type: ignore[dict-item]
        (lambda: Shadows(model, RULES)["sam"], "name is 'sam'; allowed: one of 'ema'"),
        (lambda: Shadows(model, RULES).update(1), "step is 1; allowed: 0"),
        (lambda: Shadows(model, RULES, first_step=7).update(0), "step is 0; allowed: 7"),
        (lambda: fit([], (1.0, 1.0)), "at most 0"),
        (lambda: fit([(1.0, 5.0)], (1.0, 6.0)), "target has 6.0 steps; allowed: at most 5.0"),
        (lambda: fit([(-1.0, 5.0)], (1.0, 5.0)), r"gamma is -1\.0"),
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
