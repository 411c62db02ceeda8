"""SAM's ascent: from the weights to w_hat, the worst place of a ball around them, to first order."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from flatness import arguments
from flatness.passes import gradients_of, whole_norm
from flatness.sharding import locals_of
from flatness.training.perturbed_optimizer import PerturbedOptimizer

SMALLEST_NORM = 1e-30
"""A gradient of a smaller norm counts as zero: rho over it would leave float32's range."""


class Ascent(PerturbedOptimizer):
    """An optimizer whose weights climb a gradient by the radius rho.

    Args:
        optimizer, schedule, on_nonfinite: see `PerturbedOptimizer`.
        rho: the radius, as in `flatness.training.sam.SAM`.
        adaptive, eta: the scaling of ASAM.

    Raises:
        ValueError: an argument outside of what is allowed.
    """

    _size = "rho"

    def __init__(
        self,
        optimizer: Optimizer,
        rho: float,
        adaptive: bool,
        eta: float,
        schedule: Callable[[int], bool] | None,
        on_nonfinite: str,
    ) -> None:
        """Nothing is moved or copied yet."""
        super().__init__(optimizer, schedule, on_nonfinite)
        self.rho = rho
        self.adaptive = arguments.flag("adaptive", adaptive)
        self.eta = arguments.number("eta", eta, at_least=0)

    @property
    def rho(self) -> float:
        """The radius of the perturbation."""
        return self._rho

    @rho.setter
    def rho(self, value: float) -> None:
        self._rho = arguments.number("rho", value, at_least=0)

    @torch.no_grad()
    def _ascend(self, parameters: list[Tensor]) -> bool:
        """Move from the saved weights w to w_hat; False, and no move, where the gradient is not finite."""
        return self._climb([p for p in parameters if p.grad is not None], gradients_of(parameters))

    @torch.no_grad()
    def _climb(self, parameters: list[Tensor], directions: list[Tensor]) -> bool:
        """Move parameters along directions g, by rho; False, and no move, where these are not finite.

        ASAM works within the weights and the directions, which are no longer needed, so that it takes no more memory.
        """
        w_hat, g = locals_of(parameters), locals_of(directions)
        if self.adaptive:
            torch._foreach_abs_(w_hat)
            torch._foreach_add_(w_hat, self.eta)  # T
            torch._foreach_mul_(g, w_hat)  # T g
        norm = whole_norm(directions)
        moves = math.isfinite(norm) and norm >= SMALLEST_NORM
        if self.adaptive and not moves:
            self._put_back(parameters)
        elif self.adaptive:
            torch._foreach_mul_(w_hat, g)  # T^2 g
            torch._foreach_mul_(w_hat, self.rho / norm)
            torch._foreach_add_(w_hat, [self._saved[p] for p in parameters])
        elif moves:
            torch._foreach_add_(w_hat, g, alpha=self.rho / norm)
        torch.clear_autocast_cache()  # within autocast the second pass would run with the cast weights of the first
        return math.isfinite(norm)
