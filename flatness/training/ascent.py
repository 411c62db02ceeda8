"""SAM's ascent: an optimizer's weights at w_hat, the worst place of a ball around w, and put back to w bit for bit."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim import Optimizer

from flatness import arguments
from flatness.passes import gradients_of, whole_norm
from flatness.training.wrapped_optimizer import WrappedOptimizer

SMALLEST_NORM = 1e-30
"""A gradient of a smaller norm counts as zero: rho over it would leave float32's range."""


class Ascent(WrappedOptimizer):
    """Another optimizer with what moves its weights in place and puts them back from a copy, kept for the next step.

    Args:
        optimizer: see `WrappedOptimizer`.
        rho: the radius, as in `flatness.training.sam.SAM`.
        adaptive, eta: the scaling of ASAM.

    Raises:
        ValueError: an argument outside of what is allowed.
    """

    def __init__(self, optimizer: Optimizer, rho: float, adaptive: bool, eta: float) -> None:
        """Nothing is moved or copied yet."""
        super().__init__(optimizer)
        self.rho = rho
        self.adaptive = arguments.flag("adaptive", adaptive)
        self.eta = arguments.number("eta", eta, at_least=0)
        self._saved: dict[Tensor, Tensor] = {}

    @property
    def rho(self) -> float:
        """The radius of the perturbation."""
        return self._rho

    @rho.setter
    def rho(self, value: float) -> None:
        self._rho = arguments.number("rho", value, at_least=0)

    @torch.no_grad()
    def _save(self, parameters: list[Tensor]) -> None:
        for p in parameters:
            copy = self._saved.get(p)
            if copy is None or (copy.shape, copy.dtype, copy.device) != (p.shape, p.dtype, p.device):
                self._saved[p] = torch.empty_like(p)
        torch._foreach_copy_([self._saved[p] for p in parameters], parameters)

    @torch.no_grad()
    def _put_back(self, parameters: list[Tensor]) -> None:
        torch._foreach_copy_(parameters, [self._saved[p] for p in parameters])
        torch.clear_autocast_cache()

    @torch.no_grad()
    def _ascend(self, parameters: list[Tensor]) -> bool:
        """Move from the saved weights w to w_hat; False, and no move, where the gradient is not finite.

        ASAM works within the weights and the gradients, which are no longer needed, so that it takes no more memory.
        """
        g = gradients_of(parameters)
        w_hat = [p for p in parameters if p.grad is not None]
        if self.adaptive:
            torch._foreach_abs_(w_hat)
            torch._foreach_add_(w_hat, self.eta)  # T
            torch._foreach_mul_(g, w_hat)  # T g
        norm = whole_norm(g)
        moves = math.isfinite(norm) and norm >= SMALLEST_NORM
        if not moves:
            self._put_back(parameters)
        elif self.adaptive:
            torch._foreach_mul_(w_hat, g)  # T^2 g
            torch._foreach_mul_(w_hat, self.rho / norm)
            torch._foreach_add_(w_hat, [self._saved[p] for p in w_hat])
        else:
            torch._foreach_add_(w_hat, g, alpha=self.rho / norm)
        torch.clear_autocast_cache()  # within autocast the second pass would run with the cast weights of the first
        return math.isfinite(norm)
