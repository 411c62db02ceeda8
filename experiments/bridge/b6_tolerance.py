"""B6: the divergence of the noise's law that trained networks tolerate, against what the theory says of them.

kappa is a share of a network's own summed loss at that t, or of adm's where rows are compared at the same kappa. What
the theory's bounds need, the flat radius, is computed at the same kappa: the paper's Delta-flat minimum, repaired.

What does not fit, and has to be kept in mind with every verdict: the theory's activation is linear (T1: for any other
its perturbed densities are not what the bounds are of); the features' Jacobian changes with x, by as much as
`linearisation_error` says; the noise is not a function of x_t, so that no minimum has the theory's loss without a
linear part (`experiments.measures.noise_tolerance`); a delta that repeats a kernel is in general not admissible.

Along a law (`experiments.measures.noise_tolerance`) the loss starts at its own value. The tolerated divergence is the
smallest KL at which the mean rise over images reaches kappa; infinite where it does not within the levels measured.
`sampled` interpolates the measured rises, monotonically piece by piece, in the root of the divergence, in which the
laws' moments are about linear. `rescored` is computed from the residual's moments. With E|eps|^2 = d and E eps = 0,
which are known and so not estimated, at precision (1 + tau) I and mean u (1, ..., 1):

    rise = -2 tau E r.eps + 2 (1 + tau) u E r.1 + d (tau^2 + (1 + tau)^2 u^2)

and where the precision differs along the one direction e = (1, ..., 1) / sqrt(d) alone ("single"):

    rise = -2 tau E (r.e)(eps.e) + tau^2.

At r = 0 single+ is the least of Theorem T4, KL = (sqrt(kappa) - log(1 + sqrt(kappa))) / 2; a shift costs kappa / 2.
Resamples of the images give the scatter of whatever is computed from several laws or two rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.interpolate import PchipInterpolator

from experiments.bridge.b5_correlations import rank_correlation
from experiments.bridge.rows import INFINITE, By, Claim, Comparison, Entry, Rows
from experiments.measures.noise_tolerance import LAWS, Law
from findings.estimates import Cell
from flatness import arguments

Measured = Mapping[str, Any]
RESAMPLES = 200
SAMPLED = {law.name: law for law in LAWS}
RESCORED = SAMPLED | {law.name: law for law in (Law("single", 1), Law("single", -1))}
POINTS = 257
"""Between two levels, on which the interpolated rise is looked for."""


def resampled(images: int, resamples: int = RESAMPLES) -> Int[ndarray, "B n"]:
    """Places of the images in each resample, the first of which is the images themselves."""
    drawn = np.random.default_rng(0).integers(images, size=(arguments.count("resamples", resamples), images))
    return np.vstack([np.arange(images), drawn])


def loss(tolerance: Measured, places: Int[ndarray, "B n"]) -> Float[ndarray, " B"]:
    """The summed loss of each resample."""
    return np.asarray(tolerance["loss"]["by_image"])[places].mean(1)


def sampled(
    tolerance: Measured, law: str, kappa: Float[ndarray, " B"], places: Int[ndarray, "B n"]
) -> Float[ndarray, " B"]:
    """The tolerated divergence of each resample under noise drawn from the law; infinite beyond the levels.

    Args:
        tolerance: what `measured_tolerance` gave at one t.
        law: of `SAMPLED`.
        kappa: the rise of the summed loss, one for each resample.
        places: of the images in each resample.
    """
    arguments.choice("law", law, tuple(SAMPLED))
    rises = np.array([rise["by_image"] for rise in tolerance["laws"][law]["rises"]])
    means = rises[:, places].mean(2)
    roots = np.sqrt([0.0, *tolerance["levels"]])
    grid = np.unique(np.concatenate([np.linspace(*ends, POINTS) for ends in itertools.pairwise(roots)]))
    curve = PchipInterpolator(roots, np.vstack([np.zeros(len(places)), means]))(grid)
    return _crossings(grid, curve, kappa)


def _crossings(grid: ndarray, curve: ndarray, kappa: ndarray) -> ndarray:
    """The square of where each column of the curve (g, B) first reaches kappa (B,), which it does not at its begin."""
    reached = curve >= kappa
    after = np.maximum(reached.argmax(0), 1)
    columns = np.arange(curve.shape[1])
    low, high = curve[after - 1, columns], curve[after, columns]
    with np.errstate(invalid="ignore", divide="ignore"):
        root = grid[after - 1] + (kappa - low) / (high - low) * (grid[after] - grid[after - 1])
    return np.where(reached.any(0), root**2, np.inf)


def rescored(
    tolerance: Measured, law: str, kappa: Float[ndarray, " B"], places: Int[ndarray, "B n"]
) -> Float[ndarray, " B"]:
    """The same against the score of the law, for the inputs as they are; infinite where there is no such law.

    The rise is a polynomial of degree 2 in u, or in tau, so that its roots are known.
    """
    kind, sign = RESCORED[arguments.choice("law", law, tuple(RESCORED))]
    d = tolerance["dimension"]
    if kind == "shift":
        r1 = np.asarray(tolerance["moments"]["r1"])[places].mean(1)
        u = (-r1 + sign * np.sqrt(r1**2 + d * kappa)) / d
        return np.asarray(0.5 * d * u**2)
    if kind == "scale":
        many, linear = d, np.asarray(tolerance["moments"]["re"])[places].mean(1)
        sign = -sign  # tau = (1 + a)^-2 - 1 falls as a rises
    else:
        many, linear = 1, _along_one(tolerance, places)
    tau = (linear + sign * np.sqrt(linear**2 + many * kappa)) / many
    there = np.where(tau > -1.0, tau, 0.0)
    return np.where(tau > -1.0, 0.5 * many * _excess(there), np.inf)


def _along_one(tolerance: Measured, places: ndarray) -> ndarray:
    """E (r.e)(eps.e) of each resample, (B,)."""
    product = np.asarray(tolerance["moments"]["r1"]) * np.asarray(tolerance["moments"]["e1"]) / tolerance["dimension"]
    return np.asarray(product[places].mean(1))


def _excess(tau: ndarray) -> ndarray:
    """tau - log(1 + tau), by its series where the two cancel."""
    series = tau**2 * (0.5 - tau / 3.0 + tau**2 / 4.0)
    return np.where(np.abs(tau) < 1e-4, series, tau - np.log1p(tau))


def least(draws: Sequence[Float[ndarray, " B"]]) -> Float[ndarray, " B"]:
    """The smallest of several laws', resample by resample."""
    return np.min(np.stack(list(draws)), axis=0)


