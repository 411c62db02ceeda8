import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import ndarray
from scipy import special, stats

from theory.model import integration, perturbations
from theory.model.gaussians import Gaussian
from theory.model.perturbations import NotNormalizableError
from theory.model.perturbed_density import PerturbedDensity, perturbed_density, potential_of
from theory.model.random_features import ACTIVATIONS
from theory.proof import strategies

STANDARD_ERRORS = 5
"""Slack for sampled numbers; the seeds are fixed."""


def _of(*arguments: Any, **options: Any) -> PerturbedDensity:
    """`perturbed_density` of plain lists."""
    return perturbed_density(*arguments, **options)


def _linear_instance(d: int, m: int, size: float) -> strategies.Perturbed:
    rng = np.random.default_rng(d)
    W, b = rng.standard_normal((d, m)), rng.standard_normal(m)
    delta = strategies.scaled_to_norm(perturbations.project_admissible(rng.standard_normal((d, m)), W), W, size)
    return strategies.Perturbed(W, b, delta)


def _errors(density: PerturbedDensity, instance: strategies.Perturbed) -> list[tuple[float, float]]:
    """(|found - closed form|, estimated error) for everything that has a closed form: linear, p = N(0, I)."""
    truth = perturbations.perturbed_noise(instance.delta, instance.W, instance.b)
    x = np.linspace(-1, 1, 3 * instance.d).reshape(3, instance.d)
    moments = density.moments
    pairs = [(density.log_density(point) - truth.log_density(point), density.error) for point in x]
    for name, estimate in (("kl", density.kl), ("reverse_kl", density.reverse_kl)):
        divergence = perturbations.perturbation_divergence(instance.delta, instance.W, instance.b, name)
        pairs.append((estimate.value - divergence, estimate.error))
    pairs += zip((moments.mean - truth.mean).ravel(), moments.mean_error.ravel(), strict=True)
    pairs += zip((moments.covariance - truth.covariance).ravel(), moments.covariance_error.ravel(), strict=True)
    return [(abs(float(difference)), float(error)) for difference, error in pairs]


@pytest.mark.parametrize("size", [1e-6, 0.5, 0.99, 0.999])
@pytest.mark.parametrize("d", [1, 2])
def test_quadrature_meets_the_gaussian_closed_form(d: int, size: float) -> None:
    instance = _linear_instance(d, d + 1, size)
    density = perturbed_density(instance.delta, instance.W, instance.b, "linear")
    assert density.method == "quadrature"
    for difference, error in _errors(density, instance):
        assert difference <= error + 1e-14  # roundings of numbers of order 1 beside the estimated error
    assert density.kl.error < 1e-4 * density.kl.value  # relative precision for small delta too


def test_quadrature_in_three_dimensions() -> None:
    instance = _linear_instance(3, 2, 0.5)
    density = perturbed_density(instance.delta, instance.W, instance.b, "linear")
    truth = perturbations.perturbation_divergence(instance.delta, instance.W, instance.b)
    assert abs(density.kl.value - truth) <= density.kl.error < 0.02 * truth


@pytest.mark.parametrize(("d", "size"), [(1, 0.9), (4, 1e-4), (4, 0.5), (8, 0.9), (20, 0.5)])
def test_sampling_meets_the_gaussian_closed_form(d: int, size: float) -> None:
    instance = _linear_instance(d, d + 3, size)
    density = perturbed_density(instance.delta, instance.W, instance.b, "linear", method="importance sampling", seed=1)
    assert density.effective_samples > 1000
    for difference, error in _errors(density, instance):
        assert difference <= STANDARD_ERRORS * error
    assert density.kl.error < 0.05 * density.kl.value


def test_sampling_is_a_function_of_the_seed() -> None:
    instance = _linear_instance(4, 5, 0.5)
    runs = [perturbed_density(instance.delta, instance.W, instance.b, "linear", seed=seed) for seed in (3, 3, 4)]
    assert runs[0].kl == runs[1].kl
    assert runs[0].kl != runs[2].kl


