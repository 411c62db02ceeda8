"""What minibatches add to a minimum: the gradient's size, the noise of the last iterate, and what averages keep of it.

The loss is quadratic, L(w) = L* + (w - w*)^T H (w - w*) / 2, and so are its batches' losses: L_B = the mean of B
samples' losses, drawn independently, each with a Hessian H_i and a gradient g_i at w*, E g_i = 0. SGD at a constant
rate eta then has a stationary law whose covariance solves a linear equation exactly (Theorem T12); where every sample
has the same Hessian that is the Lyapunov equation H S + S H - eta H S H = eta C, C = Cov(grad L_B) at w*.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import linalg

from theory.model import arguments

SYMMETRY_TOLERANCE = 1e-8
"""Relative asymmetry accepted in a Hessian: what rounding leaves in a product of matrices, with a wide margin."""


def _symmetric(name: str, value: object, size: int | None = None) -> ndarray:
    given = arguments.matrix(name, value, size, size)
    if given.shape[0] != given.shape[1]:
        raise ValueError(f"{name} has shape {given.shape}; allowed: a square matrix")
    asymmetry, largest = np.abs(given - given.T).max(), np.abs(given).max()
    if asymmetry > SYMMETRY_TOLERANCE * largest:
        raise ValueError(f"{name} differs from its transpose by {asymmetry:.3g}; allowed: a symmetric matrix")
    return (given + given.T) / 2


def gradient_second_moment(residuals: Float[ndarray, "n d"], features: Float[ndarray, "n m"], batch: int = 1) -> float:
    """E|grad_theta L_B|^2 of a linear readout, over batches of independent draws from n equally likely samples.

    A sample's loss is |r|^2 with r = theta phi / m - y, so its gradient is 2 r phi^T / m. At a minimum over theta this
    is (4 / (m^2 B)) E|r|^2 |phi|^2 (Theorem T12); elsewhere |grad L|^2 (1 - 1/B) comes on top of it.

    Args:
        residuals: (n, d), r of every sample.
        features: (n, m), phi of every sample.
        batch: B.

    Raises:
        ValueError: an argument is not as above.
    """
    residuals = arguments.matrix("residuals", residuals)
    features = arguments.matrix("features", features, rows=residuals.shape[0])
    batch = arguments.count("batch", batch)
    count, width = features.shape
    single = float(((residuals**2).sum(axis=1) * (features**2).sum(axis=1)).mean())
    mean = residuals.T @ features / count
    return 4 / width**2 * (single / batch + (1 - 1 / batch) * float((mean**2).sum()))


def sam_dose(radius: float, gradient_norm: float, loss: float) -> float:
    """rho E|grad L_B| / L: what first-order SAM adds to the loss, as a share of the loss; a number without unit.

    Args:
        radius: SAM's rho, at least 0.
        gradient_norm: E|grad L_B|, over the batches that SAM ascends on and the weights that it moves.
        loss: L, above 0.

    Raises:
        ValueError: an argument is not as above.
    """
    radius = arguments.scalar("radius", radius, at_least=0)
    norm = arguments.scalar("gradient_norm", gradient_norm, at_least=0)
    return radius * norm / arguments.scalar("loss", loss, above=0)


def matched_noise(radius: float, gradient_norm: float, rise_per_variance: float) -> float:
    """The deviation s of weight noise that presses on the features' scale as SAM of this radius does (Theorem T12).

    Along a common scale a of the features SAM's penalty rho E|grad L_B| is of degree 1 and noise's s^2 R of degree 2,
    so both have one slope where s^2 = rho E|grad L_B| / (2 R).

    Args:
        radius, gradient_norm: as `sam_dose` takes them.
        rise_per_variance: R, the loss's rise under noise over the noise's variance; (d / m^2) E|phi|^2 for a readout.

    Raises:
        ValueError: a negative number, or a rise_per_variance that is not above 0.
    """
    penalty = sam_dose(radius, gradient_norm, 1.0)
    return float(np.sqrt(penalty / (2 * arguments.scalar("rise_per_variance", rise_per_variance, above=0))))


def stationary_covariance(
    hessian: Float[ndarray, "k k"], noise: Float[ndarray, "k k"], rate: float
) -> Float[ndarray, "k k"]:
    """The covariance S of w under w <- w - eta (H (w - w*) + xi), Cov xi = C: H S + S H - eta H S H = eta C.

    Args:
        hessian: (k, k), H, symmetric, every eigenvalue above 0.
        noise: (k, k), C, symmetric.
        rate: eta, above 0 and below 2 / lambda_max(H).

    Raises:
        ValueError: an argument is not as above; at other rates and Hessians there is no stationary law.
    """
    hessian = _symmetric("hessian", hessian)
    noise = _symmetric("noise", noise, hessian.shape[0])
    rate = arguments.scalar("rate", rate, above=0)
    curvatures, basis = linalg.eigh(hessian)
    lowest = np.finfo(float).eps * len(curvatures) * np.abs(curvatures).max()
    if not curvatures[0] > lowest:
        raise ValueError(f"hessian has eigenvalue {curvatures[0]:.6g}; allowed: eigenvalues above 0, beyond rounding")
    if not rate * curvatures[-1] < 2:
        raise ValueError(f"rate is {rate:g}; allowed: below 2 / lambda_max(hessian) = {2 / curvatures[-1]:.6g}")
    sums = curvatures[:, None] + curvatures - rate * np.outer(curvatures, curvatures)
    covariance = basis @ (rate * (basis.T @ noise @ basis) / sums) @ basis.T
    return (covariance + covariance.T) / 2


class SGD(NamedTuple):
    """Stationary SGD on quadratic losses of single samples.

    Attributes:
        hessian: (k, k), H, the mean of the samples'.
        mean_square: (k, k), E[H_B^2] = H^2 + (E H_i^2 - H^2) / B.
        noise: (k, k), C = Cov(grad L_B) at the minimum.
        covariance: (k, k), of w about w*.
    """

    hessian: Float[ndarray, "k k"]
    mean_square: Float[ndarray, "k k"]
    noise: Float[ndarray, "k k"]
    covariance: Float[ndarray, "k k"]

    @property
    def excess(self) -> float:
        """E L(w) - L* = tr(H S) / 2, also (eta / 4) (tr C + tr(E[H_B^2] S))."""
        return float(np.trace(self.hessian @ self.covariance)) / 2


def stationary_sgd(
    hessians: Float[ndarray, "n k k"], gradients: Float[ndarray, "n k"], rate: float, batch: int = 1
) -> SGD:
    """The stationary law of SGD at a constant rate, exactly, when batches are independent draws from n samples.

    Args:
        hessians: (n, k, k), of every sample's loss; each symmetric.
        gradients: (n, k), at the minimum w*; their mean is 0.
        rate: eta, above 0, small enough for the second moments to have a limit.
        batch: B.

    Raises:
        ValueError: an argument is not as above.
    """
    gradients = arguments.matrix("gradients", gradients)
    count, size = gradients.shape
    stack = arguments.points("hessians", hessians, size)
    if stack.shape != (count, size, size):
        raise ValueError(f"hessians has shape {stack.shape}; allowed: {(count, size, size)}, one for every gradient")
    stack = np.stack([_symmetric("hessians", one) for one in stack])
    rate, batch = arguments.scalar("rate", rate, above=0), arguments.count("batch", batch)
    drift = np.abs(gradients.mean(axis=0)).max()
    if drift > 1e-9 * np.abs(gradients).max():
        raise ValueError(f"gradients have a mean of {drift:.3g}; allowed: the gradients at a minimum, of mean 0")
    mean = stack.mean(axis=0)
    noise = gradients.T @ gradients / count / batch
    squares = np.einsum("nij,njk->ik", stack, stack) / count
    pairs = np.einsum("nij,nkl->ikjl", stack, stack).reshape(size**2, size**2) / count  # S -> E[H_i S H_i]
    whole = np.einsum("ij,kl->ikjl", mean, mean).reshape(size**2, size**2)
    identity = np.eye(size)
    linear = np.einsum("ij,kl->ikjl", mean, identity) + np.einsum("ij,kl->ikjl", identity, mean)
    step = linear.reshape(size**2, size**2) - rate * (whole + (pairs - whole) / batch)
    growth = np.abs(np.linalg.eigvals(np.eye(size**2) - rate * step)).max()
    if not growth < 1 - 1e-12:
        raise ValueError(f"rate is {rate:g}, which multiplies second moments by {growth:.6g} a step; allowed: below 1")
    second_moment = np.linalg.solve(step, rate * noise.ravel()).reshape(size, size)
    return SGD(mean, mean @ mean + (squares - mean @ mean) / batch, noise, (second_moment + second_moment.T) / 2)


def _contraction(curvature: object, rate: object) -> ndarray:
    """1 - eta h, within (-1, 1)."""
    rate = arguments.scalar("rate", rate, above=0)
    curvatures = arguments.numbers("curvature", curvature)
    if not (curvatures.min() > 0 and rate * curvatures.max() < 2):
        raise ValueError(f"curvature is {curvature}; allowed: above 0 and below 2 / rate = {2 / rate:g}")
    return 1 - rate * curvatures


def ema_share(curvature: Float[ndarray, "*k"], rate: float, decay: float) -> Float[ndarray, "*k"]:
    """The share of the iterates' variance that an exponential moving average keeps, along directions of curvature h.

    With a = 1 - eta h and lambda = 1 - decay: lambda (1 + decay a) / ((2 - lambda) (1 - decay a)), which is
    lambda / (lambda + eta h) where both rates are small (Theorem T12).

    Args:
        curvature: h, an eigenvalue of H or several, each above 0 and below 2 / rate.
        rate: eta of SGD.
        decay: of v <- decay v + (1 - decay) w after every step, from 0 (the iterate itself) to below 1.

    Raises:
        ValueError: an argument is not as above.
    """
    contraction = _contraction(curvature, rate)
    decay = arguments.scalar("decay", decay, at_least=0)
    if not decay < 1:
        raise ValueError(f"decay is {decay:g}; allowed: from 0 to below 1")
    return (1 - decay) * (1 + decay * contraction) / ((1 + decay) * (1 - decay * contraction))


def swa_share(curvature: Float[ndarray, "*k"], rate: float, count: int, every: int = 1) -> Float[ndarray, "*k"]:
    """The same of the plain mean of the last `count` iterates, `every` steps apart.

    Raises:
        ValueError: an argument is not as `ema_share` says, or a count or every below 1.
    """
    count, every = arguments.count("count", count), arguments.count("every", every)
    apart = _contraction(curvature, rate) ** every
    lags = np.arange(1, count)
    sums = ((count - lags) * apart[..., None] ** lags).sum(axis=-1)
    return (count + 2 * sums) / count**2


def averaged_excess(
    hessian: Float[ndarray, "k k"], covariance: Float[ndarray, "k k"], share: Float[ndarray, " k"] | float = 1.0
) -> float:
    """E L(v) - L* of an average v that keeps these shares of w's variance along H's eigenvectors; of w itself for 1.

    Args:
        hessian: (k, k), H, symmetric.
        covariance: (k, k), of w about w*.
        share: (k,), in the order of rising eigenvalues (`ema_share(numpy.linalg.eigvalsh(hessian), ...)`), or a number.

    Raises:
        ValueError: an argument is not as above.
    """
    hessian = _symmetric("hessian", hessian)
    covariance = _symmetric("covariance", covariance, hessian.shape[0])
    curvatures, basis = linalg.eigh(hessian)
    if isinstance(share, int | float):
        shares = np.full(len(curvatures), arguments.scalar("share", share))
    else:
        shares = arguments.vector("share", share, len(basis))
    variances = np.einsum("ji,jk,ki->i", basis, covariance, basis)
    return float((curvatures * variances * shares).sum()) / 2
