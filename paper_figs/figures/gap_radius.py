"""Theorem T4: the distribution gap that costs a loss rise of kappa, against kappa, for models of any flatness.

Left: the least KL(p || p_hat_delta) over admissible, normalisable delta with loss rise J(delta) = kappa. The line is
the theorem's formula; the points are minima found by descending from random starts, which knows nothing of it, for
models whose flat radius Delta_kappa spans orders of magnitude (linear activation; W and b normal, times a scale).
Right: at three kappa, the same against that flat radius: the gap does not change with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from paper_figs.drawing import panels, style
from theory.claims.theorem_t4_robust_radius import HOLDS
from theory.model.brute_force import least_divergence
from theory.model.divergences import DIVERGENCES
from theory.model.perturbations import flat_radius, gap_radius
from theory.model.random_features import feature_second_moment
from theory.proof.notation import latex

MODELS = ((2, 4, 100.0, 0.0), (3, 8, 10.0, 0.3), (4, 6, 1.0, 1.0), (2, 16, 0.1, 3.0), (6, 8, 0.01, 1.0))
"""(d, m, scale, size of b): W = scale * normal, b = scale * size * normal; each its own seed, its place here."""
LOWEST, HIGHEST = 1e-3, 1e3
POINTS = 4
"""Values of kappa a model on the left, the models' values interleaved so that no point hides another."""
SHOWN = (1e-2, 1.0, 1e2)
"""Values of kappa on the right."""
STARTS = 8
AGREES = 0.01
"""How far a minimum that was found may lie from the formula, to be called the same."""


def _model(seed: int) -> dict[str, Any]:
    d, m, scale, size = MODELS[seed]
    rng = np.random.default_rng(seed)
    W = scale * rng.standard_normal((d, m))
    b = scale * size * rng.standard_normal(m)
    G = feature_second_moment(W, b, "linear")
    interleaved = np.geomspace(LOWEST, HIGHEST, POINTS * len(MODELS))[seed :: len(MODELS)]
    kappas = [float(kappa) for kappa in (*interleaved, *SHOWN)]
    return {
        "d": d,
        "m": m,
        "scale": scale,
        "size_of_b": size,
        "seed": seed,
        "kappa": kappas,
        "flat_radius": [flat_radius(G, kappa) for kappa in kappas],
        "gap_found": [least_divergence(W, b, kappa, DIVERGENCES["kl"], STARTS, seed) for kappa in kappas],
    }


def title(models: list[dict[str, Any]]) -> str:
    """Over how many orders of magnitude of flatness the tolerated gap is the theorem's."""
    radii = [model["flat_radius"][-1] for model in models]
    orders = np.log10(max(radii) / min(radii))
    off = max(
        abs(gap / gap_radius(kappa) - 1)
        for model in models
        for kappa, gap in zip(model["kappa"], model["gap_found"], strict=True)
    )
    if off < AGREES:
        return f"The shift of the data that a model tolerates is the same over {orders:.0f} orders of flatness"
    return f"The shift that a model tolerates is the theorem's within {off:.0%}"


def compute() -> dict[str, Any]:
    """The formula's curve, and for each model its flat radii and the minima found; the last of each are at SHOWN."""
    line = [float(kappa) for kappa in np.geomspace(LOWEST / 2, 2 * HIGHEST, 121)]
    models = [_model(seed) for seed in range(len(MODELS))]
    return {
        "title": title(models),
        "formula": latex(HOLDS.rhs),
        "line": {"kappa": line, "gap": [gap_radius(kappa) for kappa in line]},
        "shown": {"kappa": list(SHOWN), "gap": [gap_radius(kappa) for kappa in SHOWN]},
        "models": models,
    }


def draw(data: dict[str, Any]) -> Figure:
    """The curve with every model's points on the left, the points at three kappa against flatness on the right."""
    figure = style.figure(2.85)
    panels.headline(figure, data["title"])
    left, right = figure.subplots(1, 2, sharey=True)
    shown = len(data["shown"]["kappa"])
    left.loglog(data["line"]["kappa"], data["line"]["gap"], **style.ROLES["exact"])
    left.annotate(style.formula(data["formula"]), (0.04, 0.95), xycoords="axes fraction", va="top", fontsize=7)
    right.set_xscale("log")
    for kappa, gap in zip(data["shown"]["kappa"], data["shown"]["gap"], strict=True):
        right.axhline(gap, **style.ROLES["exact"])
        place = {"xycoords": ("axes fraction", "data"), "xytext": (0, 4), "textcoords": "offset points"}
        right.annotate(f"$\\kappa = {kappa:g}$", (0.04, gap), fontsize=7, **place)
    for model, look in zip(data["models"], style.SERIES, strict=False):
        points = {**look, "linestyle": "none", "markeredgecolor": style.BLACK, "markeredgewidth": 0.4}
        label = f"{model['scale']:g}"
        left.plot(model["kappa"][:-shown], model["gap_found"][:-shown], label=label, **points)
        right.plot(model["flat_radius"][-shown:], model["gap_found"][-shown:], **points)
    left.set_xlabel(r"loss rise $\kappa$")
    left.set_ylabel(r"least KL$(p\,\|\,\hat{p}_\delta)$ (nats)")
    right.set_xlabel(r"flat radius $\Delta_\kappa$")
    for axes, ticks in ((left, 3), (right, 4)):
        axes.xaxis.set_major_locator(LogLocator(numticks=ticks))
        axes.xaxis.set_minor_formatter(NullFormatter())
    figure.legend(
        title="least divergence found, $W$ and $b$ of scale",
        loc="outside lower center",
        ncols=5,
        columnspacing=1.0,
        handletextpad=0.1,
    )
    return figure
