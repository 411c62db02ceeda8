"""The perturbed density p_hat = e^-I p / Z in numbers, where p is not Gaussian or the activation not linear.

I(x) is the potential with grad I = delta sigma(W^T x + b) / m and I(0) = 0, and Z = E_p[e^-I]. It is known for
admissible delta where sigma is linear, and for delta_j = c_j w_j where sigma is anything (Theorem T1). Up to d = 3 the
integrals are adaptive quadrature over all of R^d, mapped to a bounded box, so that no tail is cut off; beyond,
importance sampling from heavy-tailed proposals around the modes of p and p_hat.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from theory.model import arguments, perturbations
from theory.model.gaussians import Gaussian
from theory.model.integration import (
    TOLERANCES,
    ImportanceSampling,
    Integrator,
    LogDensity,
    Peak,
    Quadrature,
    checked_log_density,
    find_peak,
    standard_normal,
    unnormalisable_ray,
)
from theory.model.perturbations import ADMISSIBLE_TOLERANCE, NotNormalizableError
from theory.model.random_features import ACTIVATIONS, Activation, activation_of

UNSETTLED = 0.1
"""Estimated relative error from which on an integral counts as not found."""
LARGEST_KL = 1e6
"""Divergence beyond which the exponents' rounding hides the modes."""
LEAST_EFFECTIVE_SAMPLES = 200
SHORTEST = 1e-100
"""|w_j| up to which w_j counts as 0: w_j^T x then moves no activation."""


class Estimate(NamedTuple):
    """A number and its estimated absolute error: of the quadrature, or one standard error of the sampling."""

    value: float
    error: float


class Moments(NamedTuple):
    """Mean (d,) and covariance (d, d) of p_hat with their estimated absolute errors, entry by entry."""

    mean: Float[ndarray, " d"]
    mean_error: Float[ndarray, " d"]
    covariance: Float[ndarray, "d d"]
    covariance_error: Float[ndarray, "d d"]


def potential_of(
    delta: Float[ndarray, "d m"], W: Float[ndarray, "d m"], b: Float[ndarray, " m"], activation: str | Activation
) -> LogDensity:
    """I(x) with grad I = delta sigma(W^T x + b) / m and I(0) = 0, as a function of points (..., d).

    For linear sigma x^T A x / 2 + c^T x; for any other (1/m) sum c_j [Phi(w_j^T x + b_j) - Phi(b_j)], Phi' = sigma.

    Raises:
        ValueError: wrong shapes, entries that are not finite, an unknown activation; a delta whose field is not known
            to be a gradient.
    """
    W = arguments.matrix("W", W)
    delta = arguments.matrix("delta", delta, *W.shape)
    m = W.shape[1]
    b = arguments.vector("b", b, m)
    sigma = activation_of(activation)
    shown = reprlib.repr(delta.tolist())
    if sigma is ACTIVATIONS["linear"]:
        if not perturbations.is_admissible(delta, W):
            raise ValueError(f"delta is {shown}; allowed: delta W^T symmetric, for the linear activation")
        A, c = delta @ W.T / m, delta @ b / m
        return lambda x: ((x @ A / 2 + c) * x).sum(axis=-1)
    lengths = np.abs(W).max(axis=0)
    used = lengths > SHORTEST
    lengths[used] *= np.linalg.norm(W[:, used] / lengths[used], axis=0)
    directions = W[:, used] / lengths[used]
    along = (delta[:, used] * directions).sum(axis=0)
    across = np.abs(delta[:, used] - directions * along).max(axis=0)
    if (across > ADMISSIBLE_TOLERANCE * np.abs(delta[:, used]).max(axis=0)).any():
        raise ValueError(
            f"delta is {shown}; allowed for the activation {sigma.name!r}: delta_j = c_j w_j wherever w_j is not 0; of "
            "other fields it is not known whether they are gradients"
        )
    coefficients = along / lengths[used] / m
    constant = delta[:, ~used] @ sigma(b[~used]) / m
    W, b = W[:, used], b[used]
    origin = sigma.antiderivative(b)
    return lambda x: (sigma.antiderivative(x @ W + b) - origin) @ coefficients + x @ constant


