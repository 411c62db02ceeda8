"""How training draws timesteps: uniformly, or by the second moment of the loss (Nichol and Dhariwal, 2021, Eq. 18).

Everything here lives on the CPU, and a draw is a function of the generator and the history alone, so that ranks which
are told the same losses stay in step.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from flatness import arguments


class UniformTimesteps:
    """Every timestep alike; all weights are 1.

    Args:
        steps: T, the number of timesteps.
    """

    def __init__(self, steps: int) -> None:
        """Check the number of timesteps."""
        self.steps = arguments.count("steps", steps, at_least=1)

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """t (n,), int64, and the weights of their losses (n,), float32."""
        return _drawn(torch.ones(self.steps, dtype=torch.float64), n, generator)

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Nothing is learned from losses."""

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Accept what `state_dict` returns.

        Raises:
            ValueError: the state is another kind's.
        """
        if state:
            raise arguments.refuse("state", sorted(state), "an empty state, as of uniform timesteps")


class SecondMomentTimesteps:
    """Timesteps in proportion to sqrt(E[loss^2]) over their last losses, with weights that keep the mean unbiased.

    Uniform until every timestep has a full history. A share of the probability always stays uniform.

    Args:
        steps: T, the number of timesteps.
        history: losses kept per timestep.
        uniform_probability: the share that is uniform.

    Attributes:
        losses: (T, history), float64, the last losses of each timestep; the oldest is overwritten.
        counts: (T,), int64, how many losses each timestep has been told in all.
    """

    def __init__(self, steps: int, history: int = 10, uniform_probability: float = 0.001) -> None:
        """Start with an empty history."""
        self.steps = arguments.count("steps", steps, at_least=1)
        self.history = arguments.count("history", history, at_least=1)
        self.uniform_probability = arguments.number("uniform_probability", uniform_probability, above=0.0, at_most=1.0)
        self.losses = torch.zeros(steps, history, dtype=torch.float64)
        self.counts = torch.zeros(steps, dtype=torch.int64)

    @property
    def warm(self) -> bool:
        """Whether every timestep has a full history."""
        return bool((self.counts >= self.history).all())

    def probabilities(self) -> Tensor:
        """The probability of each timestep (T,), float64."""
        uniform = torch.full((self.steps,), 1.0 / self.steps, dtype=torch.float64)
        moments = self.losses.square().mean(1).sqrt()
        if not self.warm or not bool(moments.any()):
            return uniform
        return (1.0 - self.uniform_probability) * moments / moments.sum() + self.uniform_probability * uniform

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """t (n,), int64, and the weights of their losses 1 / (T p(t)) (n,), float32."""
        return _drawn(self.probabilities(), n, generator)

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Record the (unweighted) losses (n,) at timesteps t (n,), in order; from all ranks together, on each alike.

        Raises:
            ValueError: shapes do not fit, a timestep is out of range, or a loss is not finite.
        """
        t = t.detach().cpu().long()
        values = arguments.floating_tensor("losses", losses).detach().cpu().double()
        if t.dim() != 1 or values.shape != t.shape:
            raise arguments.refuse("losses", losses, f"shape (n,) like t, which has {tuple(t.shape)}")
        if len(t) == 0:
            return
        if int(t.min()) < 0 or int(t.max()) >= self.steps:
            raise arguments.refuse("t", t.tolist(), f"timesteps from 0 to {self.steps - 1}")
        arguments.finite_tensor("losses", losses)
        order = t.argsort(stable=True)
        t, values = t[order], values[order]
        _, lengths = t.unique_consecutive(return_counts=True)
        ends = lengths.cumsum(0)
        earlier = torch.arange(len(t)) - (ends - lengths).repeat_interleave(lengths)
        # Of more losses than a history holds, only the last ones stay; writing each slot once keeps this definite.
        stays = earlier >= (lengths - self.history).repeat_interleave(lengths)
        slots = (self.counts[t] + earlier) % self.history
        self.losses[t[stays], slots[stays]] = values[stays]
        self.counts += torch.bincount(t, minlength=self.steps)

    def state_dict(self) -> dict[str, Tensor]:
        """The history, as copies."""
        return {"losses": self.losses.clone(), "counts": self.counts.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            ValueError: entries or shapes are not those of this history.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        expected = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}
        if shapes != expected:
            raise arguments.refuse("state", shapes, f"tensors of shapes {expected}")
        self.losses = state["losses"].detach().cpu().double().clone()
        self.counts = state["counts"].detach().cpu().long().clone()


def _drawn(probabilities: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """n timesteps by inversion, one uniform number each, and the importance weights 1 / (T p)."""
    n = arguments.count("n", n, at_least=1)
    total = probabilities.cumsum(0)
    uniforms = torch.rand(n, generator=generator, dtype=torch.float64) * total[-1]
    t = torch.searchsorted(total, uniforms, right=True).clamp(max=len(total) - 1)
    share = probabilities[t] / probabilities.sum()
    return t, (1.0 / (len(probabilities) * share)).float()
