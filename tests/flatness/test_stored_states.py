"""States that are loaded: all of one is checked before any of it is taken, so nothing is ever loaded by half."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flatness import EMA, SAM, SWA, FriendlySAM, PowerEMA, RandomSAM, RandomWeightPerturbation, Shadows
from flatness.training.averaging_rules import fit, reconstruct
from flatness.training.weight_averaging import Rule

MAKERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "sam": SAM,
    "random": RandomSAM,
    "friendly": FriendlySAM,
    "weight noise": RandomWeightPerturbation,
}
COUNTS = ("steps", "skipped", "seed")
BROKEN: tuple[Any, ...] = (None, "0.1", -1, float("nan"), float("inf"), True, [0.1], 10**400, torch.tensor(0.1))


def made(name: str) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    return model, MAKERS[name](torch.optim.Adam(model.parameters(), lr=0.1))


def trained(name: str) -> tuple[nn.Module, Any]:
    model, optimizer = made(name)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(torch.ones(4, 3)).square().sum()
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
    return model, optimizer


def plain(state: dict[str, Any]) -> str:
    return repr(state)


@pytest.mark.parametrize("name", MAKERS)
def test_a_state_that_is_whole_is_loaded(name: str) -> None:
    _, optimizer = trained(name)
    state = copy.deepcopy(optimizer.state_dict())
    _, other = made(name)
    other.load_state_dict(state)
    assert plain(other.state_dict()) == plain(state)


def changes(optimizer: Any) -> dict[str, Callable[[dict[str, Any]], Any]]:
    """Ways of damaging a state, each of which has to be refused."""
    entry = optimizer._entry
    by_name: dict[str, Callable[[dict[str, Any]], Any]] = {
        "no entry": lambda s: s.pop(entry),
        "no groups": lambda s: s.pop("param_groups"),
        "no state": lambda s: s.pop("state"),
        "a group too many": lambda s: s["param_groups"].append(s["param_groups"][0]),
        "a group of others": lambda s: s["param_groups"][0]["params"].append(7),
        "a group that is none": lambda s: s.__setitem__("param_groups", [3]),
        "lr a text": lambda s: s["param_groups"][0].__setitem__("lr", "fast"),
        "an unknown parameter": lambda s: s["state"].__setitem__(9, {}),
        "a state that is none": lambda s: s["state"].__setitem__(0, 3),
        "a moment of another shape": lambda s: s["state"][0].__setitem__("exp_avg", torch.zeros(7)),
        "a moment that is none": lambda s: s["state"][0].__setitem__("exp_avg_sq", 1.0),
        "a state of a list": lambda s: s["param_groups"][0].__setitem__("params", [[0], [1]]),
        "lr left out": lambda s: s["param_groups"][0].pop("lr"),
        "betas left out": lambda s: s["param_groups"][0].pop("betas"),
        "maximize": lambda s: s["param_groups"][0].__setitem__("maximize", True),
    }
    nan, inf = float("nan"), float("inf")
    settings: dict[str, tuple[Any, ...]] = {
        "lr": (-1.0, nan, inf, None, True, [1], 10**400, 1j, torch.ones(2), torch.ones((), device="meta")),
        "betas": ((0.9,), (0.9, "x"), (2.0, 0.9), (nan, 0.9), None, 0.9),
        "eps": (-1.0, None, nan),
        "weight_decay": (nan, True, "x", -1.0),
        "amsgrad": (3, "x", 1.0),
        "foreach": ("x", [True]),
        "initial_lr": (nan, inf),
    }
    moments: dict[str, tuple[Any, ...]] = {
        "exp_avg": (
            torch.full((2, 3), nan), torch.ones(2, 3, dtype=torch.complex64), torch.ones(2, 3, dtype=torch.int64),
            torch.ones(2, 3, device="meta"), torch.ones(2, 3).to_sparse(), None,
        ),
        "exp_avg_sq": (-torch.ones(2, 3), torch.full((2, 3), inf)),
        "step": (None, "x", -1, torch.tensor(nan), torch.tensor(-5.0), torch.ones(3), torch.tensor(1j)),
    }  # fmt: skip

    def in_group(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda s: s["param_groups"][0].__setitem__(key, value)

    def in_state(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda s: s["state"][0].__setitem__(key, value)

    def lacking(key: str) -> Callable[[dict[str, Any]], Any]:
        return lambda s: s["state"][0].pop(key)

    for key, values in settings.items():
        by_name |= {f"{key} {value!r:.30}": in_group(key, value) for value in values}
    for key, values in moments.items():
        by_name |= {f"{key} {number}": in_state(key, value) for number, value in enumerate(values)}
        by_name[f"{key} left out"] = lacking(key)

    def without(key: str) -> Callable[[dict[str, Any]], Any]:
        return lambda s: s[entry].pop(key)

    def instead(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda s: s[entry].__setitem__(key, value)

    for key in optimizer.state_dict()[entry]:
        by_name[f"no {key}"] = without(key)
        for value in BROKEN:
            allowed = (key == "adaptive" and value is True) or (key in COUNTS and isinstance(value, int) and value > 1)
            if not allowed:
                by_name[f"{key} {value!r:.20}"] = instead(key, value)
    return by_name


@pytest.mark.parametrize("name", MAKERS)
def test_a_state_that_is_damaged_is_refused_and_nothing_of_it_is_loaded(name: str) -> None:
    _, optimizer = trained(name)
    whole = copy.deepcopy(optimizer.state_dict())
    for what, change in changes(optimizer).items():
        damaged = copy.deepcopy(whole)
        change(damaged)
        _, other = made(name)
        before = plain(other.state_dict())
        with pytest.raises(ValueError, match="state_dict"):
            other.load_state_dict(damaged)
        assert plain(other.state_dict()) == before, what
    for damaged in (None, 3, [], {}):
        with pytest.raises(ValueError, match="state_dict"):
            optimizer.load_state_dict(damaged)
    assert plain(optimizer.state_dict()) == plain(whole)


@pytest.mark.parametrize(
    "kind",
    [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.Rprop, torch.optim.ASGD,
     torch.optim.Adafactor, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adadelta, torch.optim.Adamax],
)  # fmt: skip
def test_every_optimizers_own_state_is_loaded(kind: type[Any]) -> None:
    """Also with settings that its example would not share: a schedule's rate, one computed in a tensor."""
    model = nn.Linear(3, 2)
    sam = SAM(kind(model.parameters(), lr=0.1))
    schedule = torch.optim.lr_scheduler.StepLR(sam, 1)
    for _ in range(2):
        sam.zero_grad()
        with sam.first_pass():
            model(torch.ones(4, 3)).square().sum().backward()
        with sam.perturbed():
            model(torch.ones(4, 3)).square().sum().backward()
        sam.step()
        schedule.step()
    state = copy.deepcopy(sam.state_dict())
    other = SAM(kind(nn.Linear(3, 2).parameters(), lr=0.5))
    other.load_state_dict(state)
    assert plain(other.state_dict()) == plain(state)


RULES: dict[str, Rule] = {"ema": EMA(0.9), "swa": SWA(0, 1), "power": PowerEMA(3.0)}
OF_SHADOWS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no rules": lambda s: s.pop("rules"),
    "other rules": lambda s: s["rules"]["ema"].__setitem__("decay", 0.5),
    "no step": lambda s: s.pop("next_step"),
    "a step below 0": lambda s: s.__setitem__("next_step", -1),
    "a step that is a text": lambda s: s.__setitem__("next_step", "3"),
    "no averages": lambda s: s.pop("shadows"),
    "one too few": lambda s: s["shadows"].pop("swa"),
    "one that is none": lambda s: s["shadows"].__setitem__("swa", 3),
    "one without weights": lambda s: s["shadows"]["swa"].pop("module.weight"),
    "one with more": lambda s: s["shadows"]["swa"].__setitem__("module.more", torch.zeros(1)),
    "another shape": lambda s: s["shadows"]["swa"].__setitem__("module.weight", torch.zeros(2)),
    "complex": lambda s: s["shadows"]["swa"].__setitem__("module.weight", torch.zeros(2, 3, dtype=torch.complex64)),
    "a count below 0": lambda s: s["shadows"]["power"].__setitem__("n_averaged", torch.tensor(-1)),
    "a count beyond the steps": lambda s: s["shadows"]["power"].__setitem__("n_averaged", torch.tensor(6)),
    "a count that is a flag": lambda s: s["shadows"]["power"].__setitem__("n_averaged", torch.tensor(True)),
    "whole numbers": lambda s: s["shadows"]["swa"].__setitem__("module.weight", torch.zeros(2, 3, dtype=torch.int64)),
    "on meta": lambda s: s["shadows"]["swa"].__setitem__("module.weight", torch.zeros(2, 3, device="meta")),
    "sparse": lambda s: s["shadows"]["swa"].__setitem__("module.weight", torch.zeros(2, 3).to_sparse()),
    "not finite": lambda s: s["shadows"]["swa"].__setitem__("module.weight", torch.full((2, 3), float("nan"))),
    "a count of half": lambda s: s["shadows"]["power"].__setitem__("n_averaged", torch.tensor(0.5)),
}


def shadows(steps: int) -> Shadows:
    torch.manual_seed(1)
    model = nn.Linear(3, 2)
    averages = Shadows(model, RULES)
    for step in range(steps):
        with torch.no_grad():
            model.weight.mul_(0.9)
        averages.update(step)
    return averages


@pytest.mark.parametrize("what", OF_SHADOWS)
def test_averages_are_loaded_whole_or_not_at_all(what: str) -> None:
    whole = copy.deepcopy(shadows(4).state_dict())
    other = shadows(1)
    before = plain(other.state_dict())
    damaged = copy.deepcopy(whole)
    OF_SHADOWS[what](damaged)
    with pytest.raises(ValueError, match="state_dict"):
        other.load_state_dict(damaged)
    assert plain(other.state_dict()) == before
    other.load_state_dict(whole)
    assert plain(other.state_dict()) == plain(whole)


@pytest.mark.parametrize(
    "snapshots",
    [
        3,
        "ab",
        [],
        [3],
        [{}],
        [{"gamma": 1.0, "steps": 3, "weights": 3}],
        [{"gamma": 1.0, "steps": 3, "weights": {"w": 3}}],
        [{"gamma": "x", "steps": 3, "weights": {"w": torch.ones(1)}}],
        [{"gamma": 1e308, "steps": 3, "weights": {"w": torch.ones(1)}}],
        [{"gamma": 1.0, "steps": 3, "weights": {"w": torch.ones(n)}} for n in (1, 2)],
    ],
)
def test_snapshots_that_are_none_are_named(snapshots: Any) -> None:
    with pytest.raises(ValueError, match=r"snapshot|gamma"):
        reconstruct(snapshots, PowerEMA(2.0))


@pytest.mark.parametrize("profiles", [3, [3], ["ab"], [(1.0,)], [(1.0, -1)], [(1e200, 1.0)], [(None, 1.0)]])
def test_profiles_that_are_none_are_named(profiles: Any) -> None:
    with pytest.raises(ValueError, match=r"profiles"):
        fit(profiles, (1.0, 1.0))
