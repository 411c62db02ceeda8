"""Table 4 at toy size: the loss rise when all weights are rounded to 8, 4 and 3 bits, beside the paper's FID change.

Toy study, learnt features: one symmetric grid a tensor; means over seeds with Student's t intervals. The paper's change
is its FID at 8 bits (Table 4) less that at full precision (Table 2), CIFAR-10, 20 sampling steps, four methods.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from paper_figs import style, toy_results

INPUTS = ("results/toy.json", "paper_figs/paper_numbers.json")

BITS = ("8", "4", "3")
STEPS = "20"
THOUSANDTHS = "8"
"""Bits whose rises are small enough to be shown in thousandths."""


def compute() -> dict[str, Any]:
    """The toy study's rises by bits and method, and the differences of the paper's printed FIDs."""
    results, printed = toy_results.load(), toy_results.paper()
    rises = {
        bits: {
            method: toy_results.number(results, f"learnt/{method}", f"quantized_rise_{bits}")
            for method in toy_results.METHODS
        }
        for bits in BITS
    }
    rounded, full = printed["fid_at_8_bits"], printed["fid"]
    changes = {
        method: round(value - full["cifar10"][STEPS][method], 2) for method, value in rounded["cifar10"][STEPS].items()
    }
    return {
        "face": toy_results.face(results),
        "rise": rises,
        "paper": {"source": f"{rounded['source']} less {full['source']}", "steps": STEPS, "change": changes},
    }


def draw(data: dict[str, Any]) -> Figure:
    """Three panels of the toy study, one of the paper."""
    figure = style.figure(4.3)
    grid = figure.subplots(2, 2)
    *toys, paper = grid.flat
    for axes, (bits, rises) in zip(toys, data["rise"].items(), strict=True):
        for base in toy_results.BASES:
            toy_results.by_method(axes, rises, base, label=toy_results.NAMES[base])
        axes.set_xlabel(f"rise at {bits} bits" + (", in $10^{-3}$" if bits == THOUSANDTHS else ""))
        axes.set_title(toy_results.short(data["face"]), fontsize=7, pad=3)
    points = {method: {"mean": x, "low": x, "high": x} for method, x in data["paper"]["change"].items()}
    for base in ("adm", "sam"):
        toy_results.by_method(paper, points, base, markerfacecolor="white")
    source, steps = data["paper"]["source"], data["paper"]["steps"]
    paper.set_xlabel("FID change, CIFAR-10")
    paper.set_title(f"paper, {source},\n8 bits, $T' = {steps}$,\nseeds not given", fontsize=7, pad=3)
    for axes in grid.flat:
        axes.axvline(0, zorder=0, **style.ROLES["unperturbed"])
        toy_results.method_axis(axes, named=axes in grid[:, 0])
        axes.xaxis.set_major_locator(MaxNLocator(3))
    toys[BITS.index(THOUSANDTHS)].xaxis.set_major_formatter(FuncFormatter(lambda rise, _: f"{1000 * rise:g}"))
    figure.legend(*toys[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(f"Rise of the loss, {data['face']['level']:.0%} intervals; open: the paper, no spread", fontsize=7)
    return figure
