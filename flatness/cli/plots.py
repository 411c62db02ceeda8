"""Figures of one network or of several beside each other, as PNG; matplotlib is loaded here alone."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from flatness.cli.runner import Measured
from flatness.cli.statistics import student_quantile
from flatness.cli.tasks import Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes


IN_A_ROW = 4
"""Panels of a figure."""


def available() -> bool:
    """Whether matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def figure(networks: Sequence[Measured]) -> bytes | None:
    """What there is to draw of the networks, a panel each, as a PNG file; None where there is nothing."""
    every: tuple[Callable[..., bool], ...] = (_rises, _curves, _timesteps, _exposure, _density)
    panels = [panel for panel in every if panel(None, networks)]
    panels += [
        functools.partial(_surface, index=index) for index, one in enumerate(networks) if "surface" in one.outcomes
    ]
    if not panels:
        return None
    return drawn_panels([functools.partial(panel, networks=networks) for panel in panels])


def drawn_panels(panels: Sequence[Callable[[Axes], object]]) -> bytes:
    """Panels side by side, so many in a row, as a PNG file; a legend in the first that has one to show."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(len(panels), IN_A_ROW)
    rows = math.ceil(len(panels) / columns)
    drawing = Figure(figsize=(4.2 * columns, 3.4 * rows), dpi=150, layout="constrained")
    FigureCanvasAgg(drawing)
    for index, panel in enumerate(panels):
        panel(drawing.add_subplot(rows, columns, index + 1))
    first = next((axes for axes in drawing.axes if axes.get_legend_handles_labels()[0]), None)
    if first is not None:
        first.legend(fontsize=8)
    stream = io.BytesIO()
    drawing.savefig(stream, format="png")
    return stream.getvalue()


def _rises(axes: Axes | None, networks: Sequence[Measured]) -> bool:
    ticks = {name: quantity.tick for name, quantity in networks[0].quantities.items() if quantity.tick}
    names = list(ticks)
    if axes is None:
        return bool(names)
    for index, one in enumerate(networks):
        there = [(x, one.quantities[name].number) for x, name in enumerate(names) if name in one.quantities]
        shift = 0.12 * (index - (len(networks) - 1) / 2)
        axes.errorbar(
            [x + shift for x, _ in there], [f.value for _, f in there], [_length(f.half_width) for _, f in there],
            fmt="o", markersize=4, capsize=2, label=one.label,
        )  # fmt: skip
    axes.set_xticks(range(len(names)), list(ticks.values()))
    axes.tick_params(axis="x", labelsize=7)
    every = [one.quantities[name].number.value for one in networks for name in names if name in one.quantities]
    if min(every) > 0:
        axes.set_yscale("log")
    axes.set_ylabel("rise of the loss (95%)")
    return True


def _length(half_width: float) -> float:
    return half_width if math.isfinite(half_width) else 0.0


def _curves(axes: Axes | None, networks: Sequence[Measured]) -> bool:
    curves = [(one.label, _curve(one)) for one in networks]
    if axes is None:
        return any(curve for _, curve in curves)
    for label, curve in curves:
        x, y = [q.x for q in curve], [q.number.value for q in curve]
        half = [_length(q.number.half_width) for q in curve]
        axes.errorbar(x, y, half, fmt="o-", markersize=3, capsize=2, label=label)  # type: ignore[arg-type]
    axes.set_xscale("log")
    places = [quantity.x for quantity in curves[0][1]]
    axes.set_xticks(places, [f"{x:g}" for x in places], minor=False)  # type: ignore[arg-type]
    axes.set_xticks([], minor=True)
    axes.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
    axes.set_xlabel("distance: rms change of a weight")
    axes.set_ylabel("rise of the loss (95%)")
    return True


def _curve(one: Measured, measure: str = "curve") -> list[Quantity]:
    """A measure's numbers that lie on a curve."""
    outcome = one.outcomes.get(measure)
    return [] if outcome is None else [quantity for quantity in outcome.quantities if quantity.x is not None]


