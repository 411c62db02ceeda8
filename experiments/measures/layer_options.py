"""What the first stage of the bridge measures, and how finely; stored in every file of it."""

from __future__ import annotations

from dataclasses import dataclass

from flatness import arguments


@dataclass(frozen=True)
class LayerOptions:
    """The settings; the defaults cost some 18,000 passes of one image for fashion-mnist-tiny's network, a row."""

    layer_images: int = 32
    """Held-out images of the layers' and the whole network's rises, one timestep each, and of the snapshots'."""
    whole_draws: int = 8
    """Draws of noise on all weights, each taken with both signs."""
    readout_draws: int = 128
    """Draws of noise on the last layer alone, each with both signs; they cost next to nothing."""
    tolerance_steps: tuple[int, ...] = (100, 300, 500)
    """Steps t at which the noise's law is moved and features are linearised; () for none."""
    tolerance_images: int = 32
    """Held-out images there."""
    tolerance_levels: tuple[float, ...] = (0.01, 0.05, 0.25, 1.25, 6.25, 31.25)
    """Divergences of the noise's law, in nats, at which the loss is measured."""
    points: int = 1
    """Points at each t about which features are linearised, at as many passes in float64 as an image has numbers; 0
    for none."""
    snapshots: int = 5
    """Snapshots measured of each run, evenly spaced to its end; 0 for none."""

    def __post_init__(self) -> None:
        """Check all fields."""
        for name in ("layer_images", "whole_draws", "readout_draws", "tolerance_images"):
            arguments.count(name, getattr(self, name), at_least=2)
        for name in ("points", "snapshots"):
            arguments.count(name, getattr(self, name))
        if self.points > self.tolerance_images:
            raise arguments.refuse("points", self.points, f"at most tolerance_images, {self.tolerance_images}")
        for step in self.tolerance_steps:
            arguments.count("tolerance_steps", step)
        if len(set(self.tolerance_steps)) != len(self.tolerance_steps):
            raise arguments.refuse("tolerance_steps", self.tolerance_steps, "each step once")
        levels = [arguments.number("tolerance_levels", level, above=0.0) for level in self.tolerance_levels]
        if not levels or levels != sorted(set(levels)):
            raise arguments.refuse("tolerance_levels", self.tolerance_levels, "rising numbers, at least one")

    def passes(self, layers: int, numbers: int) -> int:
        """Of one image through the network, for a row.

        Args:
            layers: of the network.
            numbers: that an image consists of.
        """
        whole = 3 * self.layer_images * (2 * self.whole_draws + 1)
        single = self.layer_images * (4 * layers + 1) + 4 * (2 * layers + 1) + 3 * self.layer_images
        at_step = self.tolerance_images * (4 * len(self.tolerance_levels) + 2) + self.points * (numbers + 2)
        return whole + single + len(self.tolerance_steps) * at_step
