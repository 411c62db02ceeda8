"""Eq. (18), printed and corrected, against the exact worst case (Theorem T2), over Delta |W|_op / m.

Left: the divergences. Right: the same, divided by the exact worst case. One row a model (W, b); linear activation,
Frobenius ball |delta| <= Delta. The curves:

exact: the largest KL(p || p_hat_delta) over admissible delta of the ball, `worst_case_divergence`.
brute force: the largest found by climbing from random starts, which knows nothing of T2.
corrected: the largest value over the ball of Corollary 3.9's corrected right side, an upper bound.
printed: the largest value over the ball of the right side as printed, which is the most that it can be read to say.
printed at the worst delta: the right side as printed at the delta that attains the exact worst case.
bracket: T2's two-sided bound, eta^2 Lam / 2 and eta^2 Lam / (2 (1 - rho)), Lam = lambda_max(W^T W / 2 + b b^T).

The right sides of (18) depend on delta through the eigenvalues 1 + tau_i of I + A, and spectra are attainable within
the ball exactly where sum_i (tau_(i) / s_i)^2 <= eta^2, |tau_(1)| >= |tau_(2)| >= ... beside s_1 >= s_2 >= ...: the
least |delta / m| with A = sum tau_i u_i u_i^T is tr(A^2 (W W^T)^-1)^(1/2), smallest where the largest |tau| lies along
the top left singular vector. What remains is in `largest_printed` and `largest_corrected`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter
from numpy import ndarray

from paper_figs.drawing import panels, style
from theory.claims.corollary_3_9_gaussian_gap import CORRECTED_BOUND, PRINTED_BOUND, numeric_bound
from theory.model import perturbations
from theory.model.brute_force import largest_divergence
from theory.model.divergences import DIVERGENCES
from theory.model.worst_case import worst_case_divergence
from theory.proof.notation import latex

RATIOS = np.linspace(0.02, 0.98, 97)
DOTS = RATIOS[8::11]
ANGLES = 4001

MEANING = {
    "exact": "max over the Frobenius ball of KL(p || p_hat_delta), Theorem T2",
    "brute_force": "the largest KL(p || p_hat_delta) found by climbing from random starts, at rho_brute_force",
    "corrected": "max over the ball of the corrected right side of Eq. (18), 1/sigma_1 in place of sigma_d",
    "printed": "max over the ball of the right side of Eq. (18) as printed",
    "printed_at_worst": "the right side of Eq. (18) as printed, at the delta that attains the exact worst case",
    "lower": "eta^2 Lam / 2, Lam = lambda_max(W^T W / 2 + b b^T), Theorem T2",
    "upper": "eta^2 Lam / (2 (1 - rho)), Theorem T2",
}


def models() -> list[tuple[str, ndarray, ndarray]]:
    """The models shown, (name, W, b): the smallest one, and two random ones with their seeds."""
    several = [("$d = m = W = b = 1$", np.ones((1, 1)), np.ones(1))]
    for d, m, scale, seed in ((2, 3, 1.0, 3), (8, 32, 2.0, 1)):
        rng = np.random.default_rng(seed)
        several.append(
            (f"$d = {d}$, $m = {m}$, seed {seed}", rng.standard_normal((d, m)), scale * rng.standard_normal(m))
        )
    return several


def _evaluated(bound: sympy.Expr, tau: ndarray, b: ndarray, radius: float) -> ndarray:
    """A right side of Eq. (18) at eigenvalues tau of A, (d, ...) rising along the first axis."""
    counted_from_1 = np.concatenate([np.full_like(tau[:1], np.nan), 1 + tau])
    return np.asarray(numeric_bound(bound)(counted_from_1, len(tau), b.size, radius, b @ b))


def largest_printed(W: ndarray, b: ndarray, radius: float) -> float:
    """The largest value over the Frobenius ball of the right side of Eq. (18) as printed.

    It is, but for factors, sum h+(tau_i) + B tau_d with B > 0. At a given tau_d >= 0 what is left, over negative tau_i,
    is convex in the tau_i^2, and the constraint linear in them: all lies in a single tau_1 = -t. (A largest eigenvalue
    below 0 never pays for d > 1, as -sqrt is convex too.) So tau = (-t, 0, ..., 0, a) on the arc
    (t, a) = eta (s_p cos phi, s_q sin phi), {p, q} = {1, 2}: a search over phi. For d = 1 the right side is convex in
    tau, and one of the ends +-rho is best.
    """
    d, m = W.shape
    s = np.zeros(max(d, 2))
    singular = np.linalg.svd(W, compute_uv=False)
    s[: singular.size] = singular
    if d == 1:
        return float(_evaluated(PRINTED_BOUND, np.array([[-1.0, 1.0]]) * radius / m * s[0], b, radius).max())
    best = -np.inf
    for negative, positive in ((s[0], s[1]), (s[1], s[0])):
        low, high = 0.0, np.pi / 2
        for _ in range(2):  # the second grid lies around the best of the first: 1e-7 of the range, at a flat maximum
            phi = np.linspace(low, high, ANGLES)
            tau = np.zeros((d, ANGLES))
            tau[0], tau[-1] = -radius / m * negative * np.cos(phi), radius / m * positive * np.sin(phi)
            values = _evaluated(PRINTED_BOUND, tau, b, radius)
            step, centre = phi[1] - phi[0], phi[values.argmax()]
            low, high = max(0.0, centre - step), min(np.pi / 2, centre + step)
            best = max(best, float(values.max()))
    return best


def largest_corrected(W: ndarray, b: ndarray, radius: float) -> float:
    """The largest value over the Frobenius ball of the corrected right side, [h(rho) + eta^2 |b|^2 / (1 - rho)] / 2.

    Both of its parts are largest at delta = -Delta u_1 v_1^T: the first by T2 with b = 0, the second because no
    eigenvalue of A lies below -rho.
    """
    d, m = W.shape
    tau = np.zeros(d)
    tau[0] = -radius / m * np.linalg.norm(W, 2)
    return float(_evaluated(CORRECTED_BOUND, tau, b, radius))


def _curves(W: ndarray, b: ndarray) -> dict[str, Any]:
    m = W.shape[1]
    norm = float(np.linalg.norm(W, 2))
    Lam = float(np.linalg.eigvalsh(W.T @ W / 2 + np.outer(b, b))[-1])
    curves: dict[str, list[float]] = {name: [] for name in MEANING}
    for ratio in RATIOS:
        radius = float(ratio * m / norm)
        worst = worst_case_divergence(W, b, radius)
        tau = perturbations.spectrum(worst.perturbation, W, b).tau
        curves["exact"].append(worst.value)
        curves["corrected"].append(largest_corrected(W, b, radius))
        curves["printed"].append(largest_printed(W, b, radius))
        curves["printed_at_worst"].append(float(_evaluated(PRINTED_BOUND, tau, b, radius)))
        lower = (radius / m) ** 2 * Lam / 2
        curves["lower"].append(lower)
        curves["upper"].append(float(lower / (1 - ratio)))
    for ratio in DOTS:
        largest = largest_divergence(W, b, float(ratio * m / norm), DIVERGENCES["kl"], starts=12)
        curves["brute_force"].append(largest)
    return {"rho": RATIOS.tolist(), "rho_brute_force": DOTS.tolist(), **curves}


def title(curves: list[dict[str, Any]]) -> str:
    """Whether the bound as printed is one."""
    below = [model["name"] for model in curves if (np.array(model["printed"]) < np.array(model["exact"])).any()]
    if len(below) == len(curves):
        return "The printed bound (dash-dotted) falls below the exact worst case (solid) that it is to bound"
    return f"The printed bound falls below the exact worst case in {len(below)} of {len(curves)} models"


def compute() -> dict[str, Any]:
    """The curves of every model, the models themselves, what each curve is, and both right sides as formulas."""
    curves = [{"name": name, "W": W.tolist(), "b": b.tolist(), **_curves(W, b)} for name, W, b in models()]
    return {
        "title": title(curves),
        "curves": MEANING,
        "rho": "Delta |W|_op / m",
        "formulas": {"printed": latex(PRINTED_BOUND), "corrected": latex(CORRECTED_BOUND)},
        "models": curves,
    }


def draw(data: dict[str, Any]) -> Figure:
    """One row a model, divergences on the left, ratios to the exact worst case on the right."""
    figure = style.figure(5.2)
    panels.headline(figure, data["title"])
    grid = figure.subplots(len(data["models"]), 2, sharex=True)
    for (left, right), model in zip(grid, data["models"], strict=True):
        exact = np.array(model["exact"])
        at_dots = np.interp(model["rho_brute_force"], model["rho"], exact)
        for axes, unit, dots in ((left, 1.0, 1.0), (right, exact, at_dots)):
            axes.fill_between(
                model["rho"], np.array(model["lower"]) / unit, np.array(model["upper"]) / unit, **style.ROLES["bracket"]
            )
            for name, role in (("printed_at_worst", "printed, pointwise"), ("printed", "printed")):
                axes.plot(model["rho"], np.array(model[name]) / unit, **style.ROLES[role])
            axes.plot(model["rho"], exact / unit, **style.ROLES["exact"])
            axes.plot(model["rho"], np.array(model["corrected"]) / unit, **style.ROLES["corrected"])
            axes.plot(model["rho_brute_force"], np.array(model["brute_force"]) / dots, **style.ROLES["brute force"])
            axes.set_xlim(0, 1)
            axes.xaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
            axes.xaxis.set_minor_locator(FixedLocator([0.25, 0.75]))
        left.set_yscale("log")
        left.set_ylim(min(exact) / 1.5, max(model["corrected"]) * 2)
        left.yaxis.set_major_locator(LogLocator(numticks=5))
        left.yaxis.set_minor_formatter(NullFormatter())
        left.set_ylabel("KL (nats)")
        right.set_ylim(0, 3)
        style.name_panel(left, model["name"])
    style.name_panel(grid[0, 1], "ratio to the exact")
    for axes in grid[-1]:
        axes.set_xlabel(r"$\Delta\,\left\|W\right\|_\mathrm{op}\,/\,m$")
    figure.legend(handles=_legend(data["formulas"]), loc="outside lower left", handlelength=2.6)
    return figure


def _legend(formulas: dict[str, str]) -> list[Line2D | Patch]:
    def line(role: str, label: str) -> Line2D:
        return Line2D([], [], label=label, **style.ROLES[role])

    return [
        line("exact", "exact worst case (T2)"),
        line("brute force", "brute force"),
        line("corrected", f"(18) corrected, max over ball of {style.formula(formulas['corrected'])}"),
        line("printed", f"(18) as printed, max over ball of {style.formula(formulas['printed'])}"),
        line("printed, pointwise", "(18) as printed, at the worst $\\delta$"),
        Patch(label="two-sided bound of T2", **style.ROLES["bracket"]),
    ]
