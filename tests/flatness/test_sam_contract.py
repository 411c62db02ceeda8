"""What SAM promises beyond its equations: restored weights, schedules, autocast, compilation, addresses."""

import contextlib
import copy
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from flatness.training.perturbed_optimizer import Always, EveryK, Late, PerturbedOptimizer
from flatness.training.random_weight_perturbation import RandomWeightPerturbation
from flatness.training.sam import SAM
from tests.flatness.sam_common import RHO, ROUNDING, Optimizers, closure_of, data, loss_of, network, same, weights


@pytest.mark.parametrize("base", ["sgd", "adam"])
def test_radius_zero_and_no_schedule_are_the_plain_optimizer(base: str) -> None:
    for options in ({"rho": 0.0}, {"rho": RHO, "schedule": Late(50)}):
        plain, wrapped = network(), network()
        optimizer = Optimizers[base](plain.parameters())
        sam = SAM(Optimizers[base](wrapped.parameters()), **options)
        for k in range(5):
            x, y = data(seed=k)
            optimizer.zero_grad()
            loss_of(plain, x, y).backward()
            optimizer.step()
            assert not sam.due
            sam.step(closure_of(sam, wrapped, x, y))
        assert same(weights(plain), weights(wrapped))


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("factor", [0.0, 1e-38])
def test_zero_gradient_does_not_perturb(factor: float, adaptive: bool) -> None:
    p = nn.Parameter(torch.tensor([1.0, 0.0]))
    sam = SAM(torch.optim.SGD([p], lr=0.1), rho=RHO, adaptive=adaptive)
    seen = []

    def closure() -> Tensor:
        sam.zero_grad()
        seen.append(p.detach().clone())
        loss = (factor * p).sum()
        loss.backward()
        return loss

    sam.step(closure)
    assert same(seen, [torch.tensor([1.0, 0.0])] * 2)
    assert torch.isfinite(p).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("at", ["w", "w_hat", "plain"])
def test_gradient_that_is_not_finite(at: str, adaptive: bool, bad: float) -> None:
    for policy in ("raise", "skip"):
        p, other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1))
        sam = SAM(
            torch.optim.Adam([p, other], lr=0.1),
            rho=0.0 if at == "plain" else RHO,
            adaptive=adaptive,
            on_nonfinite=policy,
        )
        calls = 0

        def closure(bad: float, sam: SAM = sam, p: Tensor = p, other: Tensor = other) -> Tensor:
            nonlocal calls
            sam.zero_grad()
            calls += 1
            loss = (p**2).sum() + (other**2).sum()
            loss.backward()
            assert p.grad is not None
            if at == "plain" or (calls % 2 == 1) == (at == "w"):
                p.grad[0] *= bad
            return loss

        if policy == "raise":
            with pytest.raises(FloatingPointError, match=f"gradient at {'w_hat' if at == 'w_hat' else 'w'} is not"):
                sam.step(lambda: closure(bad))
            assert (sam.steps, sam.skipped) == (0, 0)
        else:
            sam.step(lambda: closure(bad))
            assert (sam.steps, sam.skipped) == (1, 1)
        assert not sam.state
        assert torch.equal(p, torch.ones(2))
        assert torch.equal(other, torch.ones(1))
        sam.step(lambda: closure(1.0))  # and training goes on
        assert float(p.detach().max()) < 1


def test_exception_at_w_hat_puts_weights_back() -> None:
    model = network()
    before = weights(model)
    sam = SAM(torch.optim.Adam(model.parameters(), lr=0.1), rho=RHO)
    x, y = data()

    def closure() -> Tensor:
        sam.zero_grad()
        if not same(weights(model), before):
            raise KeyboardInterrupt
        loss = loss_of(model, x, y)
        loss.backward()
        return loss

    with pytest.raises(KeyboardInterrupt):
        sam.step(closure)
    assert same(weights(model), before)
    sam.step(closure_of(sam, model, x, y))
    assert sam.steps == 1


def test_schedules_call_the_closure_once_where_they_do_not_perturb() -> None:
    assert [s for s in range(7) if Late(4)(s)] == [4, 5, 6]
    assert [s for s in range(7) if EveryK(3)(s)] == [0, 3, 6]
    assert Late.after_share(0.9, 200_000) == Late(180_000)
    assert Late.after_share(0.29, 100) == Late(29)  # 0.29 * 100 is a little less than 29
    assert Always()(0)
    cases = (
        (EveryK(3), [2, 1, 1, 2]),
        (Late(2), [1, 1, 2, 2]),
        (None, [2, 2, 2, 2]),
        (lambda step: step == 1, [1, 2, 1, 1]),
    )
    for schedule, calls in cases:
        model, made = network(), []
        sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO, schedule=schedule)
        closure = closure_of(sam, model, *data())
        for _ in calls:
            count = 0

            def counted() -> Tensor:
                nonlocal count
                count += 1
                return closure()  # noqa: B023

            sam.step(counted)
            made.append(count)
        assert made == calls


def test_ascent_closure_climbs_its_part_and_descends_on_the_whole() -> None:
    (x, y), model = data(), network()
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO)
    loss = sam.step(closure_of(sam, model, x, y), ascent_closure=closure_of(sam, model, x[:2], y[:2]))
    reference = network()
    part = loss_of(reference, x[:2], y[:2])
    g = torch.autograd.grad(part, list(reference.parameters()))
    norm = torch.cat([t.flatten() for t in g]).norm()
    w = weights(reference)
    with torch.no_grad():
        for p, t in zip(reference.parameters(), g, strict=True):
            p.add_(RHO * t / norm)
    descent = torch.autograd.grad(loss_of(reference, x, y), list(reference.parameters()))
    assert loss == part.detach()
    for p, t, d in zip(model.parameters(), w, descent, strict=True):
        torch.testing.assert_close(p.detach(), t - 0.1 * d, rtol=0, atol=ROUNDING)


def test_gradient_accumulation_is_the_whole_batch() -> None:
    whole, parts = network(), network()
    sams = [SAM(torch.optim.Adam(m.parameters(), lr=0.1), rho=RHO) for m in (whole, parts)]
    for k in range(5):
        x, y = data(seed=k)
        sams[0].step(closure_of(sams[0], whole, x, y))

        def accumulate(x: Tensor = x, y: Tensor = y) -> None:
            for i in range(0, 8, 2):
                (loss_of(parts, x[i : i + 2], y[i : i + 2]) / 4).backward()

        sams[1].zero_grad()
        accumulate()
        with sams[1].perturbed():
            accumulate()
        sams[1].step()
    for p, q in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("clears", [True, False])
def test_autocast_around_the_step_sees_the_moved_weights(clears: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast keeps cast weights until its block ends: without emptying that cache, SAM would be a plain step."""
    if not clears:
        monkeypatch.setattr(torch, "clear_autocast_cache", lambda: None)
    model = network(dtype=torch.float32)
    x, y = (t.float() for t in data())
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=2.0)
    losses: list[Tensor] = []

    def closure() -> Tensor:
        sam.zero_grad()
        losses.append(loss_of(model, x, y))
        losses[-1].backward()
        return losses[-1]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        sam.step(closure)
    assert (float(losses[1].detach()) > 1.1 * float(losses[0].detach())) == clears
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("clears", [True, False])
def test_autocast_around_the_step_goes_on_with_the_stepped_weights(
    clears: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the step too: a forward pass in the same block sees the weights as they are, not those cast at w_hat."""
    if not clears:
        put_back = SAM._put_back

        def keeps_the_cache(self: SAM, parameters: list[nn.Parameter]) -> None:
            with monkeypatch.context() as patch:
                patch.setattr(torch, "clear_autocast_cache", lambda: None)
                put_back(self, parameters)  # type: ignore[arg-type]

        monkeypatch.setattr(SAM, "_put_back", keeps_the_cache)
    model = network(dtype=torch.float32)
    x, y = (t.float() for t in data())
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=2.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sam.step(closure_of(sam, model, x, y))
        within = model(x).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        afresh = model(x).detach()
    assert torch.equal(within, afresh) == clears


def test_compiled_model_sees_the_moved_weights() -> None:
    """With aot_eager: inductor's first compilation takes most of a minute on one core."""
    results = []
    for compiled in (False, True):
        model = network()
        sam = SAM(torch.optim.Adam(model.parameters(), lr=0.1), rho=RHO)
        run = torch.compile(model, backend="aot_eager") if compiled else model
        for k in range(3):
            sam.step(closure_of(sam, run, *data(seed=k)))  # type: ignore[arg-type]
        results.append(weights(model))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("two_phase", [False, True])
def test_addresses_of_weights_gradients_and_copies_stay(two_phase: bool) -> None:
    model = network()
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO)
    addresses = []
    for k in range(3):
        x, y = data(seed=k)

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            loss = loss_of(model, x, y)
            loss.backward()
            return loss

        sam.zero_grad(set_to_none=False)
        if two_phase:
            closure()
            with sam.perturbed(set_to_none=False):
                closure()
            sam.step()
        else:
            sam.step(closure)
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        addresses.append([t.data_ptr() for t in [*model.parameters(), *gradients, *sam._saved.values()]])
    assert addresses[0] == addresses[1] == addresses[2]


