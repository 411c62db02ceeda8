import numpy as np
import pytest

from theory.claims.equations_1_to_8_diffusion import MEAN, PRINTED_MEAN, STATEMENTS, VARIANCE, at, linear_schedule
from theory.proof.statement import Evidence
from theory.proof.testing import every_evidence, require


@every_evidence(*STATEMENTS)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


@pytest.mark.parametrize("t", [2, 500, 1000])
def test_the_posterior_by_gaussian_conditioning(t: int) -> None:
    """From the joint covariance of x_{t-1} and x_t given x_0, in floats, on DDPM's schedule."""
    betas = np.array([float(beta) for beta in linear_schedule()])
    bars = np.cumprod(1 - betas)
    alpha, before, data, noisy = 1 - betas[t - 1], bars[t - 2], 0.7, -0.4
    variance, covariance = 1 - before, np.sqrt(alpha) * (1 - before)
    whole = alpha * variance + betas[t - 1]
    mean = np.sqrt(before) * data + covariance / whole * (noisy - np.sqrt(alpha * before) * data)
    assert float(at(MEAN, alpha, before, data, noisy)) == pytest.approx(mean, rel=1e-9)
    assert float(at(VARIANCE, alpha, before)) == pytest.approx(variance - covariance**2 / whole, rel=1e-9)
    if t > 2:  # at the first steps alphabar is nearly 1, and the slip nearly nothing
        assert float(at(PRINTED_MEAN, alpha, before, data, noisy)) != pytest.approx(mean, rel=1e-1)


def test_the_schedule_is_ddpm_s() -> None:
    schedule = linear_schedule()
    assert (len(schedule), float(schedule[0]), float(schedule[-1])) == (1000, 1e-4, 0.02)
