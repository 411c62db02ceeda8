"""The largest divergence between N(0, I) and an admissible perturbed Gaussian over a ball of radius Delta (T2).

Frobenius ball: exact. The maximum is attained at delta = -Delta u v^T with u along W v, so it is a maximum over unit
vectors v of R^m of a function rising in x = |W v|^2 and y = (v^T b)^2. The pairs (x, y) on their upper-right boundary
belong to top eigenvectors of (1-l) W^T W + l b b^T, l in [0, 1], which form a curve with an explicit parameter: in W's
singular basis v_i is proportional to b_i / (g + s_1^2 - s_i^2), g in (0, infinity). One search along that curve is all
that is left. Large W are first reduced to a Krylov space that contains the curve (`theory.model.krylov`).

Spectral ball: exact for b = 0 (delta = -Delta U V^T), and wherever the bound is seen to be attained; no closed form is
known for general b, and an upper bound stands beside the best perturbation found.

Another Gaussian p, such as that of x_t, is whitened first. The ball of delta stays a ball where p's covariance is a
multiple v of the identity, of radius sqrt(v) Delta; elsewhere it becomes an ellipsoid, which lies within a ball, and an
upper bound stands beside the best perturbation of rank one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import linalg, optimize

from theory.model import arguments
from theory.model.divergences import Divergence, divergence_of
from theory.model.gaussians import Gaussian
from theory.model.krylov import reduced_problem
from theory.model.perturbations import whitened
from theory.model.spectral_ball import ball_bounds

NORMS = ("frobenius", "spectral")

LARGEST_DENSE = 400
"""min(d, m) up to which W's singular value decomposition is taken as it is; beyond, a Krylov space replaces it."""


@dataclass(frozen=True, eq=False)
class WorstCase:
    """The largest divergence over a ball of perturbations.

    Args:
        value: the maximum where `exact`, else the upper bound; infinite where the ball reaches a perturbation whose
            density cannot be normalised. In nats; for "w2" the distance squared.
        perturbation: (d, m), admissible and in the ball; attains `lower_bound`, which is the maximum where `exact`.
            Where the value is infinite, the smallest perturbation along which the divergence grows without bound.
        exact: whether `value` is the maximum, not only a bound.
        lower_bound: a divergence that is attained.
        upper_bound: a divergence that is not exceeded.
    """

    value: float
    perturbation: Float[ndarray, "d m"]
    exact: bool
    lower_bound: float
    upper_bound: float


def worst_case_divergence(
    W: Float[ndarray, "d m"],
    b: Float[ndarray, " m"],
    radius: float,
    divergence: str = "kl",
    norm: str = "frobenius",
    p: Gaussian | None = None,
) -> WorstCase:
    """Largest divergence over admissible perturbations delta with |delta| <= radius, linear activation (Theorem T2).

    Accuracy: relative 1e-12 or better up to rho = Delta |W| / m = 1 - 1e-4, and about 2e-16 / (1 - rho) beyond, since
    1 - rho is the result of a subtraction: 1 - rho below 1e-9 leaves six digits or fewer, below 1e-15 none.

    Cost: for min(d, m) <= 400 one singular value decomposition of W. Beyond, in the Frobenius ball, a few dozen to a
    few hundred products with W and its transpose, so proportional to d m; no m x m matrix is formed. The spectral ball
    always takes the decomposition.

    Args:
        W: (d, m), columns w_j.
        b: (m,), U^T e.
        radius: Delta > 0.
        divergence: "kl" for KL(p || p_hat), "reverse_kl" for KL(p_hat || p), "w2" for the squared 2-Wasserstein
            distance.
        norm: "frobenius" (what SAM perturbs by) or "spectral".
        p: the law of what the model reads, at time t that of x_t (`theory.model.perturbations.diffused`); N(0, I) where
            None. Exact where its covariance is a multiple of the identity; elsewhere bounds, and not for "w2". The ball
            is of a model of the score; of one that predicts the noise it is 1 / sqrt(1 - alpha_bar) times as large.

    Raises:
        ValueError: wrong shapes, entries that are not finite, a radius that is not positive, an unknown name, a p that
            is no Gaussian, "w2" for a p whose covariance is no multiple of the identity.
    """
    W = arguments.matrix("W", W)
    b = arguments.vector("b", b, W.shape[1])
    radius = arguments.scalar("radius", radius, above=0)
    chosen = divergence_of(divergence)
    norm = arguments.choice("norm", norm, NORMS)
    if p is not None:
        return _under(p, W, b, radius, chosen, norm)
    return _standard(W, b, radius, chosen, norm)


def _standard(W: ndarray, b: ndarray, radius: float, chosen: Divergence, norm: str) -> WorstCase:
    """For p = N(0, I)."""
    if norm == "spectral" and min(W.shape) > 1:
        return _spectral(W, b, radius, chosen)
    return _frobenius(W, b, radius, chosen)  # with one row or one column the two norms are the same


