"""The contract of every optimizer that takes its gradient at moved weights; SAM's own files hold it to more.

A flattener is made around an optimizer at a size (a radius or a deviation); 0 is no flattening at all.
"""

import contextlib
import functools
import io
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flatness.training.friendly_sam import FriendlySAM
from flatness.training.perturbed_optimizer import EveryK, Late, PerturbedOptimizer, Phase
from flatness.training.random_sam import RandomSAM
from flatness.training.random_weight_perturbation import RandomWeightPerturbation
from flatness.training.sam import SAM
from tests.flatness.sam_common import Optimizers, closure_of, data, loss_of, network, same, weights

SIZE = 0.3
Make = Callable[..., PerturbedOptimizer]
FLATTENERS: dict[str, Make] = {
    "SAM": lambda optimizer, size=SIZE, **own: SAM(optimizer, rho=size, **own),
    "ASAM": lambda optimizer, size=SIZE, **own: SAM(optimizer, rho=size, adaptive=True, **own),
    "RandomSAM": lambda optimizer, size=SIZE, **own: RandomSAM(optimizer, rho=size, sigma=0.1, seed=3, **own),
    "FriendlySAM": lambda optimizer, size=SIZE, **own: FriendlySAM(optimizer, rho=size, **own),
    "RandomWeightPerturbation": lambda optimizer, size=SIZE, **own: RandomWeightPerturbation(optimizer, size, 3, **own),
}
make_each = pytest.mark.parametrize("make", FLATTENERS.values(), ids=FLATTENERS)


def run_backward(model: nn.Module, x: Tensor, y: Tensor) -> None:
    loss_of(model, x, y).backward()


def in_two_phases(flattener: Any, passes: Callable[[], None]) -> None:
    """The passes of one step, for loops that own them."""
    flattener.zero_grad()
    if flattener.passes == 2:
        with flattener.first_pass():
            passes()
    if flattener.due:
        with flattener.perturbed():
            passes()
    elif flattener.passes == 1:
        passes()


def check_restored(make: Make) -> None:
    """Bit for bit, in place, whatever passes bring, and whichever of them fails."""
    torch.manual_seed(0)
    used, unused = (nn.Parameter(torch.randn(50) * 10.0**k) for k in (-3, 2))
    flattener = make(torch.optim.SGD([used, unused], lr=0.0))
    before, addresses = [p.detach().clone() for p in (used, unused)], [p.data_ptr() for p in (used, unused)]
    seen: list[list[Tensor]] = []

    def passes() -> None:
        seen.append([p.detach().clone() for p in (used, unused)])
        (used**3).sum().backward()
        if flattener._phase is Phase.INSIDE:  # whatever happens within is undone
            unused.data.add_(1)

    for _ in range(3):
        in_two_phases(flattener, passes)
        assert same([used, unused], before)
        flattener.step()
        assert same([used, unused], before)
    assert not all(same(places, before) for places in seen), "nothing was moved"
    for failing in range(flattener.passes):
        calls = 0

        def closure(failing: int = failing) -> Tensor:
            nonlocal calls
            calls += 1
            if calls > failing:
                raise KeyboardInterrupt
            flattener.zero_grad()
            loss = (used**3).sum()
            loss.backward()
            return loss

        with pytest.raises(KeyboardInterrupt):
            flattener.step(closure)
        flattener.zero_grad()
        assert same([used, unused], before)
    assert [p.data_ptr() for p in (used, unused)] == addresses


def check_resume(make: Make) -> None:
    """Saved, loaded into new objects and continued equals never stopped, bit for bit; the file loads weights_only."""
    results = []
    for stop in (False, True):
        model = network()
        flattener = make(torch.optim.Adam(model.parameters(), lr=0.1), schedule=lambda step: step != 1)
        flattener.skipped = 7
        for k in range(6):
            if stop and k == 3:
                file = io.BytesIO()
                torch.save({"model": model.state_dict(), "flattener": flattener.state_dict()}, file)
                file.seek(0)
                state = torch.load(file, weights_only=True)
                model = network(seed=5)
                model.load_state_dict(state["model"])
                flattener = make(torch.optim.Adam(model.parameters(), lr=0.7), 1.0, schedule=lambda step: step != 1)
                flattener.load_state_dict(state["flattener"])
            flattener.step(closure_of(flattener, model, *data(seed=k)))
        results.append(weights(model))
        assert (flattener.steps, flattener.skipped) == (6, 7)
    assert same(*results)


