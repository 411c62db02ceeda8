"""How large the toy study is: seeds, steps, points and draws."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flatness import arguments


@dataclass(frozen=True)
class Settings:
    """All that the study depends on.

    Args:
        seeds: number of seeds, at least 2.
        steps: of training, with learnt features.
        frozen_steps: of training, with frozen features.
        batch: points a seed and step.
        features: m.
        evaluation_points: n of the losses.
        draws: of noise on all weights.
        readout_draws: of noise on theta.
        sample_points: chains a seed and method.
        surface: points along each side of the loss surface.

    Raises:
        ValueError: an argument is not as above.
    """

    seeds: int = 20
    steps: int = 4000
    frozen_steps: int = 4000
    batch: int = 128
    features: int = 128
    evaluation_points: int = 2048
    draws: int = 16
    readout_draws: int = 1024
    sample_points: int = 2048
    surface: int = 15

    def __post_init__(self) -> None:
        """Check every size."""
        arguments.count("seeds", self.seeds, at_least=2)
        arguments.count("sample_points", self.sample_points, at_least=400)
        for name in ("steps", "frozen_steps"):
            arguments.count(name, getattr(self, name), at_least=40)
        for name in ("batch", "features", "evaluation_points", "draws", "readout_draws", "surface"):
            arguments.count(name, getattr(self, name), at_least=1)

    def with_seeds(self, seeds: int) -> Settings:
        """The same at another number of seeds."""
        return replace(self, seeds=seeds)


QUICK = Settings(
    seeds=3, steps=300, frozen_steps=300, evaluation_points=512, draws=4, readout_draws=64, sample_points=400, surface=7
)
"""Everything runs, nothing is settled."""