def _second_order(u: ndarray) -> ndarray:
    """e^-u - 1 + u, without the cancellation near 0."""
    small = np.abs(u) < 1e-2
    v = np.where(small, u, 0.0)
    series = v**2 / 2 * (1 - v / 3 * (1 - v / 4 * (1 - v / 5 * (1 - v / 6 * (1 - v / 7)))))
    return np.where(small, series, np.expm1(-u) + u)


@dataclass(frozen=True, eq=False)
class PerturbedDensity:
    """p_hat = e^-I p / Z on R^d, as found by `perturbed_density`.

    Args:
        dimension: d.
        log_normaliser: log Z = log E_p[e^-I], with I(0) = 0.
        error: its estimated absolute error, and that of `log_density`.
        kl: KL(p || p_hat) in nats, with its error.
        reverse_kl: KL(p_hat || p) in nats, with its error.
        method: "quadrature" or "importance sampling".
        effective_samples: the smaller of the effective sample sizes for p and p_hat; infinite for quadrature.
    """

    dimension: int
    log_normaliser: float
    error: float
    kl: Estimate
    reverse_kl: Estimate
    method: str
    effective_samples: float
    _potential: LogDensity
    _log_prior: LogDensity
    _integrator: Integrator
    _peak: Peak

    def potential(self, x: Float[ndarray, "*n d"]) -> Float[ndarray, "*n"]:
        """I at points x of shape (..., d)."""
        return self._potential(arguments.points("x", x, self.dimension))

    def log_density(self, x: Float[ndarray, "*n d"]) -> Float[ndarray, "*n"]:
        """Log of the normalised p_hat at points x of shape (..., d)."""
        x = arguments.points("x", x, self.dimension)
        log_prior = self._log_prior(x.reshape(-1, self.dimension)).reshape(x.shape[:-1])
        return log_prior - self._potential(x) - self.log_normaliser

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance of p_hat, by the same means as its normaliser."""
        mode, scale = self._peak
        d = self.dimension
        rows, columns = np.triu_indices(d)

        def integrand(x: ndarray, log_weight: ndarray) -> ndarray:
            t = np.linalg.solve(scale, (x - mode).T).T
            density = np.exp(self._log_prior(x) - self._potential(x) - self.log_normaliser + log_weight)
            # 1 is added to what may vanish, so that a relative tolerance can be met
            monomials = np.concatenate([np.ones((len(x), 1)), 1 + t, 1 + t[:, rows] * t[:, columns]], axis=1)
            with np.errstate(invalid="ignore"):
                return np.where(density[:, None] > 0, density[:, None] * monomials, 0.0)

        values, errors = self._integrator(integrand)
        relative = errors / values[0]
        means = values / values[0] - 1
        errors = relative + (means + 1) * relative[0]
        first, first_error = means[1 : d + 1], errors[1 : d + 1]
        second, second_error = np.zeros((d, d)), np.zeros((d, d))
        for square, flat in ((second, means[d + 1 :]), (second_error, errors[d + 1 :])):
            square[rows, columns] = square[columns, rows] = flat
        spread = second_error + np.abs(np.outer(first, first_error)) + np.abs(np.outer(first_error, first))
        absolute = np.abs(scale)
        return Moments(
            mode + scale @ first,
            absolute @ first_error,
            scale @ (second - np.outer(first, first)) @ scale.T,
            absolute @ spread @ absolute.T,
        )


class _Found(NamedTuple):
    log_mass: float
    log_normaliser: Estimate
    kl: Estimate
    reverse_kl: Estimate


def _divergences(
    prior: LogDensity, potential: LogDensity, integrator: Integrator, peaks: list[Peak], normalised: bool
) -> _Found:
    """Log of p's own integral, log Z and both divergences.

    With u = I - E_p[I], KL(p || p_hat) = log(1 + E_p[e^-u - 1 + u]): an expectation of something positive, which is
    found to relative precision however small delta is. Where it is huge, all is scaled by e^-shift.
    """
    around = np.concatenate([peak.mode + r * peak.scale.T for peak in peaks[:1] for r in (0, 1, -1, 3, -3)])
    level = float(np.abs(potential(around)).max())  # added, so that a relative tolerance can be met

    def first(x: ndarray, log_weight: ndarray) -> ndarray:
        density = np.exp(prior(x) + log_weight)
        return np.stack([density, np.where(density > 0, density * (potential(x) + level), 0.0)], axis=-1)

    (mass, moment), (mass_error, moment_error) = integrator(first)
    if normalised:
        mass, mass_error = 1.0, 0.0
    mean = moment / mass - level
    scatter = (moment_error + abs(moment) * mass_error / mass) / mass + mass_error / mass
    log_mass = float(np.log(mass))
    height = max(float(prior(mode) - log_mass - potential(mode) + mean) for mode, _ in peaks)
    shift = height if height > 300 else 0.0

    def second(x: ndarray, log_weight: ndarray) -> ndarray:
        log_density = prior(x) - log_mass + log_weight - shift
        density, u = np.exp(log_density), potential(x) - mean
        perturbed = np.exp(log_density - u)
        small, v = np.abs(u) < 1, np.clip(u, -1, 1)
        gain = np.where(small, density * _second_order(v), perturbed - density * (1 - u))
        change = np.where(small, -density * np.expm1(-v), density - perturbed) * u
        return np.where(((density > 0) | (perturbed > 0))[:, None], np.stack([gain, change], axis=-1), 0.0)

    (gain, change), (gain_error, change_error) = integrator(second)
    whole = np.exp(-shift) + gain
    kl = float(shift + np.log(whole) if shift else np.log1p(gain))
    settled = np.isfinite([kl, mean, change, scatter]).all() and mass > 0 and mass_error < UNSETTLED * mass
    settled = settled and kl < LARGEST_KL
    if not (settled and gain_error <= UNSETTLED * gain and change_error <= UNSETTLED * change):
        raise ArithmeticError(
            f"the integrals do not settle: KL(p || p_hat) is {kl:.3g}, its error {gain_error / whole:.2g}; e^-I p may "
            f"not be normalisable, E_p[I] not finite, a mode far from starts, or KL above {LARGEST_KL:g}"
        )
    rounding = 128 * np.finfo(float).eps * (kl + abs(mean))  # of the exponents, of which kl and mean are typical
    kl_error = float((gain_error + gain * scatter) / whole + rounding)
    reverse_error = float((change_error + (1 + change) * scatter) / whole) + kl_error
    return _Found(
        log_mass,
        Estimate(kl - float(mean), kl_error + float(scatter)),
        Estimate(kl, kl_error),
        Estimate(float(change / whole) - kl, reverse_error),
    )


def _sampler(peaks: list[Peak], densities: list[LogDensity], samples: int, seed: int) -> tuple[Integrator, float]:
    """Importance sampling, and the smallest of its effective sample sizes, refused where that is too small."""
    integrator = ImportanceSampling(peaks, samples, seed)
    effective = min(integrator.effective_samples(density) for density in densities)
    if not effective >= LEAST_EFFECTIVE_SAMPLES:
        raise ArithmeticError(
            f"the effective sample size is {effective:.3g} of {samples}; needed: {LEAST_EFFECTIVE_SAMPLES}, by more "
            "samples, or starts nearer the modes"
        )
    return integrator, effective


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite is refused at the end
def perturbed_density(
    delta: Float[ndarray, "d m"],
    W: Float[ndarray, "d m"],
    b: Float[ndarray, " m"],
    activation: str | Activation = "relu",
    log_density: LogDensity | Gaussian | None = None,
    *,
    starts: Float[ndarray, "k d"] | None = None,
    method: str = "auto",
    samples: int = 32768,
    seed: int = 0,
) -> PerturbedDensity:
    """p_hat = e^-I p / Z with its normaliser and its divergences from p, and an error for each.

    Args:
        delta: (d, m), admissible where the activation is linear, otherwise delta_j = c_j w_j wherever w_j is not 0.
        W: (d, m).
        b: (m,), U^T e.
        activation: its name, or an Activation.
        log_density: log p up to a constant, of points (n, d), or a Gaussian p; N(0, I) where None. p is the law of
            what the model reads, at time t that of x_t.
        starts: (k, d), where modes of p and p_hat are looked for; one near each mode of a mixture. The origin where
            None; a Gaussian has its own.
        method: "quadrature" (d up to 3), "importance sampling", or "auto", quadrature where it can be had.
        samples, seed: of the importance sampling.

    Raises:
        ValueError: an argument that is not as above; a delta whose field is not known to be a gradient.
        NotNormalizableError: e^-I p has no finite integral, where that is seen: I + A, or C^-1 + A for p = N(mu, C),
            not positive definite (linear activation), or a ray along which it does not fall off (a ValueError).
        ArithmeticError: the integrals do not settle, or the effective sample size is too small.
    """
    potential = potential_of(delta, W, b, activation)
    W, b = arguments.matrix("W", W), arguments.vector("b", b)
    d = W.shape[0]
    gaussian: Gaussian | None = None
    if isinstance(log_density, Gaussian):
        gaussian = log_density
        perturbations.checked_density(gaussian, d, "log_density")
        if starts is not None:
            raise ValueError("starts is given for a Gaussian log_density; allowed: None, since its mode is known")
        starts, log_density = gaussian.mean[None, :], gaussian.log_density
    starts = np.zeros((1, d)) if starts is None else arguments.matrix("starts", starts, None, d)
    arguments.choice("method", method, ("auto", "quadrature", "importance sampling"))
    samples, seed = arguments.count("samples", samples), arguments.count("seed", seed, 0)
    if method == "quadrature" and d not in TOLERANCES:
        raise ValueError(f"method is 'quadrature' for d = {d}; allowed: 'importance sampling', or d up to 3")
    if (log_density is None or gaussian is not None) and activation_of(activation) is ACTIVATIONS["linear"]:
        perturbations.spectrum(delta, W, b, gaussian)  # refuses exactly what is not normalisable
    prior = standard_normal if log_density is None else checked_log_density(log_density, starts)

    def perturbed(x: ndarray) -> ndarray:
        return prior(x) - potential(x)

    standard = [Peak(np.zeros(d), np.eye(d))]
    prior_peaks = standard if log_density is None else [find_peak(prior, start) for start in starts]
    main = max(prior_peaks, key=lambda peak: float(prior(peak.mode)))
    ray = unnormalisable_ray(perturbed, main, W.T)
    if ray is not None:
        raise NotNormalizableError(
            f"not normalisable: e^-I p does not fall off along x = {ray.tolist()}; allowed: a delta small enough that "
            "it does, such as |delta| |W| L < m for an L-Lipschitz activation and p = N(0, I)"
        )
    peaks = [*prior_peaks, *(find_peak(perturbed, peak.mode) for peak in prior_peaks)]
    by_quadrature = method != "importance sampling" and d in TOLERANCES
    integrator: Integrator
    if by_quadrature:
        kinks = (-b / W[0])[np.abs(W[0]) > SHORTEST] if d == 1 else np.zeros(0)
        integrator, effective = Quadrature([main, *peaks], kinks), float("inf")
    else:
        integrator, effective = _sampler(peaks, [prior, perturbed], samples, seed)
    integrals = _divergences(
        prior, potential, integrator, [main, *peaks], normalised=log_density is None or gaussian is not None
    )
    return PerturbedDensity(
        dimension=d,
        log_normaliser=integrals.log_normaliser.value,
        error=integrals.log_normaliser.error,
        kl=integrals.kl,
        reverse_kl=integrals.reverse_kl,
        method="quadrature" if by_quadrature else "importance sampling",
        effective_samples=effective,
        _potential=potential,
        _log_prior=lambda x: prior(x) - integrals.log_mass,
        _integrator=integrator,
        _peak=peaks[-1],
    )