SHARES = (0.01, 0.1)
SAME = 0.1
KINDS = ("shift", "scale")
RADII = ("dense", "kernel")
WHERE = "layers/*.json: measures.tolerance, measures.linearisation"
BOOTSTRAP = "standard error over resamples of the images"

Bounds = Callable[[Mapping[str, Any], float], dict[str, float]]
"""From one point of a linearisation and eta = |K_delta|_F: "exact" (T2), "corrected" and "printed" (Cor. 3.9)."""


class Theory(NamedTuple):
    """What `experiments.bridge.document` brings from the theory.

    Attributes:
        gap_radius: E_kappa of Theorem T4.
        bounds: as above.
        flat_radius: of a linearised point at kappa, in K: eta (Theorem T3).
    """

    gap_radius: Callable[[float], float]
    bounds: Bounds
    flat_radius: Callable[[Mapping[str, Any], float], float]


class Tolerated(NamedTuple):
    """One row at one t and one share of its own loss.

    Attributes:
        entry: the row.
        t: the step's name.
        share: of the loss.
        kappa: the rise.
        sampled, rescored: the tolerated divergence by law, and the least of all, of each resample of the images, the
            first of which is the images themselves.
    """

    entry: Entry
    t: str
    share: float
    kappa: ndarray
    sampled: dict[str, ndarray]
    rescored: dict[str, ndarray]


def tolerated_by(
    tolerance: Mapping[str, Any], kappa: ndarray, places: ndarray
) -> tuple[dict[str, ndarray], dict[str, ndarray]]:
    """Sampled and rescored divergences by law, with the least of each kind, and of all."""
    by_sampling = {law: sampled(tolerance, law, kappa, places) for law in SAMPLED}
    by_moments = {law: rescored(tolerance, law, kappa, places) for law in RESCORED}
    for by_law in (by_sampling, by_moments):
        every = dict(by_law)
        for kind in KINDS:
            by_law[kind] = least([values for law, values in every.items() if RESCORED[law].kind == kind])
        by_law["least"] = least(list(every.values()))
    return by_sampling, by_moments


def _cell(values: ndarray) -> Cell | None:
    """A number with the scatter of its resamples; None where it, or a tenth of them, is not finite."""
    finite = values[np.isfinite(values)]
    if not math.isfinite(values[0]) or len(finite) < 0.9 * len(values):
        return None
    return Cell(float(values[0]), float(finite[1:].std(ddof=1)))


