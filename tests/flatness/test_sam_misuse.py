"""GradScaler with SAM, and the errors for what is not allowed."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flatness.training.perturbed_optimizer import EveryK, Late
from flatness.training.random_weight_perturbation import RandomWeightPerturbation
from flatness.training.sam import SAM
from tests.flatness.sam_common import RHO, Optimizers, closure_of, data, loss_of, network, same, weights


def scaled_step(scaler: Any, sam: SAM, model: nn.Module, x: Tensor, y: Tensor) -> None:
    sam.zero_grad()
    scaler.scale(loss_of(model, x, y)).backward()
    if sam.due:
        with sam.perturbed():
            scaler.scale(loss_of(model, x, y)).backward()
    scaler.step(sam)
    scaler.update()


@pytest.mark.parametrize("base", ["sgd", "adam"])
def test_grad_scaler_in_two_phases_is_exact(base: str) -> None:
    """The scale is a power of two, so no digit changes."""
    plain, scaled = network(dtype=torch.float32), network(dtype=torch.float32)
    sam, amp = (SAM(Optimizers[base](m.parameters()), rho=RHO, schedule=EveryK(2)) for m in (plain, scaled))
    scaler = torch.amp.GradScaler("cpu")
    for k in range(4):
        x, y = (t.float() for t in data(seed=k))
        sam.step(closure_of(sam, plain, x, y))
        scaled_step(scaler, amp, scaled, x, y)
    assert same(weights(plain), weights(scaled))


@pytest.mark.parametrize("at", ["w", "w_hat"])
def test_grad_scaler_skips_overflows_and_backs_off(at: str) -> None:
    p = nn.Parameter(torch.ones(2))
    sam = SAM(torch.optim.Adam([p], lr=0.1), rho=RHO)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaler.scale((p**2).sum() * (math.inf if at == "w" else 1)).backward()
    with sam.perturbed():
        scaler.scale((p**2).sum() * (math.inf if at == "w_hat" else 1)).backward()
    scaler.step(sam)
    scaler.update()
    assert torch.equal(p, torch.ones(2))
    assert (sam.steps, sam.skipped, scaler.get_scale()) == (1, 1, 2.0**9)


def test_grad_scaler_misuse_is_refused() -> None:
    (x, y), model = data(), network()
    sam = SAM(torch.optim.Adam(model.parameters(), lr=0.1), rho=RHO)
    before = weights(model)

    def closure() -> Tensor:
        sam.zero_grad()
        loss = loss_of(model, x, y)
        scaler.scale(loss).backward()
        return loss

    scaler = torch.amp.GradScaler("cpu")
    closure()
    with pytest.raises(RuntimeError, match="two-phase"):
        scaler.step(sam, closure)
    scaler = torch.amp.GradScaler("cpu")
    closure()
    with pytest.raises(RuntimeError, match="no perturbed pass"):
        scaler.step(sam)
    for early in (True, False):
        scaler = torch.amp.GradScaler("cpu")
        closure()
        if early:
            scaler.unscale_(sam)
        with sam.perturbed():
            closure()
        if not early:
            scaler.unscale_(sam)
        with pytest.raises(RuntimeError, match="unscale_"):
            scaler.step(sam)
        sam.zero_grad()
    assert same(weights(model), before)
    sam.step(closure_of(sam, model, x, y))  # nothing of the scaler is left behind
    assert sam.steps == 1


def test_misuse_of_the_two_phases_is_refused() -> None:
    (x, y), model = data(), network()
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO)
    with pytest.raises(RuntimeError, match="no parameter has a gradient"), sam.perturbed():
        pass
    loss_of(model, x, y).backward()
    with pytest.raises(RuntimeError, match="no perturbed pass"):
        sam.step()
    with sam.perturbed():
        loss_of(model, x, y).backward()
        with pytest.raises(RuntimeError, match="begun before"), sam.perturbed():
            pass
    with pytest.raises(RuntimeError, match="begun before"):
        sam.step(closure_of(sam, model, x, y))
    sam.zero_grad()  # drops it
    with pytest.raises(ValueError, match="closure returned None"):
        sam.step(lambda: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="closure is None"):
        sam.step(None, lambda: 0.0)
    with pytest.raises(ValueError, match=r"closure is a tensor.*functools.partial\(closure, batch\)"):
        sam.step(x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"ascent_closure is a tensor.*functools.partial"):
        sam.step(closure_of(sam, model, x, y), x)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="no parameter has a gradient"):
        sam.step(lambda: loss_of(model, x, y))
    with pytest.raises(ValueError, match="written by SAM"):
        sam.load_state_dict(sam.optimizer.state_dict())
    assert sam.steps == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho": -0.1}, "rho is -0.1; allowed: a finite number of at least 0"),
        ({"rho": math.nan}, "rho is nan"),
        ({"rho": "0.1"}, "rho is '0.1'"),
        ({"adaptive": 1}, "adaptive is 1; allowed: True or False"),
        ({"schedule": 3}, "schedule is 3"),
        ({"on_nonfinite": "ignore"}, "on_nonfinite is 'ignore'; allowed: one of 'raise', 'skip'"),
        ({"gradients": "global"}, "gradients is 'global'"),
        ({"model": 1}, "model is 1"),
        ({"eta": -1.0}, "eta is -1.0"),
        ({"same_randomness": None}, "same_randomness is None"),
    ],
)
def test_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SAM(torch.optim.SGD(network().parameters(), lr=0.1), **options)


def test_optimizers_that_cannot_be_wrapped() -> None:
    parameters = list(network().parameters())
    sgd = torch.optim.SGD(parameters, lr=0.1)
    for optimizer, message in (
        ("sgd", "optimizer is 'sgd'"),
        (SAM(sgd), "not SAM"),
        (torch.optim.LBFGS(parameters), "without a closure"),
        (torch.optim.SGD(parameters, lr=0.1, maximize=True), "minimises"),
        (torch.optim.SGD(network(dtype=torch.bfloat16).parameters(), lr=0.1), "bfloat16; allowed: float32, float64"),
    ):
        with pytest.raises(ValueError, match=message):
            SAM(optimizer)  # type: ignore[arg-type]
    for make, argument in ((Late, -1), (EveryK, 0), (EveryK, 1.5), (Late, True)):
        with pytest.raises(ValueError, match="allowed: a whole number"):
            make(argument)  # type: ignore[arg-type]
    sam = SAM(sgd)
    with pytest.raises(ValueError, match="float16; allowed: float32, float64"):
        sam.add_param_group({"params": [nn.Parameter(torch.ones(1, dtype=torch.float16))]})
    assert len(sam.param_groups) == 1
    with pytest.raises(ValueError, match=r"share is 1\.5"):
        Late.after_share(1.5, 10)
    embedding = nn.Embedding(3, 2, sparse=True)
    sam = SAM(torch.optim.SGD(embedding.parameters(), lr=0.1))
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"), sam.perturbed():
        pass


def test_messages_name_the_argument() -> None:
    (x, y), model = data(), network()
    for rho in (RHO, 0.0):
        sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=rho)
        with pytest.raises(ValueError, match=r"^closure returned None"):
            sam.step(lambda: None)  # type: ignore[arg-type, return-value]
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO)
    right = closure_of(sam, model, x, y)
    losses = iter([right, lambda: None])
    with pytest.raises(ValueError, match=r"^closure returned None"):
        sam.step(lambda: next(losses)())  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match=r"^ascent_closure returned None"):
        sam.step(right, lambda: None)  # type: ignore[arg-type, return-value]
    other = RandomWeightPerturbation(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match=r"^closure is 3; allowed"):
        other.step(3)  # type: ignore[arg-type]
    stored = sam.state_dict()
    with pytest.raises(ValueError, match=r"^state_dict is 3; allowed"):
        sam.load_state_dict(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^state_dict's sam\.rho is -1"):
        sam.load_state_dict({**stored, "sam": {**stored["sam"], "rho": -1}})
    with pytest.raises(ValueError, match=r"^state_dict"):
        sam.load_state_dict({**stored, "param_groups": 3})


def test_a_scaler_and_a_closure_do_not_go_together() -> None:
    (x, y), model = data(), network()
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=RHO)
    vars(sam).update(grad_scale=torch.tensor(2.0), found_inf=torch.tensor(0.0))  # as GradScaler.step does
    with pytest.raises(RuntimeError, match="would leave the gradients scaled"):
        sam.step(closure_of(sam, model, x, y))
    assert sam.steps == 0


def test_what_the_scaler_found_counts_and_not_the_gradients_at_hand() -> None:
    p = nn.Parameter(torch.ones(2))
    for found, steps in ((1.0, 0), (0.0, 1)):
        sam = SAM(torch.optim.SGD([p], lr=0.0), rho=0.0)
        p.grad = torch.ones(2)
        vars(sam).update(grad_scale=torch.tensor(2.0), found_inf=torch.tensor(found))
        sam.step()
        assert (sam.steps, sam.skipped) == (1, 1 - steps)


def test_unscaled_gradients_are_stepped_with_as_they_are() -> None:
    """SAM refuses them; of weight noise, whose one pass is scaled, they are right."""
    p = nn.Parameter(torch.ones(2))
    noisy = RandomWeightPerturbation(torch.optim.SGD([p], lr=0.5))
    with noisy.perturbed():
        p.grad = torch.ones(2)
    vars(noisy).update(grad_scale=None, found_inf=torch.tensor(0.0))
    assert noisy.step() is None
    assert torch.equal(p, torch.full((2,), 0.5))