def check_two_phases(make: Make) -> None:
    """The two-phase form is the closure form: the same dropout in all passes, gradients cleared between them."""
    x, y = data()
    results = []
    for two_phase in (False, True):
        model = nn.Sequential(network(), nn.Dropout(0.5))
        flattener = make(torch.optim.SGD(model.parameters(), lr=0.1))
        for _ in range(3):
            if two_phase:
                in_two_phases(flattener, functools.partial(run_backward, model, x, y))
                flattener.step()
            else:
                flattener.step(closure_of(flattener, model, x, y))
        results.append(weights(model))
    assert same(*results)


def check_randomness(make: Make) -> None:
    """All passes of a step draw the same numbers; the next step draws others, those a plain step would leave for it."""
    p = nn.Parameter(torch.ones(3))
    flattener = make(torch.optim.SGD([p], lr=0.1))
    drawn: list[Tensor] = []

    def closure() -> Tensor:
        flattener.zero_grad()
        drawn.append(torch.rand(3))
        loss = (drawn[-1] * p**2).sum()
        loss.backward()
        return loss

    torch.manual_seed(0)
    plain = [torch.rand(3) for _ in range(2)]
    torch.manual_seed(0)
    flattener.step(closure)
    flattener.step(closure)
    assert same(drawn, [t for t in plain for _ in range(flattener.passes)])


def check_moves(make: Make) -> None:
    """The gradient of the step is not the plain one, by more than rounding."""
    x, y = data()
    moves = []
    for size in (0.0, SIZE):
        model = network()
        flattener = make(torch.optim.SGD(model.parameters(), lr=0.1), size)
        flattener.step(closure_of(flattener, model, x, y))
        moves.append(torch.cat([p.flatten() for p in weights(model)]))
    assert float((moves[0] - moves[1]).norm()) > 1e-4


# Mutants: what any flattener can get wrong.


def mutated(make: Make, **replaced: Any) -> Make:
    """Flatteners of which some methods are replaced; a replacement is given the object and the method it replaces."""

    def made(*given: Any, **named: Any) -> PerturbedOptimizer:
        flattener = make(*given, **named)
        for name, replacement in replaced.items():
            original = getattr(flattener, name)
            setattr(flattener, name, lambda *a, r=replacement, o=original, **k: r(flattener, o, *a, **k))
        return flattener

    return made


@contextlib.contextmanager
def in_place(flattener: PerturbedOptimizer, original: Any, *given: Any, **named: Any) -> Iterator[None]:
    """Moved weights that are not moved."""
    flattener._check_unfinished()
    flattener.optimizer.zero_grad()
    yield
    flattener._phase = Phase.READY


def without(*names: str) -> Callable[..., Any]:
    """A state_dict that has lost entries; within the flattener's own where they are there."""

    def state_dict(flattener: PerturbedOptimizer, original: Any) -> dict[str, Any]:
        state = original()
        for name in names:
            if name in state:
                state[name] = {}
            else:
                state[flattener._entry] = {**state[flattener._entry], name: 0}
        return state

    return state_dict


MUTANTS: dict[str, tuple[dict[str, Any], Callable[[Make], None]]] = {
    "moves nothing": ({"perturbed": in_place}, check_moves),
    "puts nothing back": ({"_put_back": lambda flattener, original, parameters: None}, check_restored),
    "forgets a tensor": (
        {"_put_back": lambda flattener, original, parameters: original(parameters[:1])},
        check_restored,
    ),
    "forgets moments": ({"state_dict": without("state")}, check_resume),
    "forgets steps": ({"state_dict": without("steps")}, check_resume),
}


@make_each
@pytest.mark.parametrize("check", [check_restored, check_resume, check_two_phases, check_randomness, check_moves])
def test_check(make: Make, check: Callable[[Make], None]) -> None:
    check(make)


@make_each
@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutant_is_found_out(make: Make, mutant: str) -> None:
    replaced, check = MUTANTS[mutant]
    with pytest.raises((AssertionError, RuntimeError)):
        check(mutated(make, **replaced))


