"""Random weight perturbation: the gradient at weights moved by Gaussian noise, with the step of any torch optimizer.

The training rule of LPF-SGD (Bisla et al. 2022) with one draw a step:

    w <- w - alpha grad L(w + sigma z),    z ~ N(0, I), fresh at each step

so that steps descend E_z L(w + sigma z), the low-pass filter's own value, at the price of a plain step.

    perturbed = RandomWeightPerturbation(torch.optim.Adam(model.parameters(), lr=1e-4), sigma=0.01)
    perturbed.zero_grad()
    with perturbed.perturbed():      # at w + sigma z; on leaving, w is back, bit for bit
        loss_of(model, batch).backward()
    perturbed.step()
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from flatness import arguments
from flatness.passes import gradients_of, whole_norm
from flatness.training.wrapped_optimizer import WrappedOptimizer
from flatness.weights import derived_seed

__all__ = ["RandomWeightPerturbation"]


class RandomWeightPerturbation(WrappedOptimizer):
    """The given optimizer's step with the gradient at noisy weights (module docstring: equation, example).

    The noise is drawn on the CPU as a function of (seed, step), parameter by parameter in the optimizer's order: the
    same on all data-parallel ranks, in a resumed run, and on any device.

    Args:
        optimizer: any torch optimizer whose step needs no closure, of float32 or float64 parameters.
        sigma: standard deviation of the noise on every weight; 0 is the plain optimizer, bit for bit.
        seed: of the noise.

    Raises:
        ValueError: an argument outside of what is allowed.
    """

    def __init__(self, optimizer: Optimizer, sigma: float = 0.01, seed: int = 0) -> None:
        """Take over the optimizer's steps."""
        super().__init__(optimizer)
        self.sigma = arguments.number("sigma", sigma, at_least=0)
        self.seed = arguments.count("seed", seed)
        self.steps = self.skipped = 0
        self._saved: list[Tensor] = []
        self._passed = False

    @contextlib.contextmanager
    def perturbed(self, step: int | None = None) -> Iterator[None]:
        """Within, weights are at w + sigma z; on leaving, also by an exception, w is back.

        Args:
            step: whose noise; by default that of the step that comes next. For loops that count steps themselves and
                make them through the wrapped optimizer.
        """
        step = self.steps if step is None else arguments.count("step", step)
        parameters = self._parameters()
        moves = self.sigma > 0
        if moves:
            with torch.no_grad():
                self._saved = [p.detach().clone() for p in parameters]
                torch._foreach_add_(parameters, self._noise(parameters, step), alpha=self.sigma)
            torch.clear_autocast_cache()
        try:
            yield
            self._passed = True
        finally:
            if moves:
                with torch.no_grad():
                    torch._foreach_copy_(parameters, self._saved)
                self._saved = []
                torch.clear_autocast_cache()

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """The optimizer's step with the gradients at hand.

        Raises:
            RuntimeError: no perturbed pass was made since the last step.
            FloatingPointError: a gradient is not finite; the weights are as before.
            ValueError: a closure was given.
        """
        if closure is not None:
            raise arguments.refuse("closure", closure, "None: run the pass within `with perturbed():`")
        if self.sigma > 0 and not self._passed:
            raise RuntimeError(f"step {self.steps} perturbs, but no pass was made within `with perturbed():`")
        self._passed = False
        norm = whole_norm(gradients_of(self._parameters()))
        if not norm < float("inf"):
            raise FloatingPointError(f"the gradient is not finite at step {self.steps}; the weights are as before it")
        self.optimizer.step()
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """The wrapped optimizer's state_dict, with an entry "random_weight_perturbation" of its own."""
        own = {name: getattr(self, name) for name in ("sigma", "seed", "steps", "skipped")}
        return {**self.optimizer.state_dict(), "random_weight_perturbation": own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict`.

        Raises:
            ValueError: no such entry.
        """
        own = state_dict.get("random_weight_perturbation")
        if not isinstance(own, dict):
            raise ValueError(
                f"state_dict has the entries {sorted(state_dict)}; allowed: one written by "
                "RandomWeightPerturbation.state_dict"
            )
        rest = {key: value for key, value in state_dict.items() if key != "random_weight_perturbation"}
        self.optimizer.load_state_dict(rest)
        for name in ("sigma", "seed", "steps", "skipped"):
            setattr(self, name, own[name])
        self._passed = False

    def _noise(self, parameters: list[Tensor], step: int) -> list[Tensor]:
        """z of a step: float32 numbers from the CPU, each in its parameter's type, place and layout."""
        label = derived_seed("random weight perturbation", self.seed, step)
        generator = torch.Generator().manual_seed(label)
        return [torch.empty_like(p).copy_(torch.randn(p.shape, generator=generator)) for p in parameters]