def _timesteps(axes: Axes | None, networks: Sequence[Measured]) -> bool:
    """The rise in bins of timesteps, from little noise to much."""
    there = [one for one in networks if "timesteps" in one.outcomes]
    if axes is None:
        return bool(there)
    for one in there:
        bins = _curve(one, "timesteps")
        x, y = [q.x for q in bins], [q.number.value for q in bins]
        half = [_length(q.number.half_width) for q in bins]
        axes.errorbar(x, y, half, fmt="o-", markersize=3, capsize=2, label=one.label)  # type: ignore[arg-type]
    places = [end for one in there for bin_ in one.outcomes["timesteps"].result["bins"] for end in bin_["times"]]
    if min(places) > 0 and max(places) > max(1.0, 1000 * min(places)):  # noise levels, as EDM's; not shares of noise
        axes.set_xscale("log")
    axes.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
    axes.set_xlabel("timestep")
    axes.set_ylabel("rise of the loss there (95%)")
    return True


def _density(axes: Axes | None, networks: Sequence[Measured]) -> bool:
    """How many eigenvalues of the Hessian lie where, with a band of 95% over probes."""
    there = [one for one in networks if "spectrum" in one.outcomes]
    if axes is None:
        return bool(there)
    for one in there:
        result = one.outcomes["spectrum"].result
        count, drawn = result["dimension"], result["drawn"]
        values = [count * point["value"] for point in drawn["density"]]
        probes = result["settings"]["probes"]
        quantile = student_quantile(probes - 1)
        half = [quantile * count * (point["draw_standard_error"] or 0.0) for point in drawn["density"]]
        # what one eigenvalue in a bump makes at its top: below it a logarithmic axis shows tails alone
        floor = 0.1 / (drawn["width"] * math.sqrt(2 * math.pi))
        (line,) = axes.plot(drawn["at"], [max(value, floor) for value in values], linewidth=1, label=one.label)
        low = [max(value - spread, floor) for value, spread in zip(values, half, strict=True)]
        high = [max(value + spread, floor) for value, spread in zip(values, half, strict=True)]
        axes.fill_between(drawn["at"], low, high, alpha=0.3, linewidth=0, color=line.get_color())
    axes.set_yscale("log")
    axes.set_xlabel("eigenvalue of the Hessian")
    axes.set_ylabel("eigenvalues per unit (95% over probes)")
    return True


def _surface(axes: Axes | None, networks: Sequence[Measured], index: int = 0) -> bool:
    """The rise over the plane of two directions, one network's a panel."""
    assert axes is not None
    result = networks[index].outcomes["surface"].result
    rises = [[point["value"] for point in row] for row in result["rises"]]
    drawn = axes.contourf(result["second"], result["first"], rises, levels=12)
    error = max((point["data_standard_error"] or 0.0 for row in result["rises"] for point in row), default=0.0)
    quantile = student_quantile(max(result["settings"]["samples"] - 1, 1))
    axes.figure.colorbar(drawn, ax=axes, label=f"rise of the loss (95%: ± {quantile * error:.2g} at most)")
    axes.plot(0, 0, "k+")
    axes.set_title(networks[index].label, fontsize=9)
    axes.set_xlabel("along the second direction")
    axes.set_ylabel("along the first direction")
    return True


def _exposure(axes: Axes | None, networks: Sequence[Measured]) -> bool:
    """The gap step by step, of the largest T' that all networks have."""
    steps = {name: one.sampling_steps for name, one in networks[0].outcomes.items() if one.sampling_steps is not None}
    steps = {name: count for name, count in steps.items() if all(name in one.outcomes for one in networks)}
    if axes is None:
        return bool(steps)
    name = max(steps, key=steps.__getitem__)
    for one in networks:
        result: dict[str, Any] = one.outcomes[name].result
        gaps = [gap["value"] for gap in result["gap"]]
        errors = [1.96 * (gap["data_standard_error"] or 0.0) for gap in result["gap"]]
        axes.errorbar(result["steps"], gaps, errors, fmt=".-", linewidth=0.8, capsize=1, label=one.label)
    axes.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
    axes.set_xlabel("timestep")
    axes.set_ylabel(f"gap of the noise's norm, T' = {steps[name]}")
    return True
