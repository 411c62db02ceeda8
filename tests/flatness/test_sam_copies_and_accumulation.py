"""SAM copied and pickled; and gradients that somebody else accumulates around its closure, which are refused."""

from __future__ import annotations

import copy
import io
import pickle
import re
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


def passes_before(steps: int) -> tuple[SAM, Any]:
    """SAM after some steps, and a closure that clears, beside a function that runs a backward of its own."""
    (x, y), model = data(), network()
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO)
    closure = closure_of(sam, model, x, y)
    for _ in range(steps):
        sam.step(closure)

    def stray() -> None:
        (loss_of(model, x, y) * 3).backward()

    return sam, (closure, stray, model)


@pytest.mark.parametrize("steps", [0, 3])
def test_another_backward_before_a_closure_that_clears_changes_nothing_and_is_said_once(steps: int) -> None:
    """As a generator's through a discriminator, at every step, or a look at the gradients before training."""
    (alone, (closure, _, twin)), (sam, (own, stray, model)) = passes_before(steps), passes_before(steps)
    stray()
    with pytest.warns(UserWarning, match=r"closure clears gradients that another backward has left.*said once"):
        sam.step(own)
    alone.step(closure)
    for _ in range(2):
        stray()
        sam.step(own)
        alone.step(closure)
    assert same(weights(model), weights(twin))


def test_gradients_from_before_the_optimizer_was_wrapped_are_nobodys() -> None:
    (x, y), model, twin = data(), network(), network()
    loss_of(model, x, y).backward()
    for net in (model, twin):
        sam = SAM(torch.optim.SGD(net.parameters(), lr=0.1), rho=RHO)
        sam.step(closure_of(sam, net, x, y))
    assert same(weights(model), weights(twin))


def test_a_closure_may_take_gradients_that_it_does_not_add_before_it_clears() -> None:
    """torch.autograd.grad before zero_grad: for a penalty, or to be shown."""
    (x, y), model, twin = data(), network(), network()
    for net, looks in ((model, True), (twin, False)):
        sam = SAM(torch.optim.SGD(net.parameters(), lr=0.1), rho=RHO)

        def closure(net: nn.Module = net, sam: SAM = sam, looks: bool = looks) -> Tensor:
            if looks:
                torch.autograd.grad(loss_of(net, x, y), list(net.parameters()))
            sam.zero_grad()
            loss = loss_of(net, x, y)
            loss.backward()
            return loss

        for _ in range(3):
            sam.step(closure)
    assert same(weights(model), weights(twin))


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


@pytest.mark.parametrize("with_model", [False, True])
def test_a_parameter_of_another_shape_is_named(with_model: bool) -> None:
    model = network()
    own = model if with_model else None
    sam = SAM(torch.optim.SGD(model.named_parameters(), lr=0.1), rho=RHO, model=own)
    sam.step(closure_of(sam, model, *data()))
    name, first = next(model.named_parameters())
    shape = tuple(first.shape)
    first.data = torch.cat([first.data, first.data])
    first.grad = None
    with pytest.raises(
        ValueError, match=f"optimizer's parameter {name} has the shape .*, and had {re.escape(str(shape))}"
    ):
        sam.step(closure_of(sam, model, *data()))


def test_a_model_whose_parameters_were_exchanged_is_named_and_weights_stay() -> None:
    x, y = data()

    def trained() -> tuple[nn.Module, SAM]:
        model = network()
        sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO, model=model)
        sam.step(closure_of(sam, model, x, y))
        return model, sam

    model, sam = trained()
    name = next(key for key, _ in model.named_parameters())
    layer, _, attribute = name.rpartition(".")
    inside = model.get_submodule(layer)
    setattr(inside, attribute, nn.Parameter(getattr(inside, attribute).detach().clone()))
    before = weights(model)
    with pytest.raises(
        ValueError, match=f"model has changed since its optimizer was wrapped: {name} is another parameter"
    ):
        sam.step(closure_of(sam, model, x, y))
    assert same(weights(model), before)
    sam.add_param_group({"params": [getattr(inside, attribute)]})
    sam.step(closure_of(sam, model, x, y))  # now it is the optimizer's

    model, sam = trained()
    model.register_parameter("extra", nn.Parameter(torch.zeros(2)))
    with pytest.raises(ValueError, match="extra is new"):
        sam.step(closure_of(sam, model, x, y))

    model, sam = trained()
    del model._modules[next(iter(model._modules))]
    with pytest.raises(ValueError, match="is gone"):
        sam._check_model()

    model, sam = trained()
    next(model.parameters()).requires_grad_(False)  # frozen: still the optimizer's
    sam.step(closure_of(sam, model, x, y))
    twin, other = copy.deepcopy((model, sam))
    other.step(closure_of(other, twin, x, y))


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
