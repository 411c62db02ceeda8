"""When SAM perturbs: functions from the step, counted from 0, to whether it does."""

from __future__ import annotations

from dataclasses import dataclass

from flatness import arguments


@dataclass(frozen=True)
class Always:
    """Perturb at every step."""

    def __call__(self, step: int) -> bool:
        """Whether to perturb at this step, counted from 0."""
        return True


@dataclass(frozen=True)
class Late:
    """Perturb from `start_step` on (late SAM)."""

    start_step: int

    def __post_init__(self) -> None:
        """Check the start."""
        arguments.count("start_step", self.start_step)

    @classmethod
    def after_share(cls, share: float, total_steps: int) -> Late:
        """Perturb once this share (0 to 1) of the steps has been made: 0.9 perturbs in the last tenth."""
        share = arguments.number("share", share, at_least=0, at_most=1)
        return cls(round(share * arguments.count("total_steps", total_steps, at_least=1)))

    def __call__(self, step: int) -> bool:
        """Whether to perturb at this step, counted from 0."""
        return step >= self.start_step


@dataclass(frozen=True)
class EveryK:
    """Perturb at steps 0, k, 2k, ..."""

    k: int

    def __post_init__(self) -> None:
        """Check the period."""
        arguments.count("k", self.k, at_least=1)

    def __call__(self, step: int) -> bool:
        """Whether to perturb at this step, counted from 0."""
        return step % self.k == 0