def _relu_closed_form(c: float, w: float, b: float) -> tuple[float, float]:
    """(E_p[I], log Z) for d = m = 1, I = c [relu(w x + b)^2 - relu(b)^2] / 2 and w > 0: truncated normal integrals."""
    # E[relu(w x + b)^2] for x ~ N(0, 1)
    second = (w**2 + b**2) * special.ndtr(b / w) + b * w * stats.norm.pdf(b / w)
    origin = c * max(b, 0) ** 2 / 2
    # on x > -b/w the density gains the factor exp(-c (w x + b)^2 / 2): complete the square
    precision, mean = 1 + c * w**2, -c * w * b / (1 + c * w**2)
    root = math.sqrt(precision)
    inside = math.exp(-c * b**2 / 2 + precision * mean**2 / 2) / root * special.ndtr((mean + b / w) * root)
    return c * second / 2 - origin, math.log(special.ndtr(-b / w) + inside) + origin


@pytest.mark.parametrize("b", [-1.3, 0.0, 0.7])
@pytest.mark.parametrize("c", [-0.2, 0.5, 40.0])
def test_relu_in_one_dimension(c: float, b: float) -> None:
    w = 1.5
    density = _of([[c * w]], [[w]], [b])
    mean, log_normaliser = _relu_closed_form(c, w, b)
    assert abs(density.log_normaliser - log_normaliser) <= density.error < 1e-7
    assert abs(density.kl.value - mean - log_normaliser) <= density.kl.error < 1e-7


def test_relu_pinned() -> None:
    density = _of([[1.0]], [[1.0]], [0.0])
    assert density.kl.value == pytest.approx(0.25 + math.log((1 + 2**-0.5) / 2), abs=density.kl.error)
    assert density.kl.value == pytest.approx(0.09165, abs=5e-6)  # five digits are given


def test_relu_in_two_dimensions_factorises() -> None:
    """W = I: p_hat is a product, so divergences and log normalisers add."""
    c, b = np.array([0.8, -0.9]), np.array([0.3, -0.5])
    density = perturbed_density(np.diag(c), np.eye(2), b)
    parts = [_relu_closed_form(c_j / 2, 1.0, b_j) for c_j, b_j in zip(c, b, strict=True)]
    assert abs(density.log_normaliser - sum(log for _, log in parts)) <= density.error < 1e-5
    assert abs(density.kl.value - sum(mean + log for mean, log in parts)) <= density.kl.error < 1e-5


def test_sampling_agrees_with_quadrature_for_relu() -> None:
    rng = np.random.default_rng(5)
    W, b = rng.standard_normal((2, 4)), rng.standard_normal(4)
    delta = W * rng.uniform(-0.5, 1, 4)
    exact = perturbed_density(delta, W, b)
    sampled = perturbed_density(delta, W, b, method="importance sampling")
    assert abs(sampled.kl.value - exact.kl.value) <= STANDARD_ERRORS * sampled.kl.error
    assert abs(sampled.log_normaliser - exact.log_normaliser) <= STANDARD_ERRORS * sampled.error


MEANS, WEIGHTS, WIDTH = np.array([[-30.0], [0.0], [4.0]]), np.array([0.5, 0.2, 0.3]), 0.3


def _mixture(x: ndarray) -> ndarray:
    """Log density of a Gaussian mixture, up to a constant."""
    return special.logsumexp(-((x - MEANS[:, 0]) ** 2) / (2 * WIDTH**2), axis=1, b=WEIGHTS) + 7.0


def test_gaussian_mixture() -> None:
    """Linear: each component of e^-I p is Gaussian again."""
    A, c = 0.4, -0.7
    density = _of([[A]], [[1.0]], [c / A], "linear", _mixture, starts=MEANS)
    mean = float(WEIGHTS @ (A * (MEANS[:, 0] ** 2 + WIDTH**2) / 2 + c * MEANS[:, 0]))
    precision = 1 / WIDTH**2 + A
    shifted = MEANS[:, 0] / WIDTH**2 - c
    logs = -(MEANS[:, 0] ** 2) / (2 * WIDTH**2) + shifted**2 / (2 * precision) - math.log(WIDTH**2 * precision) / 2
    log_normaliser = float(special.logsumexp(logs, b=WEIGHTS))
    assert abs(density.log_normaliser - log_normaliser) <= density.error < 1e-5
    assert density.kl.value == pytest.approx(mean + log_normaliser, rel=1e-9)  # ten digits are asked
    posterior = WEIGHTS * np.exp(logs - log_normaliser)
    assert density.moments.mean[0] == pytest.approx(float(posterior @ shifted / precision), abs=1e-6)


