"""Weight averages against direct sums over the whole history, torch's own updates, and mutants."""

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from flatness.training import weight_averaging
from flatness.training.weight_averaging import EMA, SWA, PowerEMA, Rule, Shadows
from tests.flatness.averaging_common import ROUNDING, STEPS, flat, history, network, profile_weights, walk

RULES: dict[str, Rule] = {"ema": EMA(0.9), "swa": SWA(start=12, cycle=5), "all": SWA(), "power": PowerEMA(2.5)}
Averaged = Callable[[nn.Module, Rule], Any]


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


def _library_swa(average: Any, share: Callable[[int], float]) -> Any:
    def update(averages: Any, weights: Any, _: Any) -> None:
        torch._foreach_lerp_(averages, weights, share(int(average.n_averaged) + 1))

    average.multi_avg_fn = update
    return average


def never_averages(model: nn.Module, rule: Rule) -> Any:
    return _library_swa(original(model, rule), lambda t: 0.0)


def runs_away(model: nn.Module, rule: Rule) -> Any:
    return _library_swa(original(model, rule), lambda t: -1 / t)


def ema_starts_late(model: nn.Module, rule: Rule) -> Any:
    average = original(model, rule)
    average.n_averaged.fill_(0 if isinstance(rule, EMA) else int(average.n_averaged))
    return average


def ema_rate_is_swapped(model: nn.Module, rule: Rule) -> Any:
    return original(model, EMA(1 - rule.decay) if isinstance(rule, EMA) else rule)


def mean_counts_from_zero(model: nn.Module, rule: Rule) -> Any:
    average = original(model, rule)
    return _library_swa(average, lambda t: 1 / (t + 1)) if isinstance(rule, SWA) else average


def exponent_is_gamma(model: nn.Module, rule: Rule) -> Any:
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
    taken_in: Any = weight_averaging._averaged(model, rule).multi_avg_fn
    library = AveragedModel(model, multi_avg_fn=taken_in)
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
        state, expected = ours._shadows[name].state_dict(), library.state_dict()
        assert list(state) == list(expected)
        assert all(torch.equal(state[key], expected[key]) for key in expected), name


class Transfers(TorchDispatchMode):
    """Counts tensors that are copied from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if isinstance(output, Tensor) and args and isinstance(args[0], Tensor):
            self.count += output.device != args[0].device
        return output


def test_an_update_copies_nothing_to_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA such a copy waits for all that is queued; a device without numbers, else refused, shows it, too."""
    monkeypatch.setattr(weight_averaging.arguments, "module", lambda name, model: model)
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
        (lambda: Shadows(nn.ReLU(), RULES), "without parameters"),
        (lambda: Shadows(Wrapped(1, 1), RULES), "the module inside"),
        (lambda: Shadows(network(dtype=torch.bfloat16), RULES), "bfloat16; allowed: float32, float64"),
        (lambda: Shadows(model, {}), "rules is {}"),
        (lambda: Shadows(model, {"ema": 0.9}), "allowed: at least one EMA, SWA or PowerEMA"),  # type: ignore[dict-item]
        (lambda: Shadows(model, RULES)["sam"], "name is 'sam'; allowed: one of 'ema'"),
        (lambda: Shadows(model, RULES).update(1), "step is 1; allowed: 0"),
        (lambda: Shadows(model, RULES, first_step=7).update(0), "step is 0; allowed: 7"),
    ]
    for make, message in cases:
        with pytest.raises(ValueError, match=message):
            make()


def by_hand(rule: EMA) -> np.ndarray:
    """An EMA with a later start and a warm-up, as a loop."""
    initial, after = history()
    average, k = initial, 0
    for step in range(STEPS):
        if step < rule.start:
            average = after[step]
            continue
        decay = rule.decay if rule.warmup is None else min(rule.decay, 1 - (1 + k) ** -rule.warmup)
        average, k = decay * average + (1 - decay) * after[step], k + 1
    return average


VARIANTS = [EMA(0.9, start=25), EMA(0.9, warmup=0.75), EMA(0.99, start=7, warmup=2 / 3), EMA(0.99, start=200), EMA(0.9)]


@pytest.mark.parametrize("rule", VARIANTS)
def test_an_ema_starts_late_and_warms_up(rule: EMA) -> None:
    model = network()
    shadows = Shadows(model, {"ema": rule})
    for step in range(STEPS):
        walk(model, step)
        shadows.update(step)
        if step == 30:  # and goes on from its state
            state = shadows.state_dict()
            model_there = network()
            walk(model_there, step)
            again = Shadows(model_there, {"ema": rule})
            again.load_state_dict(state)
            shadows, model = again, model_there
    expected = by_hand(rule)
    assert np.abs(flat(shadows["ema"]) - expected).max() <= ROUNDING
    if rule != EMA(0.9):
        assert np.abs(expected - by_hand(EMA(rule.decay))).max() > 1e-3  # so that the options do something


@pytest.mark.parametrize("rule", VARIANTS)
def test_the_share_of_the_start_is_what_the_average_has_of_it(rule: EMA) -> None:
    """The derivative of the average by the weights that it began from."""
    for steps in (0, 1, 5, STEPS):
        model = nn.Linear(1, 1, bias=False).double()
        with torch.no_grad():
            model.weight.fill_(1.0)
        shadows = Shadows(model, {"ema": rule})
        for step in range(steps):
            with torch.no_grad():
                model.weight.fill_(1.0 if step < rule.start else 0.0)
            shadows.update(step)
        (weight,) = shadows["ema"].parameters()
        assert weight.item() == pytest.approx(rule.share_of_start(steps), abs=1e-12)
    assert EMA(0.9999).share_of_start(10_000) == pytest.approx(math.exp(-1), rel=1e-3)
    assert EMA(0.9999, warmup=2 / 3).share_of_start(10_000) == 0.0


def test_a_state_of_before_there_were_options_is_read() -> None:
    shadows = Shadows(network(), {"ema": EMA(0.9)})
    assert shadows.state_dict()["rules"] == {"ema": {"kind": "EMA", "decay": 0.9}}
    late = Shadows(network(), {"ema": EMA(0.9, start=3, warmup=0.5)})
    assert late.state_dict()["rules"] == {"ema": {"kind": "EMA", "decay": 0.9, "start": 3, "warmup": 0.5}}
    with pytest.raises(ValueError, match="state_dict has the rules"):
        late.load_state_dict(shadows.state_dict())
    for wrong in ({"start": -1}, {"start": 0.5}, {"warmup": 0.0}, {"warmup": "fast"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            EMA(0.9, **wrong)
