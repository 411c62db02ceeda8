"""Table 2 at toy size: how far samples are from the data, at 20 and 100 sampling steps, beside the paper's FID.

Toy study, learnt features: sliced 2-Wasserstein distance between samples and fresh data, with the distance between two
samples of the data as the floor; means over seeds with Student's t intervals. The paper's FID on CIFAR-10 is one number
each, no spread.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from paper_figs import style, toy_results

INPUTS = ("results/toy.json", "paper_figs/paper_numbers.json")

STEPS = ("20", "100")
SHIFTS = {"20": -0.18, "100": 0.18}
FACES: dict[str, dict[str, Any]] = {"20": {}, "100": {"markerfacecolor": "white"}}


def compute() -> dict[str, Any]:
    """The toy study's distances, its floor, and the paper's FID, by sampling steps and method."""
    results, printed = toy_results.load(), toy_results.paper()["fid"]
    distances = {
        steps: {
            method: toy_results.number(results, f"learnt/{method}", f"sw_{steps}") for method in toy_results.METHODS
        }
        for steps in STEPS
    }
    return {
        "face": toy_results.face(results),
        "distance": distances,
        "floor": results["distance_floor"],
        "paper": {"source": printed["source"], "fid": printed["cifar10"]},
    }


def draw(data: dict[str, Any]) -> Figure:
    """Toy distances on the left, the paper's FID on the right; filled markers 20 steps, open ones 100."""
    figure = style.figure(3.1)
    toy, paper = figure.subplots(1, 2)
    toy.axvspan(data["floor"]["low"], data["floor"]["high"], color=style.GREY, alpha=0.3, linewidth=0)
    toy.axvline(data["floor"]["mean"], **style.ROLES["unperturbed"])
    for steps in STEPS:
        for base in toy_results.BASES:
            toy_results.by_method(toy, data["distance"][steps], base, SHIFTS[steps], **FACES[steps])
            points = {name: {"mean": x, "low": x, "high": x} for name, x in data["paper"]["fid"][steps].items()}
            toy_results.by_method(paper, points, base, SHIFTS[steps], **FACES[steps])
    toy_results.method_axis(toy, named=True)
    toy_results.method_axis(paper, named=False)
    paper.set_xscale("log")
    paper.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    paper.xaxis.set_major_formatter("{x:g}")
    paper.xaxis.set_minor_formatter(NullFormatter())
    toy.set_xlim(left=0)
    toy.xaxis.set_major_locator(MaxNLocator(4))
    toy.set_xlabel("sliced $W_2$ to the data")
    paper.set_xlabel("FID as printed")
    toy.set_title(f"{toy_results.short(data['face'])},\n{data['face']['level']:.0%} intervals", fontsize=7, pad=3)
    paper.set_title(f"paper, {data['paper']['source']}, CIFAR-10,\nseeds not given", fontsize=7, pad=3)
    handles: dict[str, Any] = {
        f"$T' = {steps}$": Line2D([], [], color=style.BLACK, marker="o", linestyle="none", **FACES[steps])
        for steps in STEPS
    }
    handles["two samples of the data"] = Line2D([], [], **style.ROLES["unperturbed"])
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3, columnspacing=1.0)
    return figure
