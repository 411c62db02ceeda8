"""Table 3 at toy size: LPF rise and raw LPF of the nine methods, beside the paper's LPF on CIFAR-10.

Toy study, learnt features: the loss under noise of deviation .02 on all weights (raw LPF), and its rise over the loss
without noise; means over seeds with Student's t intervals. The paper prints one number a method and no spread.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from paper_figs import style, toy_results

INPUTS = ("results/toy.json", "paper_figs/paper_numbers.json")


def compute() -> dict[str, Any]:
    """The toy study's numbers and the paper's, by method."""
    results, printed = toy_results.load(), toy_results.paper()["lpf"]
    data: dict[str, Any] = {"face": toy_results.face(results)}
    for name in ("lpf_rise", "lpf"):
        data[name] = {method: toy_results.number(results, f"learnt/{method}", name) for method in toy_results.METHODS}
    return {**data, "paper": {"source": printed["source"], "lpf": printed["cifar10"]}}


def draw(data: dict[str, Any]) -> Figure:
    """Three panels of nine methods: rise, raw value, paper."""
    figure = style.figure(2.7)
    rise, raw, paper = figure.subplots(1, 3)
    for base in toy_results.BASES:
        toy_results.by_method(rise, data["lpf_rise"], base, label=toy_results.NAMES[base])
        toy_results.by_method(raw, data["lpf"], base)
        points = {method: {"mean": x, "low": x, "high": x} for method, x in data["paper"]["lpf"].items()}
        toy_results.by_method(paper, points, base, markerfacecolor="white")
    for axes in (rise, raw, paper):
        toy_results.method_axis(axes, named=axes is rise)
        axes.xaxis.set_major_locator(MaxNLocator(2))
    rise.set_xlim(left=0)
    paper.set_xlim(0.05, 0.11)
    for axes, label, where in (
        (rise, "LPF rise", toy_results.short(data["face"])),
        (raw, "raw LPF", toy_results.short(data["face"])),
        (paper, "LPF as printed", f"paper, {data['paper']['source']}\nCIFAR-10\nseeds not given"),
    ):
        axes.set_xlabel(label)
        axes.set_title(where.replace(", ", ",\n") if axes is not paper else where, fontsize=7, pad=3)
    figure.legend(*rise.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(f"Bars: {data['face']['level']:.0%} intervals over seeds; open: the paper, no spread", fontsize=7)
    return figure
