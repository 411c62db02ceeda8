"""Theorem 3.3 with a real ReLU: the true perturbed density against the Gaussian that its formula gives.

delta_j = c_j w_j, so that delta W^T is symmetric, as the theorem asks, and delta sigma(W^T x + b) is a gradient for any
activation (Theorem T1). True: e^-I p normalised, grad I = delta ReLU(W^T x + b) / m. Printed: the same with the
potential of Eq. (12), as if ReLU were the identity (its factor 1/m from the Appendix), which is a Gaussian. p is
N(0, I). Left: d = m = W = delta = 1, b = 0. Right: d = 2, m = 3; shades are the true density's, lines the printed one's
at the same levels. KL stands for KL(p || p_hat) in nats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MultipleLocator
from numpy import ndarray

from paper_figs.drawing import panels, style
from theory.model import perturbations
from theory.model.gaussians import standard_normal
from theory.model.perturbed_density import perturbed_density

W = np.array([[1.2, -1.0, -0.2], [0.3, 0.9, -1.2]])
B = np.array([0.5, -0.3, 0.0])
C = np.array([3.0, 2.5, -0.8])
"""The model with d = 2, and delta_j = C_j w_j."""
LINE = np.linspace(-3.5, 3.5, 281)
GRID = np.linspace(-3, 3, 61)
LEVELS = (0.03, 0.08, 0.13, 0.18, 0.23)


def _densities(delta: ndarray, W: ndarray, b: ndarray, points: ndarray) -> dict[str, Any]:
    """Both densities at the points, (..., d), and their divergences from p."""
    true = perturbed_density(delta, W, b, activation="relu")
    printed = perturbations.perturbed_noise(delta, W, b)
    return {
        "W": W.tolist(),
        "b": b.tolist(),
        "delta": delta.tolist(),
        "true": np.exp(true.log_density(points)).tolist(),
        "printed": np.exp(printed.log_density(points)).tolist(),
        "kl_true": true.kl.value,
        "kl_true_error": true.kl.error,
        "kl_printed": perturbations.perturbation_divergence(delta, W, b),
    }


def title(cases: list[dict[str, Any]]) -> str:
    """Whether the divergences of both densities differ beyond the quadrature's error."""
    differ = all(abs(case["kl_true"] - case["kl_printed"]) > 10 * case["kl_true_error"] for case in cases)
    return f"With a real ReLU the perturbed density is {'not' if differ else 'within errors'} the printed Gaussian"


def compute() -> dict[str, Any]:
    """The densities on a line (d = 1) and on a square grid (d = 2, rows along x_2), and KL(p || .) of each."""
    one = np.ones((1, 1))
    p = np.exp(standard_normal(1).log_density(LINE[:, None]))
    square = np.stack(np.meshgrid(GRID, GRID), axis=-1)
    line = {"x": LINE.tolist(), "p": p.tolist(), **_densities(one, one, np.zeros(1), LINE[:, None])}
    plane = {"x": GRID.tolist(), "levels": list(LEVELS), **_densities(C * W, W, B, square)}
    return {
        "title": title([line, plane]),
        "activation": "relu",
        "line": line,
        "square": plane,
    }


def _name(axes: Axes, case: dict[str, Any]) -> None:
    d, m = len(case["W"]), len(case["b"])
    divergences = f"KL true {case['kl_true']:.3f}, printed {case['kl_printed']:.3f}"
    axes.set_title(f"$d = {d}$, $m = {m}$\n{divergences}", loc="left", pad=3, fontsize=7)
    axes.set_box_aspect(1)


def draw(data: dict[str, Any]) -> Figure:
    """Curves for d = 1 on the left, contours for d = 2 on the right."""
    figure = style.figure(2.5)
    panels.headline(figure, data["title"])
    left, right = figure.subplots(1, 2)
    line, square = data["line"], data["square"]
    for name, role in (("p", "unperturbed"), ("printed", "printed"), ("true", "exact")):
        left.plot(line["x"], line[name], **style.ROLES[role])
    left.set_xlim(-3.5, 3.5)
    left.set_ylim(0, 0.65)
    left.yaxis.set_major_locator(MultipleLocator(0.2))
    left.set_xlabel("$x$")
    left.set_ylabel("density")
    place, levels = (square["x"], square["x"]), square["levels"]
    # vmax beyond the levels keeps the shades light enough for the lines on them
    right.contourf(*place, square["true"], levels=levels, cmap="Greys", vmax=2 * levels[-1], extend="max")
    right.contour(*place, square["true"], levels=levels, colors=style.BLACK, linewidths=0.5)
    printed = style.ROLES["printed"]
    right.contour(
        *place,
        square["printed"],
        levels=levels,
        colors=printed["color"],
        linestyles=[printed["linestyle"]],
        linewidths=0.9,
    )
    for direction in (right.xaxis, right.yaxis):
        direction.set_major_locator(FixedLocator([-2, 0, 2]))
    right.set_xlabel("$x_1$")
    right.set_ylabel("$x_2$", labelpad=-1)
    for axes, case in ((left, line), (right, square)):
        _name(axes, case)
    handles = [
        Line2D([], [], label="true (ReLU)", **style.ROLES["exact"]),
        Line2D([], [], label="printed", **printed),
        Line2D([], [], label="$p$", **style.ROLES["unperturbed"]),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure
