"""SAM by hand, without the library: what the examples' training loops are held against."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

ROUNDING = 1e-10
"""float64: sums in another order differ by some 1e-15 a step, and Adam's division by a small root leaves that below
1e-12 after ten. Without the perturbation, or with the other sign, weights are off by more than FAR."""
FAR = 1e-6


def trained(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_of: Callable[[nn.Module, Any], Tensor],
    data: Iterable[Any],
    rho: float,
    perturbs: Callable[[int], bool] = lambda step: True,
    after: Callable[[], None] = lambda: None,
) -> list[Tensor]:
    """Train the model in place, one step a batch; its weights. A negative rho descends in place of climbing.

    Args:
        model: with weights of one dtype, on the CPU.
        optimizer: of all of the model's parameters.
        loss_of: the mean loss of a batch; its random numbers are the same in both passes.
        data: one batch a step.
        rho: the radius.
        perturbs: whether a step, counted from 0, does.
        after: called at the end of every step.
    """
    weights = list(model.parameters())
    for step, batch in enumerate(data):
        random = torch.get_rng_state()
        gradients = torch.autograd.grad(loss_of(model, batch), weights)
        if perturbs(step):
            norm = float(torch.cat([g.double().flatten() for g in gradients]).norm())
            before = [w.detach().clone() for w in weights]
            with torch.no_grad():
                for w, g in zip(weights, gradients, strict=True):
                    w.add_(g, alpha=rho / norm)
            torch.set_rng_state(random)
            gradients = torch.autograd.grad(loss_of(model, batch), weights)
            with torch.no_grad():
                for w, b in zip(weights, before, strict=True):
                    w.copy_(b)
        for w, g in zip(weights, gradients, strict=True):
            w.grad = g
        optimizer.step()
        after()
    return [w.detach() for w in weights]


def distance(a: Iterable[Tensor], b: Iterable[Tensor]) -> float:
    """The largest difference of a weight."""
    return max(float((x - y).detach().abs().max()) for x, y in zip(a, b, strict=True))


def check_sam(
    model: nn.Module, reference: Callable[[float], list[Tensor]], rho: float, within: float = ROUNDING
) -> None:
    """The model's weights are the reference's at rho, and not those at 0 (no perturbation) or -rho (the other way).

    Args:
        model: trained by the example.
        reference: from the radius to the weights, by `trained`.
        rho: that of the example.
        within: how far rounding may take them apart.
    """
    parameters = list(model.parameters())
    assert all(bool(w.isfinite().all()) for w in parameters)
    assert distance(parameters, reference(rho)) <= within
    for other in (0.0, -rho):
        assert distance(parameters, reference(other)) > max(FAR, 10 * within)
