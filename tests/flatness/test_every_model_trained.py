"""SAM and averages of the weights on every model, against steps and sums by hand; those in bfloat16 are refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

import flatness
from flatness import EMA, SAM, SWA, PowerEMA, Shadows
from flatness.training.weight_averaging import Rule
from tests.flatness import measures_common as common
from tests.flatness.subjects import SUBJECTS, Subject, norm, state_of, weights_of

RHO, RATE, ETA, DROPOUT_SEED = 0.3, 0.1, 0.01, 5
HIGH = [name for name, subject in SUBJECTS.items() if not subject.low]
STEPPED = [name for name in HIGH if name != "viewed"]
LOW = [name for name, subject in SUBJECTS.items() if subject.low]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=RATE)


def loss_of(subject: Subject, model: nn.Module) -> Tensor:
    """Of the first batch; dropout, which draws from torch's generator, included."""
    return subject.loss(model, subject.batches[0]).mean()


def by_hand(subject: Subject, rho: float, adaptive: bool) -> tuple[nn.Module, list[Tensor]]:
    """A model after one step at which the gradient at w + e is taken, and its buffers after the pass at w."""
    model = subject.plain().train()
    weights = [p for p in model.parameters() if p.requires_grad]

    def gradient() -> list[Tensor]:
        for p in weights:
            p.grad = None
        torch.manual_seed(DROPOUT_SEED)
        loss_of(subject, model).backward()
        return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in weights]

    g = gradient()
    buffers = [b.clone() for b in model.buffers()]
    w = [p.detach().clone() for p in weights]
    T = [p.abs() + ETA if adaptive else torch.ones_like(p) for p in w]
    size = norm([t * part for t, part in zip(T, g, strict=True)])
    with torch.no_grad():
        for p, t, part in zip(weights, T, g, strict=True):
            p.add_(rho / size * t**2 * part)
    g = gradient()
    with torch.no_grad():
        for p, start in zip(weights, w, strict=True):
            p.copy_(start)
        for p, part in zip(weights, g, strict=True):
            p.sub_(RATE * part)
    return model, buffers


def with_closure(sam: SAM, subject: Subject, model: nn.Module) -> None:
    def closure() -> Tensor:
        sam.zero_grad()
        loss = loss_of(subject, model)
        loss.backward()
        return loss

    sam.step(closure)


def in_two_phases(sam: SAM, subject: Subject, model: nn.Module) -> None:
    sam.zero_grad()
    with sam.first_pass():
        loss_of(subject, model).backward()
    with sam.perturbed():
        loss_of(subject, model).backward()
    sam.step()


Step = Callable[[SAM, Subject, nn.Module], None]


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("name", STEPPED)
def test_sam(name: str, adaptive: bool) -> None:
    """Weights as by hand, buffers as after one pass, all else untouched; a plain step and a descent would be seen."""
    subject = SUBJECTS[name]
    (expected, buffers), (plain, _), (mirrored, _) = (by_hand(subject, rho, adaptive) for rho in (RHO, 0.0, -RHO))
    steps: dict[str, Step] = {"closure": with_closure, "two phases": in_two_phases}
    model = subject.model().train()
    start = [p.detach().clone() for p in model.parameters()]
    for step in steps.values():
        model.zero_grad()  # what another backward has left, a closure that clears it is not told from accumulation
        before = state_of(model)
        sam = SAM(sgd(model), rho=RHO, adaptive=adaptive, eta=ETA, model=model)
        torch.manual_seed(DROPOUT_SEED)
        step(sam, subject, model)
        moved = norm([p.detach() - t for p, t in zip(model.parameters(), start, strict=True)])
        limit = 1e-4 * moved  # float32 gradients
        assert off(model, expected) <= limit
        assert off(model, plain) > 20 * limit
        assert off(model, mirrored) > 20 * limit
        for buffer, b in zip(model.buffers(), buffers, strict=True):
            assert torch.allclose(buffer, b, rtol=1e-6)  # compiled code, too
            assert buffer.dim() == 0 or not torch.equal(buffer, torch.zeros_like(buffer))
        for p, t in zip(model.parameters(), start, strict=True):
            assert p.requires_grad or torch.equal(p, t)
        after = state_of(model)
        assert [w[2:] for w in after["weights"]] == [w[2:] for w in before["weights"]]  # strides, frozen or not
        assert after["modes"] == before["modes"]
        # the next step draws what a step without SAM would leave for it
        torch.manual_seed(DROPOUT_SEED)
        with torch.no_grad():
            loss_of(subject, subject.plain().train())
        assert common.same(torch.get_rng_state(), after["random"][0])
        put_back(model, start, subject)


