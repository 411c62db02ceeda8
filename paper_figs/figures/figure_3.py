"""Figure 3, computed: a ball of perturbations delta, and the Gaussians that they turn N(0, I) into, d = m = 2.

Left: a plane through the ball |delta| <= Delta of admissible perturbations (three-dimensional here), spanned by the
worst perturbation (Theorem T2) and the orthogonal direction along which the loss rises most; shaded by KL(p || p_hat).
Right: the ellipses of one standard deviation of p_hat_delta = N(-Sigma c, Sigma), Sigma = (I + delta W^T / m)^-1
(Corollary 3.4, its sign corrected), one for each point on the left and in its shade; thin grey ones are of points
spread over the whole ball, a sample of the set of Definition 3.6.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import ConnectionPatch, Ellipse
from matplotlib.ticker import FixedLocator
from numpy import ndarray
from scipy import linalg

from paper_figs.drawing import panels, style
from theory.model import perturbations
from theory.model.worst_case import worst_case_divergence

W = np.array([[1.0, 0.35], [-0.25, 0.7]])
B = np.array([0.5, 0.6])
RATIO = 0.65
"""rho = Delta |W|_op / m."""
SEED, SPREAD = 0, 60
GRID = 81
RING = 6
"""Perturbations shown on the ball's edge, evenly spaced; the first is the worst."""


LETTERS = "abcdefgh"
SHADES = colormaps["viridis_r"]


def _density(delta: ndarray) -> dict[str, Any]:
    gaussian = perturbations.perturbed_noise(delta, W, B)
    return {
        "delta": delta.tolist(),
        "mean": gaussian.mean.tolist(),
        "covariance": gaussian.covariance.tolist(),
        "kl": perturbations.perturbation_divergence(delta, W, B),
    }


def _plane(worst: ndarray) -> ndarray:
    """Two orthonormal admissible directions, (2, d, m): the worst perturbation's, and the steepest one across it."""
    basis = perturbations.admissible_basis(W)
    along = worst / linalg.norm(worst)
    coordinates = np.tensordot(basis, along, 2)
    images = np.concatenate([(basis @ W.T).reshape(len(basis), -1), basis @ B], axis=1)
    across = linalg.null_space(coordinates[None])
    _, vectors = linalg.eigh(across.T @ images @ images.T @ across)
    steepest = across @ vectors[:, -1]
    steepest *= np.sign(steepest[np.abs(steepest).argmax()])
    return np.stack([along, np.tensordot(steepest, basis, 1)])


def title(worst: float, others: list[dict[str, Any]]) -> str:
    """Whether the worst perturbation is the worst of those shown."""
    farthest = max(density["kl"] for density in others)
    if farthest <= worst * (1 + 1e-9):
        return "A ball of perturbations turns one Gaussian into many; the exact worst one (star) is known"
    return "A ball of perturbations turns one Gaussian into many"


def compute() -> dict[str, Any]:
    """The plane, the KL over it, and the Gaussians of the points shown; coordinates are in units of Delta."""
    m = W.shape[1]
    radius = float(RATIO * m / linalg.norm(W, 2))
    worst = worst_case_divergence(W, B, radius)
    plane = _plane(worst.perturbation)
    axis = np.linspace(-1, 1, GRID)
    heights = [
        [
            perturbations.perturbation_divergence(radius * (x * plane[0] + y * plane[1]), W, B)
            if x**2 + y**2 <= 1.1  # a little beyond the edge, so that contours reach it
            else None
            for x in axis
        ]
        for y in axis
    ]
    ring = []
    for angle in 2 * np.pi * np.arange(RING) / RING:
        place = (float(np.cos(angle)), float(np.sin(angle)))
        ring.append({"place": place, **_density(radius * (place[0] * plane[0] + place[1] * plane[1]))})
    rng = np.random.default_rng(SEED)
    basis = perturbations.admissible_basis(W)
    spread = []
    for _ in range(SPREAD):
        direction = rng.standard_normal(len(basis))
        size = radius * rng.uniform() ** (1 / len(basis)) / linalg.norm(direction)
        spread.append(_density(size * np.tensordot(direction, basis, 1)))
    return {
        "title": title(worst.value, [*ring, *spread]),
        "W": W.tolist(),
        "b": B.tolist(),
        "Delta": radius,
        "rho": RATIO,
        "seed": SEED,
        "plane": plane.tolist(),
        "axis": axis.tolist(),
        "kl": heights,
        "worst_kl": worst.value,
        "ring": ring,
        "spread": spread,
    }


def _ellipse(axes: Axes, density: dict[str, Any], **look: Any) -> None:
    """The points one standard deviation from the mean."""
    variances, vectors = np.linalg.eigh(np.array(density["covariance"]))
    width, height = 2 * np.sqrt(variances)
    angle = float(np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0])))
    axes.add_patch(Ellipse(density["mean"], width, height, angle=angle, fill=False, **look))