@make_each
@pytest.mark.parametrize("base", ["sgd", "adam"])
def test_size_zero_and_no_schedule_are_the_plain_optimizer(make: Make, base: str) -> None:
    for size, options in ((0.0, {}), (SIZE, {"schedule": Late(50)})):
        plain, wrapped = network(), network()
        optimizer = Optimizers[base](plain.parameters())
        flattener = make(Optimizers[base](wrapped.parameters()), size, **options)
        for k in range(5):
            x, y = data(seed=k)
            optimizer.zero_grad()
            loss_of(plain, x, y).backward()
            optimizer.step()
            assert not flattener.due
            if k % 2:
                flattener.step(closure_of(flattener, wrapped, x, y))
            else:
                in_two_phases(flattener, functools.partial(run_backward, wrapped, x, y))
                flattener.step()
        assert same(weights(plain), weights(wrapped))


@make_each
def test_a_step_costs_the_passes_that_are_said(make: Make) -> None:
    model, calls = network(), []
    flattener = make(torch.optim.SGD(model.parameters(), lr=0.1), schedule=EveryK(2))
    closure = closure_of(flattener, model, *data())

    def counted() -> Tensor:
        calls.append(flattener.steps)
        return closure()

    for _ in range(4):
        flattener.step(counted)
    assert [calls.count(step) for step in range(4)] == [flattener.passes, 1, flattener.passes, 1]


@make_each
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("at", [0, 1])
def test_gradient_that_is_not_finite(make: Make, at: int, bad: float) -> None:
    for policy in ("raise", "skip"):
        p, other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1))
        flattener: Any = make(torch.optim.Adam([p, other], lr=0.1), on_nonfinite=policy)
        if at >= flattener.passes:
            return
        calls = 0

        def closure(bad: float, flattener: Any = flattener, p: Tensor = p, other: Tensor = other) -> Tensor:
            nonlocal calls
            flattener.zero_grad()
            loss = (p**2).sum() + (other**2).sum()
            loss.backward()
            assert p.grad is not None
            if calls == at:
                p.grad[0] *= bad
            calls += 1
            return loss

        if policy == "raise":
            with pytest.raises(FloatingPointError, match="is not finite at step 0"):
                flattener.step(lambda: closure(bad))
            assert (flattener.steps, flattener.skipped) == (0, 0)
        else:
            flattener.step(lambda: closure(bad))
            assert (flattener.steps, flattener.skipped) == (1, 1)
        assert not flattener.state
        assert torch.equal(p, torch.ones(2))
        assert torch.equal(other, torch.ones(1))
        for _ in range(3):  # and training goes on
            flattener.step(lambda: closure(1.0))
        assert float(p.detach().max()) < 1


def scaled_step(scaler: Any, flattener: Any, model: nn.Module, x: Tensor, y: Tensor) -> None:
    in_two_phases(flattener, lambda: scaler.scale(loss_of(model, x, y)).backward())
    scaler.step(flattener)
    scaler.update()


