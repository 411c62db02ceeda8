"""SAM copied and pickled; and gradients that somebody else accumulates around its closure, which are refused."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flatness.training.random_weight_perturbation import RandomWeightPerturbation
from flatness.training.sam import SAM
from tests.flatness.sam_common import RHO, closure_of, data, loss_of, network, same, weights


def saved(pair: Any) -> Any:
    """Through torch.save of whole objects."""
    file = io.BytesIO()
    torch.save(pair, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy, "pickle": lambda pair: pickle.loads(pickle.dumps(pair)), "torch.save": saved,
}  # fmt: skip


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("adaptive", [False, True])
def test_a_copy_goes_on_as_the_original(how: str, adaptive: bool) -> None:
    model = network()
    sam = SAM(torch.optim.Adam(model.parameters(), lr=0.1), rho=RHO, adaptive=adaptive, model=model)
    for k in range(3):
        sam.step(closure_of(sam, model, *data(seed=k)))
    twin, other = COPIES[how]((model, sam))
    assert other.model is twin
    assert other.param_groups[0]["params"][0] is next(twin.parameters())
    before = weights(twin)
    for k in range(3, 5):
        sam.step(closure_of(sam, model, *data(seed=k)))
    assert same(weights(twin), before)  # which the original does not touch
    for k in range(3, 5):
        other.step(closure_of(other, twin, *data(seed=k)))
    assert same(weights(model), weights(twin))
    assert other.steps == 5
    torch.optim.lr_scheduler.StepLR(other, 1)  # hooks are there anew


def test_random_weight_perturbation_is_copied_too() -> None:
    model = network()
    own = RandomWeightPerturbation(torch.optim.SGD(model.parameters(), lr=0.1), sigma=0.1)

    def step(model: nn.Module, own: RandomWeightPerturbation) -> None:
        own.zero_grad()
        with own.perturbed():
            loss_of(model, *data()).backward()
        own.step()

    step(model, own)
    twin, other = pickle.loads(pickle.dumps((model, own)))
    step(model, own)
    step(twin, other)
    assert same(weights(model), weights(twin))


def test_within_a_step_a_copy_is_refused() -> None:
    (x, y), model = data(), network()
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO)
    loss_of(model, x, y).backward()
    with sam.perturbed():
        with pytest.raises(TypeError, match="within a step"):
            copy.deepcopy((model, sam))
        loss_of(model, x, y).backward()
    with pytest.raises(TypeError, match="within a step"):
        pickle.dumps(sam)
    sam.step()
    pickle.dumps(sam)


def accumulating(clear: Callable[[SAM, nn.Module], None]) -> None:
    """A loop around SAM that accumulates two micro-batches; clear is what its closure does first."""
    (x, y), model = data(), network()
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO)
    sam.step(closure_of(sam, model, x, y))
    before = weights(model)
    sam.zero_grad()
    loss_of(model, x, y).backward()  # the first micro-batch

    def closure() -> Tensor:
        clear(sam, model)
        loss = loss_of(model, x, y)
        loss.backward()
        return loss

    try:
        sam.step(closure)
    finally:
        assert same(weights(model), before)
        assert sam.steps == 1


def test_gradients_accumulated_around_the_closure_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"closure adds to gradients.*two-phase form"):
        accumulating(lambda sam, model: None)
    for clear in (
        lambda sam, model: sam.zero_grad(),
        lambda sam, model: model.zero_grad(set_to_none=False),
    ):
        with pytest.raises(RuntimeError, match="closure clears gradients that a backward outside of it has left"):
            accumulating(clear)


def test_what_is_no_accumulation_is_taken() -> None:
    """Clearing before the step, in the closure by any means, many micro-batches within it, and steps without SAM."""
    x, y = data()
    results = []
    for before, inside in ((True, False), (False, True), (False, None)):
        model = network()
        sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO)
        for _ in range(3):
            if before:
                model.zero_grad(set_to_none=False)

            def closure(sam: SAM = sam, model: nn.Module = model, inside: bool | None = inside) -> Tensor:
                if inside:
                    sam.zero_grad()
                elif inside is None:
                    model.zero_grad(set_to_none=False)
                losses = [loss_of(model, part, target) / 2 for part, target in zip(x.split(1), y.split(1), strict=True)]
                for loss in losses:
                    loss.backward()
                return torch.stack(losses).sum().detach()

            sam.step(closure)
        results.append(weights(model))
    assert same(results[0], results[1])
    assert same(results[0], results[2])
    plain = SAM(torch.optim.SGD(network().parameters(), lr=0.1), rho=0.0)
    model = network()
    plain = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.0)
    loss_of(model, x, y).backward()
    plain.step(lambda: loss_of(model, x, y).detach())  # a plain step of accumulated gradients
    assert plain.steps == 1


def test_a_model_that_changed_after_wrapping_is_named() -> None:
    model = network(dtype=torch.float32)
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO)
    model.bfloat16()
    with pytest.raises(ValueError, match=r"parameter of dtype torch.bfloat16; allowed: float32, float64"):
        sam.step(closure_of(sam, model, *(t.bfloat16() for t in data())))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
def test_weight_norm_trains_as_by_hand(norm: Callable[[nn.Module], nn.Module]) -> None:
    """w_hat is a place of g and v, which the layer's weight follows within the perturbed pass."""
    torch.manual_seed(0)
    layer, x = norm(nn.Linear(3, 2)), torch.randn(5, 3)
    twin = norm(nn.Linear(3, 2))
    twin.load_state_dict(layer.state_dict())
    sam = SAM(torch.optim.SGD(layer.parameters(), lr=0.1), rho=0.3)

    def closure() -> Tensor:
        sam.zero_grad()
        loss = layer(x).square().mean()
        loss.backward()
        return loss

    sam.step(closure)
    parameters = list(twin.parameters())
    twin(x).square().mean().backward()
    gradients = [p.grad.clone() for p in parameters if p.grad is not None]
    length = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    start = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for p, g in zip(parameters, gradients, strict=True):
            p.add_(0.3 * g / length)
    twin.zero_grad()
    twin(x).square().mean().backward()
    for p, own, w in zip(parameters, layer.parameters(), start, strict=True):
        assert p.grad is not None
        assert torch.allclose(own, w - 0.1 * p.grad, atol=1e-6)
