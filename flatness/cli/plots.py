"""Figures of one network or of several beside each other, as PNG; matplotlib is loaded here alone."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from flatness.cli.runner import Measured
from flatness.cli.tasks import Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def available() -> bool:
    """Whether matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def figure(found: Sequence[Measured]) -> bytes | None:
    """Rises, perturbation curves and exposure bias of the networks, as a PNG file; None where there are none."""
    panels: list[Callable[..., bool]] = [panel for panel in (_rises, _curves, _exposure) if panel(None, found)]
    panels += [functools.partial(_surface, index=index) for index, one in enumerate(found) if "surface" in one.outcomes]
    if not panels:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(4.2 * len(panels), 3.4), dpi=150, layout="constrained")
    FigureCanvasAgg(drawing)
    for index, panel in enumerate(panels):
        panel(drawing.add_subplot(1, len(panels), index + 1), found)
    if drawing.axes[0].get_legend_handles_labels()[0]:
        drawing.axes[0].legend(fontsize=8)
    stream = io.BytesIO()
    drawing.savefig(stream, format="png")
    return stream.getvalue()


def _rises(axes: Axes | None, found: Sequence[Measured]) -> bool:
    ticks = {name: quantity.tick for name, quantity in found[0].quantities.items() if quantity.tick}
    names = list(ticks)
    if axes is None:
        return bool(names)
    for index, one in enumerate(found):
        there = [(x, one.quantities[name].found) for x, name in enumerate(names) if name in one.quantities]
        shift = 0.12 * (index - (len(found) - 1) / 2)
        axes.errorbar(
            [x + shift for x, _ in there], [f.value for _, f in there], [_length(f.half_width) for _, f in there],
            fmt="o", markersize=4, capsize=2, label=one.label,
        )  # fmt: skip
    axes.set_xticks(range(len(names)), list(ticks.values()))
    axes.tick_params(axis="x", labelsize=7)
    every = [one.quantities[name].found.value for one in found for name in names if name in one.quantities]
    if min(every) > 0:
        axes.set_yscale("log")
    axes.set_ylabel("rise of the loss (95%)")
    return True


def _length(half_width: float) -> float:
    return half_width if math.isfinite(half_width) else 0.0


def _curves(axes: Axes | None, found: Sequence[Measured]) -> bool:
    curves = [(one.label, _curve(one)) for one in found]
    if axes is None:
        return any(curve for _, curve in curves)
    for label, curve in curves:
        x, y = [q.x for q in curve], [q.found.value for q in curve]
        half = [_length(q.found.half_width) for q in curve]
        axes.errorbar(x, y, half, fmt="o-", markersize=3, capsize=2, label=label)  # type: ignore[arg-type]
    axes.set_xscale("log")
    places = [quantity.x for quantity in curves[0][1]]
    axes.set_xticks(places, [f"{x:g}" for x in places], minor=False)  # type: ignore[arg-type]
    axes.set_xticks([], minor=True)
    axes.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
    axes.set_xlabel("distance: rms change of a weight")
    axes.set_ylabel("rise of the loss (95%)")
    return True


def _curve(one: Measured) -> list[Quantity]:
    return [quantity for quantity in one.quantities.values() if quantity.x is not None]


def _surface(axes: Axes | None, found: Sequence[Measured], index: int = 0) -> bool:
    """The rise over the plane of two directions, one network's a panel."""
    assert axes is not None
    result = found[index].outcomes["surface"].result
    rises = [[point["value"] for point in row] for row in result["rises"]]
    drawn = axes.contourf(result["second"], result["first"], rises, levels=12)
    axes.figure.colorbar(drawn, ax=axes, label="rise of the loss")
    axes.plot(0, 0, "k+")
    axes.set_title(found[index].label, fontsize=9)
    axes.set_xlabel("along the second direction")
    axes.set_ylabel("along the first direction")
    return True


def _exposure(axes: Axes | None, found: Sequence[Measured]) -> bool:
    """The gap step by step, of the largest T' that all networks have."""
    steps = {name: one.sampling_steps for name, one in found[0].outcomes.items() if one.sampling_steps is not None}
    steps = {name: count for name, count in steps.items() if all(name in one.outcomes for one in found)}
    if axes is None:
        return bool(steps)
    name = max(steps, key=steps.__getitem__)
    for one in found:
        result: dict[str, Any] = one.outcomes[name].result
        gaps = [gap["value"] for gap in result["gap"]]
        errors = [1.96 * (gap["data_standard_error"] or 0.0) for gap in result["gap"]]
        axes.errorbar(result["steps"], gaps, errors, fmt=".-", linewidth=0.8, capsize=1, label=one.label)
    axes.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
    axes.set_xlabel("timestep")
    axes.set_ylabel(f"gap of the noise's norm, T' = {steps[name]}")
    return True