@make_each
@pytest.mark.parametrize("base", ["sgd", "adam"])
def test_grad_scaler_in_two_phases_is_exact(make: Make, base: str) -> None:
    """The scale is a power of two, which doubles every second step, so no digit changes."""
    plain, scaled = network(dtype=torch.float32), network(dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", growth_interval=2)
    own = {"scaler": scaler} if make is FLATTENERS["FriendlySAM"] else {}
    flattener = make(Optimizers[base](plain.parameters()))
    amp = make(Optimizers[base](scaled.parameters()), **own)
    for k in range(6):
        x, y = (t.float() for t in data(seed=k))
        flattener.step(closure_of(flattener, plain, x, y))
        scaled_step(scaler, amp, scaled, x, y)
    assert scaler.get_scale() == 2.0**19
    assert same(weights(plain), weights(scaled))


@make_each
def test_grad_scaler_skips_overflows_and_backs_off(make: Make) -> None:
    for at in range(make(torch.optim.SGD(network().parameters(), lr=0.1)).passes):
        p = nn.Parameter(torch.ones(2))
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        own = {"scaler": scaler} if make is FLATTENERS["FriendlySAM"] else {}
        flattener = make(torch.optim.Adam([p], lr=0.1), **own)
        factors = [math.inf if at == k else 1.0 for k in range(flattener.passes)]
        in_two_phases(flattener, lambda: scaler.scale((p**2).sum() * factors.pop(0)).backward())  # noqa: B023
        scaler.step(flattener)
        scaler.update()
        assert torch.equal(p, torch.ones(2))
        assert (flattener.steps, flattener.skipped, scaler.get_scale()) == (1, 1, 2.0**9)


@make_each
def test_autocast_around_the_step_sees_the_moved_weights(make: Make) -> None:
    """Autocast keeps cast weights until its block ends: what is computed first must not be computed with again."""
    model, plain = network(dtype=torch.float32), network(dtype=torch.float32)
    x, y = (t.float() for t in data())
    flattener = make(torch.optim.SGD(model.parameters(), lr=0.1), 2.0)
    outputs: list[Tensor] = []

    def closure() -> Tensor:
        flattener.zero_grad()
        outputs.append(model(x))
        loss = (outputs[-1] - y).square().mean()
        loss.backward()
        return loss

    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs.append(model(x))
        flattener.step(closure)
        outputs.append(model(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain.load_state_dict(model.state_dict())
        assert torch.equal(outputs[-1], plain(x))
    assert not torch.equal(outputs[0], outputs[-2])


@make_each
def test_misuse_is_refused(make: Make) -> None:
    (x, y), model = data(), network()
    before = weights(model)
    flattener: Any = make(torch.optim.SGD(model.parameters(), lr=0.1))
    loss_of(model, x, y).backward()
    with pytest.raises(RuntimeError, match=r"no perturbed pass.*\.perturbed\(\)"):
        flattener.step()
    flattener.zero_grad()
    in_two_phases(flattener, functools.partial(run_backward, model, x, y))
    with pytest.raises(RuntimeError, match="begun before"), flattener.perturbed():
        pass
    with pytest.raises(RuntimeError, match="begun before"):
        flattener.step(closure_of(flattener, model, x, y))
    flattener.zero_grad()  # drops it
    with pytest.raises(ValueError, match="closure returned None"):
        flattener.step(lambda: None)
    with pytest.raises(ValueError, match=r"closure is a tensor.*functools.partial\(closure, batch\)"):
        flattener.step(x)
    with pytest.raises(RuntimeError, match="no parameter has a gradient"):
        flattener.step(lambda: loss_of(model, x, y))
    with pytest.raises(ValueError, match=f"written by {type(flattener).__name__}"):
        flattener.load_state_dict(flattener.optimizer.state_dict())
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(loss_of(model, x, y)).backward()
    with pytest.raises(RuntimeError, match="two-phase"):
        scaler.step(flattener, closure_of(flattener, model, x, y))
    with pytest.raises(ValueError, match="optimizer is "):
        make(flattener)
    with pytest.raises(ValueError, match=r"is -0\.1; allowed: a finite number of at least 0"):
        make(flattener.optimizer, -0.1)
    with pytest.raises(ValueError, match="on_nonfinite is 'ignore'"):
        make(flattener.optimizer, on_nonfinite="ignore")
    with pytest.raises(ValueError, match="schedule is 3"):
        make(flattener.optimizer, schedule=3)
    assert same(weights(model), before)
    assert flattener.steps == 0


@make_each
def test_learning_rate_schedulers_take_it(make: Make) -> None:
    model = network()
    flattener = make(torch.optim.SGD(model.parameters(), lr=1.0))
    scheduler = torch.optim.lr_scheduler.StepLR(flattener, step_size=1, gamma=0.1)
    for k in range(2):
        flattener.step(closure_of(flattener, model, *data(seed=k)))
        scheduler.step()
    assert flattener.param_groups[0]["lr"] == pytest.approx(0.01, rel=1e-12)


@pytest.mark.parametrize(
    ("flattener", "size", "default"),
    [(SAM, "rho", 0.05), (RandomSAM, "rho", 0.05), (FriendlySAM, "rho", 0.05), (RandomSAM, "sigma", 0.01),
     (RandomWeightPerturbation, "sigma", 0.01)],
)  # fmt: skip
def test_a_size_that_is_not_given_is_the_default(flattener: Any, size: str, default: float) -> None:
    made = flattener(torch.optim.SGD(network().parameters(), lr=0.1))
    assert getattr(made, size) == default


def test_late_begins_with_its_first_step() -> None:
    assert [Late(4)(step) for step in (3, 4, 5)] == [False, True, True]