def _label_places(densities: list[dict[str, Any]]) -> list[ndarray]:
    """For each ellipse a point just outside it, where it stands out most from all the others."""
    angles = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    outward = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    images = [outward @ np.array(density["covariance"]) for density in densities]
    deviations = [np.sqrt((image * outward).sum(axis=1)) for image in images]
    reach = np.array([outward @ np.array(q["mean"]) + s for q, s in zip(densities, deviations, strict=True)])
    places = []
    for k, density in enumerate(densities):
        at = int((reach[k] - np.delete(reach, k, axis=0).max(axis=0)).argmax())
        places.append(np.array(density["mean"]) + images[k][at] / deviations[k][at] + 0.22 * outward[at])
    return places


def _ball(axes: Axes, data: dict[str, Any], norm: PowerNorm) -> ContourSet:
    """The KL over the plane, clipped to the ball, and the perturbations shown."""
    heights = np.array(data["kl"], dtype=float)
    levels = np.linspace(0, 1, 9) ** 2 * data["worst_kl"]
    shades = axes.contourf(data["axis"], data["axis"], heights, levels=levels, norm=norm, cmap=SHADES)
    circle = Ellipse((0, 0), 2, 2, fill=False, edgecolor=style.BLACK)
    axes.add_patch(circle)
    shades.set_clip_path(circle)
    axes.plot(0, 0, "+", color=style.BLACK, markersize=6)
    for letter, density in zip(LETTERS, data["ring"][1:], strict=False):
        x, y = density["place"]
        fill = shades.cmap(norm(density["kl"]))
        axes.plot(x, y, "o", markerfacecolor=fill, markeredgecolor=style.BLACK, markeredgewidth=0.4)
        axes.annotate(letter, (1.2 * x, 1.2 * y), fontsize=7, ha="center", va="center_baseline")
    axes.set_xlim(-1.3, 1.3)
    axes.set_ylim(-1.3, 1.3)
    for direction in (axes.xaxis, axes.yaxis):
        direction.set_major_locator(FixedLocator([-1, 0, 1]))
    axes.set_xlabel(r"$\delta\,/\,\Delta$, toward the worst")
    style.name_panel(axes, r"$\left\|\delta\right\| \leq \Delta$")
    return shades


def _densities(axes: Axes, data: dict[str, Any], norm: PowerNorm) -> list[Line2D]:
    """The ellipses; returns what a legend needs."""
    looks: dict[str, dict[str, Any]] = {
        r"$p = \mathcal{N}(0, I)$": {"color": style.BLACK, "linestyle": (0, (3, 1.5)), "linewidth": 1.2},
        r"worst $\hat{p}_\delta$": {"color": style.VERMILION, "linewidth": 1.8},
        r"$\hat{p}_\delta$ throughout the ball": {"color": "0.8", "linewidth": 0.4},
    }
    still, farthest, cloud = looks.values()
    for density in data["spread"]:
        _ellipse(axes, density, **cloud)
    for density in data["ring"][1:]:
        _ellipse(axes, density, color=SHADES(norm(density["kl"])), linewidth=1.1)
    _ellipse(axes, {"mean": [0, 0], "covariance": np.eye(2)}, **still)
    _ellipse(axes, data["ring"][0], **farthest)
    for letter, place in zip(LETTERS, _label_places(data["ring"])[1:], strict=False):
        axes.annotate(letter, place.tolist(), fontsize=7, ha="center", va="center_baseline")
    axes.set_xlim(-1.7, 3.1)
    axes.set_ylim(-2.2, 2.6)
    axes.xaxis.set_major_locator(FixedLocator([-1, 0, 1, 2, 3]))
    axes.yaxis.set_major_locator(FixedLocator([-2, -1, 0, 1, 2]))
    axes.set_xlabel("$x_1$")
    axes.set_ylabel("$x_2$", labelpad=-1)
    style.name_panel(axes, r"$\hat{p}_\delta = \mathcal{N}(\mu_\delta, \Sigma_\delta)$")
    return [Line2D([], [], label=label, **look) for label, look in looks.items()]


def draw(data: dict[str, Any]) -> Figure:
    """The ball on the left, the densities on the right, joined where they belong together."""
    figure = style.figure(2.9)
    panels.headline(figure, data["title"])
    left, right = figure.subplots(1, 2)
    norm = PowerNorm(0.5, 0, data["worst_kl"])
    shades = _ball(left, data, norm)
    handles = _densities(right, data, norm)
    worst = data["ring"][0]
    for axes, place in ((left, worst["place"]), (right, worst["mean"])):
        axes.set_aspect("equal")
        axes.plot(*place, "*", color=style.VERMILION, markersize=8, markeredgecolor="white")
    arrow: dict[str, Any] = {"arrowstyle": "->", "connectionstyle": "arc3,rad=0.4", "color": style.VERMILION}
    ends = (worst["place"], worst["mean"], "data", "data")
    figure.add_artist(ConnectionPatch(*ends, axesA=left, axesB=right, shrinkA=4, shrinkB=4, **arrow))
    label = r"$\mathrm{KL}(p\,\|\,\hat{p}_\delta)$ (nats)"
    bar = figure.colorbar(
        shades, ax=[left, right], location="bottom", label=label, aspect=40, ticks=list(shades.levels)[::2]
    )
    bar.ax.xaxis.set_major_formatter("{x:.2f}")
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1.2, handlelength=1.8)
    return figure