def every_tolerated(rows: Rows) -> list[Tolerated]:
    """Of all rows, every t and share."""
    tolerated = []
    for entry in rows.entries:
        for t, tolerance in (entry.layered("tolerance") or {}).items():
            places = resampled(tolerance["images"])
            for share in SHARES:
                kappa = share * loss(tolerance, places)
                tolerated.append(Tolerated(entry, t, share, kappa, *tolerated_by(tolerance, kappa, places)))
    return tolerated


def details(every: Sequence[Tolerated], theory: Theory) -> list[dict[str, Any]]:
    """Everything that B6 compares, a dictionary for each row, t and share; an infinite number is None."""
    entries = []
    for one in every:
        linear = (one.entry.layered("linearisation") or {}).get(one.t)
        kappa = float(one.kappa[0])
        entry: dict[str, Any] = {
            "row": one.entry.label, "seed": one.entry.seed, "t": one.t, "share": one.share, "kappa": kappa,
            "gap_radius": theory.gap_radius(kappa),
            "sampled": {law: _finite(values[0]) for law, values in one.sampled.items()},
            "rescored": {law: _finite(values[0]) for law, values in one.rescored.items()},
        }  # fmt: skip
        if linear is not None:
            entry |= {
                "linearisation_error": [point["linearisation_error"] for point in linear["points"]],
                "bounds": {radius: _bounds(linear, radius, kappa, theory) for radius in RADII},
            }
        entries.append(entry)
    return entries


def _bounds(linear: Mapping[str, Any], radius: str, kappa: float, theory: Theory) -> dict[str, Any]:
    """eta, rho = eta |W|_op and the bounds, means over the points; None where infinite."""
    each = []
    for point in linear["points"]:
        kernel = math.sqrt(linear["positions"] * kappa / linear["kernel_curvature"])
        eta = theory.flat_radius(point, kappa) if radius == "dense" else kernel
        each.append({"eta": eta, "rho": eta * max(point["singular_values"]), **theory.bounds(point, eta)})
    return {name: _finite(float(np.mean([one[name] for one in each]))) for name in each[0]}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def claims(rows: Rows, every: Sequence[Tolerated], details: Sequence[Mapping[str, Any]], theory: Theory) -> list[Claim]:
    """All of B6.

    Args:
        rows: of the folder.
        every: of `every_tolerated`.
        found: of `details`, in the same order.
        theory: as for `details`.
    """
    claimed = []
    for share in SHARES:
        says = f"{share:.0%} of the loss"
        of_share = [(one, detail) for one, detail in zip(every, details, strict=True) if one.share == share]
        claimed.append(
            Claim(
                f"B6a-{share:g}", f"Against the moved law's score, the least divergence for {says} is E_kappa",
                By("theory", "theory T4"), (1.0 - SAME, 1.0 + SAME), _rescored([one for one, _ in of_share], theory),
                f"least over shifts, scales and one direction, over E_kappa, margin {SAME:.0%}; {BOOTSTRAP}", WHERE,
                predicted=1.0, note="kappa is a share of each row's own loss.",
            )
        )  # fmt: skip
        for kind in KINDS:
            pairs = _pairs(rows, share, kind)
            how = f"ratio of divergences at the same kappa, {share:.0%} of adm's loss; {BOOTSTRAP}, in pairs"
            noise = f"noise whose law is {'shifted' if kind == 'shift' else 'scaled'}"
            claimed += [
                Claim(f"B6b-{kind}-{share:g}", f"SAM tolerates a larger divergence of {noise} than adm",
                      By("paper", "paper (Remark 3.10)"), (1.0, INFINITE), pairs, how, WHERE),
                Claim(f"B6c-{kind}-{share:g}", f"SAM and adm tolerate the same divergence of {noise}",
                      By("theory", "theory T4"), (1.0 - SAME, 1.0 + SAME), pairs,
                      f"{how}, margin {SAME:.0%}", WHERE, predicted=1.0),
            ]  # fmt: skip
        for radius in RADII:
            for bound, source in (
                ("printed", By("paper", "paper (Theorem 3.8, Cor. 3.9 as printed)")),
                ("corrected", By("theory", "Cor. 3.9, corrected")),
            ):
                comparisons = _within_bound(of_share, radius, bound)
                infinite = sum(1 for _, detail in of_share if _bound(detail, radius, bound) is None)
                claimed.append(
                    Claim(
                        f"B6d-{radius}-{bound}-{share:g}",
                        f"The divergence tolerated for {says} is at most the {bound} bound "
                        f"at the flat radius ({radius})",
                        source, (-INFINITE, 1.0), comparisons,
                        f"least sampled divergence over the bound; {BOOTSTRAP}; the linearised point's own scatter is "
                        "not in it", WHERE, note=f"The bound is infinite, or not there, in {infinite} cases, left out.",
                    )
                )  # fmt: skip
        claimed.append(_order(of_share, share))
    return claimed