def test_weights_that_change_their_type_are_restored_bit_for_bit() -> None:
    model = network(dtype=torch.float32)
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO)
    x, y = data()
    sam.step(closure_of(sam, model, x.float(), y.float()))
    model.double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.pi)
    before = weights(model)
    sam.zero_grad()
    loss_of(model, x, y).backward()
    with sam.perturbed():
        assert not same(weights(model), before)
    assert same(weights(model), before)


def test_a_gradient_written_by_hand_does_not_save_a_void_step() -> None:
    """As a replayed CUDA graph writes it, past all hooks."""
    p = nn.Parameter(torch.ones(2))
    sam = SAM(torch.optim.SGD([p], lr=0.1), rho=RHO)
    p.grad = torch.full_like(p, math.nan)
    with sam.perturbed():
        p.grad = torch.ones_like(p)
    with pytest.raises(FloatingPointError, match="gradient at w is not"):
        sam.step()
    assert torch.equal(p, torch.ones(2))


def test_closures_run_with_gradients_on() -> None:
    model = network()
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO)
    with torch.no_grad():
        loss = sam.step(closure_of(sam, model, *data()))
    assert isinstance(loss, Tensor)
    assert not loss.requires_grad


@pytest.mark.parametrize("on_sam", [True, False])
def test_learning_rate_schedulers_and_groups(on_sam: bool) -> None:
    first, second = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    base = torch.optim.SGD([first], lr=1.0)
    sam = SAM(base, rho=RHO)
    sam.add_param_group({"params": [second], "lr": 0.5})
    scheduler = torch.optim.lr_scheduler.StepLR(sam if on_sam else base, step_size=1, gamma=0.1)

    def closure() -> Tensor:
        sam.zero_grad()
        loss = first.sum() + second.sum()
        loss.backward()
        return loss

    for _ in range(2):
        sam.step(closure)
        scheduler.step()
    assert [g["lr"] for g in sam.param_groups] == pytest.approx([0.01, 0.005], rel=1e-12)
    # gradient 1 at each: 1 + .1 off the first, half of that off the second, in float32
    assert (first.item(), second.item()) == pytest.approx((-0.1, 0.45), abs=1e-6)


class Ranked(nn.Linear):
    """As DistributedDataParallel, whose no_sync keeps gradients local."""

    def __init__(self) -> None:
        """No block has been entered."""
        super().__init__(2, 1)
        self.entered = 0

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """Count the blocks."""
        self.entered += 1
        yield


@pytest.mark.parametrize("gradients", ["local", "averaged"])
def test_local_gradients_are_held_back_at_w_alone(gradients: str) -> None:
    model = Ranked()
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO, model=model, gradients=gradients)

    def passed() -> Tensor:
        sam.zero_grad()
        loss = model(torch.ones(1, 2)).square().sum()
        loss.backward()
        return loss

    sam.step(passed)
    assert model.entered == (gradients == "local")
    model(torch.ones(1, 2)).sum().backward()
    if gradients == "local":
        with pytest.raises(RuntimeError, match="enclose forward and backward at w"), sam.perturbed():
            pass
    else:
        with sam.perturbed():
            model(torch.ones(1, 2)).sum().backward()


def test_a_loss_that_is_a_number_is_returned_as_it_is_and_without_a_closure_there_is_none() -> None:
    p = nn.Parameter(torch.ones(2))
    for made in (SAM, RandomWeightPerturbation):
        optimizer = made(torch.optim.SGD([p], lr=0.1))

        def closure(optimizer: PerturbedOptimizer = optimizer) -> float:
            optimizer.zero_grad()
            p.square().sum().backward()
            return 7.5

        assert optimizer.step(closure) == 7.5
        assert optimizer.steps == 1
        closure()
        with optimizer.perturbed():
            closure()
        assert optimizer.step() is None


def test_every_skipped_step_is_counted() -> None:
    p = nn.Parameter(torch.ones(2))
    sam = SAM(torch.optim.SGD([p], lr=0.1), rho=0.0, on_nonfinite="skip")
    for _ in range(3):
        p.grad = torch.full((2,), math.nan)
        sam.step()
    assert (sam.steps, sam.skipped) == (3, 3)


def test_a_step_that_was_dropped_is_over() -> None:
    """Copies are refused within a step: after zero_grad and load_state_dict none has been begun."""
    p = nn.Parameter(torch.ones(2))
    sam = SAM(torch.optim.SGD([p], lr=0.1), rho=RHO)
    drops: list[Callable[[], object]] = [sam.zero_grad, lambda: sam.load_state_dict(sam.state_dict())]
    for drop in drops:
        p.grad = torch.ones(2)
        with sam.first_pass():
            pass
        with pytest.raises(TypeError, match="within a step"):
            copy.deepcopy(sam)
        drop()
        assert copy.deepcopy(sam).steps == 0