def _under(p: Gaussian, W: ndarray, b: ndarray, radius: float, chosen: Divergence, norm: str) -> WorstCase:
    """For another Gaussian p."""
    problem = whitened(W, b, p)
    stretch = float(np.sqrt(p.largest_variance))
    worst = _standard(problem.W, problem.b, stretch * radius, chosen, norm)
    unit = p.largest_variance if chosen.name == "w2" else 1.0  # distances are in units of x
    if p.is_isotropic:
        perturbation = problem.root @ worst.perturbation / p.largest_variance
        return WorstCase(
            unit * worst.value, perturbation, worst.exact, unit * worst.lower_bound, unit * worst.upper_bound
        )
    if chosen.name == "w2":
        raise ValueError("divergence is 'w2' for a p of unequal variances; allowed: 'kl' or 'reverse_kl'")
    best, v = _rank_one(p, W, problem.b, radius / W.shape[1], chosen, worst.perturbation)
    image = W @ v
    length = linalg.norm(image)
    u = image / length if length > 0 else np.eye(W.shape[0])[0]
    perturbation = np.multiply.outer(-radius * u, v)
    exact = best >= worst.upper_bound * (1 - 1e-12)  # where the widest direction of p is the worst
    return WorstCase(worst.upper_bound, perturbation, exact, min(best, worst.upper_bound), worst.upper_bound)


MOST_REFINED = 200
"""Coordinates of v up to which the search over perturbations of rank one is refined."""


def _rank_one(
    p: Gaussian, W: ndarray, b: ndarray, eta: float, chosen: Divergence, guess: ndarray
) -> tuple[float, ndarray]:
    """The largest divergence found over delta = -Delta u v^T, u along W v, and the unit v that attains it.

    There A = -eta |W v| u u^T, whose whitened eigenvalue is -eta v^T W^T C W v / |W v|.

    Args:
        p: N(mu, C).
        W, b: as the caller's W, and b + W^T mu.
        eta: Delta / m.
        chosen: the divergence.
        guess: (d, m), of the whitened ball; its top right singular vector is one of the starts.
    """
    if not W.any():
        return 0.0, np.eye(W.shape[1])[0]
    # v matters through W v and b^T v alone
    basis = linalg.orth(np.column_stack([W.T, b]))
    images, biases = W @ basis, b @ basis

    def value(coordinates: ndarray) -> float:
        size = linalg.norm(coordinates)
        y = images @ coordinates / size
        length = linalg.norm(y)
        if not length > 0:
            return 0.0
        spread = float(y @ p.covariance @ y)
        tau = -eta * spread / length
        if tau <= -1:
            return np.inf
        shift = eta**2 * spread / length**2 * float(biases @ coordinates / size) ** 2
        return float(chosen.scale * (chosen.term(np.array(tau)) + shift * chosen.weight(np.array(tau))))

    def negative(coordinates: ndarray) -> float:
        return -min(value(coordinates), 1e300)

    _, _, right = linalg.svd(guess, full_matrices=False)
    starts: list[ndarray] = [basis.T @ right[0], *np.eye(basis.shape[1])[:8], biases]
    starts = [start / linalg.norm(start) for start in starts if linalg.norm(start) > 0]
    best = max(starts, key=value)
    if basis.shape[1] <= MOST_REFINED:
        for start in sorted(starts, key=value)[-3:]:
            if np.isinf(value(best)):
                break
            reached = optimize.minimize(negative, start, method="L-BFGS-B")
            best = max((best, reached.x), key=value)
    v = basis @ best
    return value(best), v / linalg.norm(v)


def _frobenius(W: ndarray, b: ndarray, radius: float, divergence: Divergence) -> WorstCase:
    m = W.shape[1]
    eta = radius / m
    s, beta, basis = reduced_problem(
        W, b, LARGEST_DENSE, lambda s, beta: _curve_maximum(eta * s, eta * beta, divergence)[0]
    )
    value, v = _curve_maximum(eta * s, eta * beta, divergence)
    direction = basis @ v
    direction /= linalg.norm(direction)
    image = W @ direction
    length = linalg.norm(image)
    u = image / length if length > 0 else np.eye(W.shape[0])[0]
    if np.isinf(value):  # the edge itself: A = -u u^T
        return WorstCase(np.inf, np.multiply.outer(-m / length * u, direction), True, np.inf, np.inf)
    return WorstCase(value, np.multiply.outer(-radius * u, direction), True, value, value)


def _spectral(W: ndarray, b: ndarray, radius: float, divergence: Divergence) -> WorstCase:
    m = W.shape[1]
    inner = _frobenius(W, b, radius, divergence)
    if np.isinf(inner.value):  # the Frobenius ball lies within the spectral one
        return inner
    lower, upper, perturbation = ball_bounds(W, b, radius, divergence, inner.perturbation)
    room = 1 - radius / m * linalg.norm(W, 2)
    # Where the bound is attained both sides are the same sums; eps / (1 - rho)^2 is what rounding moves them by.
    exact = not np.any(b) or lower >= upper * (1 - 1e-14 / room**2)
    return WorstCase(upper, perturbation, exact, upper if exact else min(lower, upper), upper)