def _by_row(by_row: Iterable[tuple[Tolerated, Cell | None]]) -> tuple[Comparison, ...]:
    """A comparison for each row and t that has the number for every training seed."""
    values: dict[tuple[str, str], list[Cell | None]] = {}
    for one, cell in by_row:
        values.setdefault((one.entry.label, one.t), []).append(cell)
    return tuple(
        Comparison(f"{label}, {t}", tuple(cell for cell in cells if cell is not None), rows=(label,))
        for (label, t), cells in values.items()
        if None not in cells
    )


def _rescored(ours: Sequence[Tolerated], theory: Theory) -> tuple[Comparison, ...]:
    """Over E_kappa at each resample's own kappa."""
    return _by_row(
        (one, _cell(one.rescored["least"] / np.array([theory.gap_radius(float(kappa)) for kappa in one.kappa])))
        for one in ours
    )


def _bound(detail: Mapping[str, Any], radius: str, bound: str) -> float | None:
    number: float | None = detail.get("bounds", {}).get(radius, {}).get(bound)
    return number


def _within_bound(
    of_share: Sequence[tuple[Tolerated, Mapping[str, Any]]], radius: str, bound: str
) -> tuple[Comparison, ...]:
    limits = [(one, _bound(detail, radius, bound)) for one, detail in of_share]
    return _by_row((one, _cell(one.sampled["least"] / limit)) for one, limit in limits if limit is not None)


def _pairs(rows: Rows, share: float, kind: str) -> tuple[Comparison, ...]:
    """SAM's tolerated divergence over adm's, at a share of adm's loss, image by image the same noise."""
    comparisons = []
    for label, against in rows.counterparts("sam", "adm"):
        by_step: dict[str, list[Cell | None]] = {}
        for entry, other in rows.pairs(label, against):
            ours, theirs = (one.layered("tolerance") or {} for one in (entry, other))
            for t in [t for t in ours if t in theirs]:
                places = resampled(theirs[t]["images"])
                kappa = share * loss(theirs[t], places)
                laws = [name for name, law in SAMPLED.items() if law.kind == kind]
                a, b = (
                    least([sampled(tolerance[t], law, kappa, places) for law in laws]) for tolerance in (ours, theirs)
                )
                with np.errstate(invalid="ignore"):
                    by_step.setdefault(t, []).append(_cell(a / b))
        for t, values in by_step.items():
            if None not in values:
                there = tuple(value for value in values if value is not None)
                comparisons.append(Comparison(f"{label} against {against}, {t}", there, rows=(label, against)))
    return tuple(comparisons)


def _order(of_share: Sequence[tuple[Tolerated, Mapping[str, Any]]], share: float) -> Claim:
    """Whether rows with a larger flat radius, the kernel's, tolerate more, at each t."""
    comparisons = []
    for t in dict.fromkeys(one.t for one, _ in of_share):
        pairs = [
            (radius, one.sampled["least"][0])
            for one, detail in of_share
            if one.t == t and (radius := _bound(detail, "kernel", "eta")) is not None
        ]
        there = [(x, y) for x, y in pairs if math.isfinite(y)]
        if len(there) >= 2:
            correlation = rank_correlation([x for x, _ in there], [float(y) for _, y in there])
            if math.isfinite(correlation.value):
                interval = (correlation.low, correlation.high)
                comparisons.append(
                    Comparison(f"Spearman over {len(there)} rows, {t}", (Cell(correlation.value),), interval)
                )
    return Claim(
        f"B6e-{share:g}", "Rows with a larger flat radius (the kernel's) tolerate a larger divergence",
        By("paper", "paper (Remark 3.10)"), (0.0, INFINITE), tuple(comparisons),
        f"Spearman's rank correlation over rows, each at {share:.0%} of its own loss; bootstrap over rows as if "
        "independent, which those of one run are not", WHERE,
    )  # fmt: skip
