"""Where Eq. (18) fails: the share of random instances in which the divergence exceeds the right side as printed.

An instance is a model (W, b), linear activation, with standard normal W, |b| from small to large, and a ball of radius
Delta = rho m / |W|_op, rho uniform. In it, two questions about a delta on the ball's edge, and one about the ball:

random: KL(p || p_hat_delta) against the right side at the same delta, a normal one made admissible.
worst: the same at the worst delta of the ball (Theorem T2).
ball: the largest divergence over the ball against the largest right side over the ball, the weakest reading.

Left: the first, against sigma_1 sigma_d, the extreme eigenvalues of Sigma_delta^-1; Corollary 3.9's module proves that
there is no failure where the product is at least 1 (the count includes those beyond the axis). Right: all three,
against rho. Bars are exact binomial (Clopper-Pearson) intervals of 95%, bin by bin.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MultipleLocator, PercentFormatter
from numpy import ndarray
from scipy import stats

from paper_figs.drawing import panels, style
from paper_figs.figures.bound import largest_printed
from theory.claims.corollary_3_9_gaussian_gap import PRINTED_BOUND, numeric_bound
from theory.model import perturbations
from theory.model.worst_case import worst_case_divergence

INSTANCES, SEED = 3000, 0
LARGEST_D, LARGEST_M = 6, 12
PRODUCTS = np.linspace(0, 1.6, 17)
RATIOS = np.linspace(0, 1, 11)
CONFIDENCE = 0.95
SLACK = 1e-10
"""Relative excess from which on the bound counts as exceeded: rounding, eps / (1 - rho)^2 with 1 - rho >= 0.01."""


def _at(delta: ndarray, W: ndarray, b: ndarray) -> tuple[float, bool]:
    """(sigma_1 sigma_d, whether the divergence exceeds the right side) at one delta, Delta = |delta|."""
    sigma = 1 + perturbations.spectrum(delta, W, b).tau
    counted_from_1 = np.concatenate([[np.nan], sigma])
    right = numeric_bound(PRINTED_BOUND)(counted_from_1, *W.shape, np.linalg.norm(delta), b @ b)
    left = perturbations.perturbation_divergence(delta, W, b)
    return float(sigma[0] * sigma[-1]), bool(left > right * (1 + SLACK))


def instance(seed: int) -> dict[str, Any]:
    """One random instance and its three answers."""
    rng = np.random.default_rng((SEED, seed))
    d, m = int(rng.integers(1, LARGEST_D + 1)), int(rng.integers(1, LARGEST_M + 1))
    W = rng.standard_normal((d, m))
    b = rng.standard_normal(m) * 10 ** rng.uniform(-1, 1)
    rho = float(rng.uniform(0.01, 0.99))
    radius = float(rho * m / np.linalg.norm(W, 2))
    delta = perturbations.project_admissible(rng.standard_normal((d, m)), W)
    product, random = _at(radius * delta / np.linalg.norm(delta), W, b)
    worst = worst_case_divergence(W, b, radius)
    _, at_worst = _at(worst.perturbation, W, b)
    over_ball = bool(worst.value > largest_printed(W, b, radius) * (1 + SLACK))
    return {"rho": rho, "product": product, "random": random, "worst": at_worst, "ball": over_ball}


def shares(values: ndarray, failed: ndarray, edges: ndarray) -> dict[str, list[Any]]:
    """For each bin: its edges, its number of instances, the share of failures and a confidence interval for it."""
    place = np.digitize(values, edges) - 1
    bins: dict[str, list[Any]] = {name: [] for name in ("from", "to", "instances", "share", "low", "high")}
    for k in range(len(edges) - 1):
        number, hits = int((place == k).sum()), int(failed[place == k].sum())
        if number == 0:
            continue
        interval = stats.binomtest(hits, number).proportion_ci(CONFIDENCE, method="exact")
        row = (float(edges[k]), float(edges[k + 1]), number, hits / number, float(interval.low), float(interval.high))
        for name, value in zip(bins, row, strict=True):
            bins[name].append(value)
    return bins


def title(column: dict[str, ndarray]) -> str:
    """In what share of all instances the bound as printed fails, by each reading."""
    worst, ball = (column[name].mean() for name in ("worst", "ball"))
    return f"The printed bound fails in {worst:.0%} of models at the worst perturbation, in {ball:.0%} over the ball"


def compute() -> dict[str, Any]:
    """The shares bin by bin, and how the instances were drawn."""
    drawn = [instance(seed) for seed in range(INSTANCES)]
    column = {name: np.array([one[name] for one in drawn]) for name in drawn[0]}
    safe = column["product"] >= 1
    return {
        "title": title(column),
        "instances": INSTANCES,
        "seed": SEED,
        "drawn": f"d uniform on 1..{LARGEST_D}, m on 1..{LARGEST_M}; W standard normal; b normal of scale log-uniform "
        "in [0.1, 10]; rho = Delta |W|_op / m uniform in [0.01, 0.99]",
        "confidence": CONFIDENCE,
        "product_at_least_1": {"instances": int(safe.sum()), "failures": int(column["random"][safe].sum())},
        "against_product": {"random": shares(column["product"], column["random"], PRODUCTS)},
        "against_rho": {name: shares(column["rho"], column[name], RATIOS) for name in ("random", "worst", "ball")},
    }


def _bars(axes: Axes, shares: dict[str, list[float]], shift: float, **look: Any) -> None:
    middle = (np.array(shares["from"]) + np.array(shares["to"])) / 2 + shift
    share = np.array(shares["share"])
    spread = [share - np.array(shares["low"]), np.array(shares["high"]) - share]
    axes.errorbar(middle, share, spread, elinewidth=0.7, capsize=1.2, capthick=0.7, linewidth=0.9, **look)


LABELS = {"worst": "worst $\\delta$", "ball": "maxima over the ball", "random": "random $\\delta$"}


def draw(data: dict[str, Any]) -> Figure:
    """Shares against sigma_1 sigma_d on the left, against rho on the right."""
    figure = style.figure(2.5)
    panels.headline(figure, data["title"])
    left, right = figure.subplots(1, 2, sharey=True)
    looks = dict(zip(("random", "worst", "ball"), style.SERIES, strict=False))
    left.axvline(1, **style.ROLES["unperturbed"])
    _bars(left, data["against_product"]["random"], 0.0, **looks["random"])
    left.set_xlabel(r"$\sigma_1\,\sigma_d$")
    left.set_ylabel("(18) violated")
    left.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    left.xaxis.set_major_locator(MultipleLocator(0.5))
    left.set_xlim(0, PRODUCTS[-1])
    safe = data["product_at_least_1"]
    left.annotate(f"{safe['failures']} of\n{safe['instances']}", (1.3, 0.2), fontsize=7, ha="center", va="center")
    for shift, name in zip((-0.01, 0.0, 0.01), LABELS, strict=True):
        _bars(right, data["against_rho"][name], shift, label=LABELS[name], **looks[name])
    right.set_xlabel(r"$\rho = \Delta\,\left\|W\right\|_\mathrm{op}\,/\,m$")
    right.xaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
    right.set_xlim(0, 1)
    for axes in (left, right):
        axes.xaxis.set_major_formatter("{x:g}")
    right.set_ylim(-0.05, 1.05)
    figure.legend(loc="outside lower center", ncols=3, columnspacing=1.0, handlelength=2.2)
    return figure