def test_any_activation_against_a_plain_sum() -> None:
    """Every activation, against a trapezoidal sum, which for these integrands converges faster than any power."""
    x = np.linspace(-14, 14, 20001)[:, None]
    p = np.exp(-(x[:, 0] ** 2) / 2) / math.sqrt(2 * math.pi) * (x[1, 0] - x[0, 0])
    W, b, delta = np.array([[1.2, -0.7]]), np.array([0.4, 0.9]), np.array([[0.5, 0.6]])
    for sigma in ACTIVATIONS.values():
        field = sigma(x @ W + b) @ delta[0] / 2
        potential = np.concatenate([[0], np.cumsum((field[1:] + field[:-1]) / 2 * np.diff(x[:, 0]))])
        kl = p @ potential + math.log(p @ np.exp(-potential))
        density = perturbed_density(delta, W, b, sigma)
        # the potential by the trapezoidal rule: error x_max h^2 sup|field''| / 12, h = 0.0014
        assert density.kl.value == pytest.approx(kl, abs=1e-5), sigma.name
        assert density.potential(np.zeros(1)) == pytest.approx(0, abs=1e-15)


@given(
    name=st.sampled_from(sorted(ACTIVATIONS)),
    d=st.integers(1, 5),
    m=st.integers(1, 8),
    seed=strategies.seeds,
)
def test_the_potential_has_the_field_as_gradient(name: str, d: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    W, b = rng.standard_normal((d, m)), rng.standard_normal(m)
    W[:, rng.random(m) < 0.2] = 0  # there delta_j is free
    delta = np.where((W == 0).all(axis=0), rng.standard_normal((d, m)), 0.05 * W * rng.standard_normal(m))
    potential = potential_of(delta, W, b, name)
    x, h = rng.standard_normal(d), 1e-5
    slopes = [(potential(x + h * e) - potential(x - h * e)) / (2 * h) for e in np.eye(d)]
    field = delta @ ACTIVATIONS[name](W.T @ x + b) / m
    # differences: rounding eps |I| / h, and at a kink of sigma within reach h times the jump of sigma'
    assert np.abs(slopes - field).max() <= 1e-9 + h * float(np.abs(delta).max() * np.abs(W).max())


def test_a_potential_with_a_wrong_sign_would_be_seen() -> None:
    """The divergences are not symmetric in delta, so a flipped sign cannot pass for the right one."""
    one, other = (_of([[c]], [[1.0]], [0.0]) for c in (0.5, -0.5))
    assert abs(one.kl.value - other.kl.value) > 1e6 * (one.kl.error + other.kl.error)


@pytest.mark.parametrize(
    ("delta", "W", "b", "activation", "density"),
    [
        ([[-1.0]], [[1.0]], [0.0], "linear", None),
        ([[-1.01]], [[1.0]], [0.0], "relu", None),
        ([[-1.0]], [[1.0]], [0.1], "relu", None),  # Q = 0 on the right, and the linear term rises there
        ([[-1.1, 0.0], [0.0, 0.3]], np.eye(2) * 2, [5.0, 0.0], "softplus", None),
        (np.diag([0.5, 0.5, -4.1]), np.eye(3), [0.0, 0.0, -9.0], "gelu", None),
        (-1.2 * np.eye(6), 6 * np.eye(6), np.zeros(6), "leaky_relu", None),
        ([[-1.0]], [[1.0]], [0.0], "tanh", lambda x: -np.abs(x[:, 0])),  # Laplace; I falls like -|x|
        ([[-0.5]], [[1.0]], [0.0], "linear", lambda x: -np.log1p(x[:, 0] ** 2)),  # Cauchy
    ],
)
def test_not_normalisable(delta: Any, W: Any, b: Any, activation: str, density: Any) -> None:
    with pytest.raises(NotNormalizableError, match="not normalisable"):
        perturbed_density(delta, W, b, activation, density)


def test_just_normalisable() -> None:
    density = _of([[-0.999]], [[1.0]], [0.0])
    assert abs(density.log_normaliser - _relu_closed_form(-0.999, 1.0, 0.0)[1]) <= density.error < 1e-6
    assert _of([[-0.9]], [[1.0]], [0.0], "tanh", lambda x: -np.abs(x[:, 0])).kl.value > 0


def test_an_infinite_expectation_is_refused() -> None:
    """p Cauchy, I = x^2/4: e^-I p is normalisable, but E_p[I] and with it KL(p || p_hat) are infinite."""
    with pytest.raises(ArithmeticError, match="do not settle"):
        _of([[0.5]], [[1.0]], [0.0], "linear", lambda x: -np.log1p(x[:, 0] ** 2))


def test_a_poor_proposal_is_refused() -> None:
    """p on a thin shell in d = 8: no proposal around a mode comes near the rest of it."""

    def shell(x: ndarray) -> ndarray:
        return -1e4 * ((x**2).sum(axis=1) - 1) ** 2

    with pytest.raises(ArithmeticError, match="effective sample size is"):
        _of(np.zeros((8, 1)), np.ones((8, 1)), [0.0], "tanh", shell, starts=np.eye(8)[:1])


W, DELTA, B = np.array([[1.0, 0.5], [0.2, 1.0]]), np.array([[0.1, 0.1], [0.02, 0.2]]), np.array([0.3, -1.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"delta": [[0.1, 0.1], [0.02, 0.3]]}, "delta is .*allowed for the activation 'relu': delta_j = c_j w_j"),
        ({"delta": [[0.0, 1.0], [0.0, 0.0]], "activation": "linear"}, "delta is .*symmetric, for the linear"),
        ({"delta": [[1.0]]}, r"delta has shape \(1, 1\)"),
        ({"W": [[1.0, np.nan], [0.0, 1.0]]}, "W has entries that are not finite"),
        ({"b": [0.0]}, r"b has shape \(1,\)"),
        ({"activation": "swish"}, "activation is 'swish'"),
        ({"log_density": 3}, "log_density is 3; allowed: a function"),
        ({"log_density": lambda x: x}, "log_density gives .*one number"),
        ({"log_density": lambda x: np.full(len(x), np.nan)}, "log_density gives"),
        (
            {"log_density": lambda x: np.where(x[:, 0] > 1, -x.sum(axis=1), -np.inf)},
            "starts is .*log_density is finite",
        ),
        ({"starts": [0.0, 0.0]}, r"starts has shape \(2,\)"),
        ({"method": "guess"}, "method is 'guess'"),
        ({"samples": 0}, "samples is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        perturbed_density(**({"delta": DELTA, "W": W, "b": B} | change))


def test_quadrature_has_its_dimensions() -> None:
    with pytest.raises(ValueError, match="method is 'quadrature' for d = 4"):
        _of(np.zeros((4, 1)), np.zeros((4, 1)), [0.0], method="quadrature")
    with pytest.raises(ValueError, match="x has shape"):
        perturbed_density(DELTA, W, B).log_density(np.zeros(3))


EXTREMES = st.sampled_from([0.0, 1.0, -2.0, 0.3, 1e60, -1e60, 1e-60, 1e-300, 5e-324])


@given(values=st.tuples(*[EXTREMES] * 6), activation=st.sampled_from(sorted(ACTIVATIONS)))
@settings(max_examples=60)
def test_extreme_numbers_are_refused_or_harmless(values: tuple[float, ...], activation: str) -> None:
    W, b, c = np.array([values[:2]]), np.array(values[2:4]), np.array(values[4:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            density = perturbed_density(c * np.sign(W), W, b, activation)
        except (ValueError, ArithmeticError) as error:
            refusal, numbers = str(error), [0.0]
        else:
            refusal, numbers = "", [density.log_normaliser, density.error, *density.kl, *density.reverse_kl]
    assert not refusal or any(word in refusal for word in ("delta", "not normalisable", "settle", "mode"))
    assert np.isfinite(numbers).all()


def test_both_integrators_integrate_a_gaussian() -> None:
    truth = Gaussian(np.array([3.0, -1.0]), np.array([[2.0, 0.9], [0.9, 0.5]]))
    peak = integration.find_peak(truth.log_density, np.zeros(2))
    assert peak.mode == pytest.approx(truth.mean, abs=1e-4)
    assert peak.scale @ peak.scale.T == pytest.approx(truth.covariance, rel=1e-6)  # second differences are exact here

    def integrand(x: ndarray, log_weight: ndarray) -> ndarray:
        density = np.exp(truth.log_density(x) + log_weight)
        return density[:, None] * np.concatenate([np.ones((len(x), 1)), x + 5], axis=1)

    for integrator, slack in (
        (integration.Quadrature([peak], np.zeros(0)), 1),
        (integration.ImportanceSampling([peak], 20000, 0), STANDARD_ERRORS),
    ):
        values, errors = integrator(integrand)
        assert (np.abs(values - [1, 8, 4]) <= slack * errors).all()
