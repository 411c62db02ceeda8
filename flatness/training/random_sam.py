"""Random SAM: a random step, then SAM's ascent from there (Liu et al., "Random Sharpness-Aware Minimization", 2022).

    random step   w_r = w + sigma z                                      z standard normal, fresh each step
    ascent        w_hat = w_r + rho grad L(w_r) / |grad L(w_r)|
    descent       w <- w - alpha grad L(w_hat)

SAM's gradient is that of one minibatch at one point; around a sharp point it changes direction within the radius, and
the random step smooths it. Two passes, as SAM. With sigma = 0 it is SAM, with rho -> 0 random weight perturbation at
twice the cost.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from flatness import arguments
from flatness.training.perturbed_optimizer import Phase
from flatness.training.sam import SAM
from flatness.weights import NOISE_SCALES, GaussianNoise, derived_seed

__all__ = ["RandomSAM"]


class RandomSAM(SAM):
    """SAM that climbs from a random place near the weights (module docstring: equations), with all that SAM promises.

    The first pass is made at w + sigma z, so the two-phase form needs `first_pass()`, and the loss that `step` returns
    is the one there. The noise is a function of seed and step, not of torch's generators: a resumed run draws what an
    uninterrupted one would have drawn, and data-parallel ranks of one seed draw the same.

    Args:
        optimizer, rho, schedule, on_nonfinite, gradients, model, same_randomness: as in `SAM`.
        sigma: standard deviation of the random step, in the unit that scale names. May be set between steps.
        seed: the noise is a function of it and of the step.
        scale: "absolute"; or relative to the root mean square of each tensor ("layer") or of each output channel
            ("filter"), which is what its authors take; or to each weight's magnitude ("weight").

    Raises:
        ValueError: an argument outside of what is allowed.
    """

    _takes_shards = False  # whose noise or mean would have to be known to all
    _entry = "random_sam"
    _recorded: ClassVar[tuple[str, ...]] = ("rho", "adaptive", "eta", "sigma", "seed", "scale")

    def __init__(
        self,
        optimizer: Optimizer,
        rho: float = 0.05,
        sigma: float = 0.01,
        seed: int = 0,
        scale: str = "filter",
        schedule: Callable[[int], bool] | None = None,
        *,
        on_nonfinite: str = "raise",
        gradients: str = "local",
        model: nn.Module | None = None,
        same_randomness: bool = True,
    ) -> None:
        """Take over the optimizer's steps."""
        super().__init__(
            optimizer,
            rho,
            schedule=schedule,
            on_nonfinite=on_nonfinite,
            gradients=gradients,
            model=model,
            same_randomness=same_randomness,
        )
        self.sigma = sigma
        self.seed = arguments.count("seed", seed)
        self.scale = arguments.choice("scale", scale, NOISE_SCALES)

    @property
    def sigma(self) -> float:
        """The random step's standard deviation."""
        return self._sigma

    @sigma.setter
    def sigma(self, value: float) -> None:
        self._sigma = arguments.number("sigma", value, at_least=0)

    @contextlib.contextmanager
    def first_pass(self) -> Iterator[None]:
        """Encloses forward and backward at w + sigma z in the two-phase form; w is back on leaving.

        Without effect where the step does not perturb. Notes the random state for `perturbed` to start from, and keeps
        DDP from averaging where gradients are local.
        """
        if not self.due:
            with super().first_pass():
                yield
            return
        self._check_begin()
        parameters = self._parameters()
        with self._saved_weights(parameters):
            self._step_aside(parameters)
            with super().first_pass():
                yield

    @contextlib.contextmanager
    def perturbed(self, set_to_none: bool = True) -> Iterator[None]:
        """Within, weights are at w_hat and the gradients cleared; on leaving, also by an exception, w is back.

        Arguments and errors as in `SAM.perturbed`.

        Raises:
            RuntimeError: also where no first pass was made in `first_pass()`.
        """
        self._check_begin()
        if self.due and self._phase is not Phase.PASSED:
            raise RuntimeError(f"enclose forward and backward at w + sigma z in {self._entry}.first_pass()")
        with super().perturbed(set_to_none):
            yield

    @torch.no_grad()
    def _step_aside(self, parameters: list[Tensor]) -> None:
        """From w to w + sigma z: the same z at each call within a step; frozen weights stay."""
        free = [p for p in parameters if p.requires_grad]
        seed = derived_seed(self._entry, self.seed, self.steps)
        noise = GaussianNoise([self._saved[p] for p in free], seed, self.scale)
        for p, z in zip(free, noise, strict=True):
            p.add_(z.to(p.dtype), alpha=self.sigma)
        torch.clear_autocast_cache()

    def _ascend(self, parameters: list[Tensor]) -> bool:
        self._step_aside(parameters)
        return super()._ascend(parameters)