def off(model: nn.Module, other: nn.Module) -> float:
    """How far their weights are apart."""
    return norm([a.detach() - b.detach() for a, b in zip(model.parameters(), other.parameters(), strict=True)])


@torch.no_grad()
def put_back(model: nn.Module, weights: Sequence[Tensor], subject: Subject) -> None:
    """Weights and buffers as at first, for the next way to make the step."""
    for p, w in zip(model.parameters(), weights, strict=True):
        p.copy_(w)
    for b, fresh in zip(model.buffers(), subject.plain().buffers(), strict=True):
        b.copy_(fresh)


@pytest.mark.parametrize("name", STEPPED)
def test_sam_puts_back_what_it_moves_bit_for_bit(name: str) -> None:
    subject = SUBJECTS[name]
    model = subject.model()
    loss_of(subject, model).backward()
    before = state_of(model)
    sam = SAM(sgd(model), rho=RHO, model=model)
    with sam.perturbed(set_to_none=False):
        assert off(model, subject.plain()) == pytest.approx(RHO, rel=1e-4)
        loss_of(subject, model)
    after = state_of(model)
    for part in ("weights", "buffers", "modes"):
        assert common.same(before[part], after[part])


RULES: dict[str, Rule] = {"ema": EMA(0.5), "swa": SWA(), "power": PowerEMA(1.0)}
SHARES = {"ema": (0.25, 0.25, 0.5), "swa": (0.0, 0.5, 0.5), "power": (0.0, 0.25, 0.75)}
"""Of the weights at first and after each of two steps; of PowerEMA(1) (k^2 - (k - 1)^2) / t^2."""


@pytest.mark.parametrize("name", HIGH)
def test_averages_of_the_weights(name: str) -> None:
    subject = SUBJECTS[name]
    model = subject.model()
    shadows = Shadows(model, RULES)
    start = [w.detach().clone() for w in weights_of(model)]
    for step, factor in enumerate((1.5, -0.5)):
        with torch.no_grad():
            for w, t in zip(weights_of(model), start, strict=True):
                w.copy_(factor * t)
            loss_of(subject, model.train())
        shadows.update(step)
    for rule, (first, second, third) in SHARES.items():
        reference = subject.plain()
        with torch.no_grad():
            for w, t in zip(weights_of(reference), start, strict=True):
                w.copy_((first + 1.5 * second - 0.5 * third) * t.double())
            for b, taken in zip(reference.buffers(), model.buffers(), strict=True):
                b.copy_(taken)
        average = shadows[rule]
        pairs = list(zip(average.parameters(), reference.parameters(), strict=True))
        assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-7) for a, b in pairs)  # float32
        assert all(a.stride() == b.stride() for a, b in pairs)
        assert all(torch.equal(a, b) for a, b in zip(average.buffers(), reference.buffers(), strict=True))
        losses = subject.losses_of(reference.eval())
        before = state_of(model.train())
        with shadows.applied(rule, model):
            modes = before["modes"]
            inside = subject.losses_of(model.eval())
            model.train()
            assert [m.training for m in model.modules()] == modes
        assert common.same(before, state_of(model))
        assert torch.allclose(inside, losses, rtol=1e-4)
        if name in ("mlp", "dit", "unet"):
            assert not torch.allclose(losses, subject.losses_of(subject.plain().eval()), rtol=1e-2)
    assert not any("_orig_mod" in key for snapshot in shadows.snapshots() for key in snapshot["weights"])


@pytest.mark.parametrize("name", LOW)
def test_low_precision_is_refused_in_training(name: str) -> None:
    model = SUBJECTS[name].model()
    before = state_of(model)
    with pytest.raises(ValueError, match=r"bfloat16; allowed: float32, float64"):
        SAM(sgd(model), rho=RHO)
    with pytest.raises(ValueError, match=r"bfloat16; allowed: float32, float64"):
        flatness.Shadows(model, RULES)
    assert common.same(before, state_of(model))


def test_parameters_that_are_views_of_one_another_are_refused_by_sam() -> None:
    """An optimizer steps twice for them."""
    with pytest.raises(ValueError, match="views of the same memory; allowed: one parameter"):
        SAM(sgd(SUBJECTS["viewed"].model()), rho=RHO)