def _objective(x: ndarray, y: ndarray, divergence: Divergence) -> ndarray:
    """scale * [term(-sqrt x) + y weight(-sqrt x)]: the divergence of delta = -Delta u v^T; x = |eta W v|^2 < 1."""
    tau = -np.sqrt(x)
    return divergence.scale * (divergence.term(tau) + y * divergence.weight(tau))


def curve_maximum(
    s: Float[ndarray, " r"], beta: Float[ndarray, " r"], divergence: str | Divergence = "kl"
) -> tuple[float, Float[ndarray, " r"]]:
    """Maximum over unit v of the divergence at |eta W v|^2 = sum s_i^2 v_i^2 and eta v^T b = beta^T v, and where.

    Args:
        s: (r,), not negative, in any order; eta times the singular values of W.
        beta: (r,), eta times b in their right singular basis.
        divergence: as of `worst_case_divergence`.

    Returns:
        The maximum and a v (r,) that has it; infinity and the top direction where max(s) >= 1.

    Raises:
        ValueError: an argument is not as above.
    """
    s = arguments.vector("s", s)
    if s.min() < 0:
        raise ValueError(f"s has the entry {s.min():g}; allowed: numbers of at least 0")
    beta = arguments.vector("beta", beta, s.size)
    return _curve_maximum(s, beta, divergence_of(divergence))


def _curve_maximum(s: ndarray, beta: ndarray, divergence: Divergence) -> tuple[float, ndarray]:
    top = int(np.argmax(s))
    e_top = np.zeros(s.size)
    e_top[top] = 1.0
    if s[top] >= 1:
        return np.inf, e_top
    # In units of the largest s, so that nothing underflows however small the ball is.
    ratio = s / s[top] if s[top] > 0 else np.ones_like(s)
    gaps = (1 - ratio) * (1 + ratio)
    # Directions whose gap is rounding belong to the top eigenspace; within it only b's own direction matters.
    group = gaps <= 1e-14
    gaps[group] = 0.0
    size = np.abs(beta).max()
    if size == 0:
        return float(_objective(s[top] ** 2, np.array(0.0), divergence)), e_top
    beta = beta / size
    if np.any(beta[group]):
        e_top = np.where(group, beta, 0.0) / linalg.norm(beta[group])

    def normalised(rows: ndarray) -> ndarray:
        largest = np.abs(rows).max(axis=-1, keepdims=True)
        rows = rows / np.where(largest > 0, largest, 1)
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    def values(rows: ndarray) -> ndarray:
        shares = np.minimum(rows**2 @ ratio**2, 1.0)
        return _objective(shares * s[top] ** 2, (rows @ beta * size) ** 2, divergence)

    def on_curve(log_g: ndarray) -> ndarray:
        return normalised(beta / (np.exp(log_g)[..., None] + gaps))

    # Where b is (nearly) orthogonal to the top eigenspace the curve ends short of it, and the rest of the boundary is
    # the segment from that end to the top direction.
    end = np.where(group, 0.0, beta / np.where(group, 1.0, gaps))
    end = normalised(end) if np.any(end) else np.zeros(s.size)

    def on_segment(angle: ndarray) -> ndarray:
        rows = np.multiply.outer(np.cos(angle), end) + np.multiply.outer(np.sin(angle), e_top)
        return rows if np.any(end) else np.broadcast_to(e_top, rows.shape)

    places = _maxima(lambda t: values(on_curve(t)), -36.0, 36.0, 721)
    angles = _maxima(lambda t: values(on_segment(t)), 0.0, np.pi / 2, 91)
    rows = np.vstack([e_top, normalised(beta), on_curve(places), on_segment(angles)])
    best = values(rows)
    return float(best.max()), rows[int(best.argmax())]


def _maxima(function: Callable[[ndarray], ndarray], low: float, high: float, steps: int, keep: int = 6) -> ndarray:
    """Where a smooth function is largest on [low, high]: the highest local maxima of a grid that resolves it, refined.

    Each is refined by ever finer grids around it, down to 1e-8 of a step: a maximum is flat, so its value is then right
    to rounding. All are refined at once.
    """
    grid = np.linspace(low, high, steps)
    on_grid = function(grid)
    padded = np.concatenate([[-np.inf], on_grid, [-np.inf]])
    places = np.flatnonzero((on_grid >= padded[:-2]) & (on_grid >= padded[2:]))
    centres = grid[places[np.argsort(on_grid[places])[::-1][:keep]]]
    width = grid[1] - grid[0]
    offsets = np.linspace(-1, 1, 21)
    for _ in range(8):
        around = np.clip(centres[:, None] + width * offsets, low, high)
        best = function(around).argmax(axis=1)
        centres = around[np.arange(len(centres)), best]
        width /= 10
    return centres
