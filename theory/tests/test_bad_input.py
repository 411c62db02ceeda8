"""Malformed input to every public function: a ValueError that names an argument, or a result without NaN."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from importlib import import_module
from inspect import signature
from types import FunctionType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import theory
from theory.model import (
    divergences,
    gaussians,
    likelihood,
    pac_bayes,
    path_norm,
    perturbations,
    perturbed_density,
    random_features,
    sampling,
    smoothed_relu,
    spectral_ball,
    step_noise,
    worst_case,
)

W = np.array([[1.0, 0.5, -0.3], [0.2, 1.0, 0.4]])
DELTA = perturbations.project_admissible(np.array([[0.1, 0.2, 0.3], [0.0, -0.1, 0.2]]), W)
B = np.array([0.3, -1.0, 2.0])
E = np.array([1.0, -1.0])
U = np.ones((2, 3))
BARS = np.array([0.9, 0.5, 0.1])
NORMAL = gaussians.standard_normal(2)
ALONG = W * np.array([0.3, -0.2, 0.1])
"""A perturbation that is admissible for every activation."""
DENSITY = perturbed_density.perturbed_density(ALONG[:1], W[:1], B, "tanh")
SCORE = random_features.RandomFeatureScore(DELTA, W, U, "relu")
KL = divergences.DIVERGENCES["kl"]

CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "Gaussian": (gaussians.Gaussian, {"mean": np.zeros(2), "covariance": np.eye(2)}),
    "standard_normal": (gaussians.standard_normal, {"dimension": 3}),
    "Gaussian.log_density": (NORMAL.log_density, {"x": np.zeros((4, 2))}),
    "Gaussian.whiten": (NORMAL.whiten, {"vectors": np.zeros((4, 2))}),
    "Gaussian.sample": (NORMAL.sample, {"number": 3, "generator": np.random.default_rng(0)}),
    "excess": (divergences.excess, {"t": np.array([-0.5, 0.001, 3.0])}),
    "divergence_of": (divergences.divergence_of, {"divergence": "w2"}),
    "kl_divergence": (gaussians.kl_divergence, {"p": NORMAL, "q": NORMAL}),
    "squared_wasserstein": (gaussians.squared_wasserstein, {"p": NORMAL, "q": NORMAL}),
    "is_admissible": (perturbations.is_admissible, {"delta": DELTA, "W": W, "tolerance": 1e-9}),
    "project_admissible": (perturbations.project_admissible, {"delta": DELTA, "W": W}),
    "frame": (perturbations.frame, {"W": W}),
    "Frame.project": (perturbations.frame(W).project, {"delta": DELTA}),
    "whitened": (perturbations.whitened, {"W": W, "b": B, "p": NORMAL}),
    "checked_density": (perturbations.checked_density, {"p": NORMAL, "dimension": 2}),
    "diffused": (perturbations.diffused, {"data": NORMAL, "alpha_bar": 0.5}),
    "score_perturbation": (perturbations.score_perturbation, {"delta": DELTA, "alpha_bar": 0.5}),
    "admissible_basis": (perturbations.admissible_basis, {"W": W}),
    "spectrum": (perturbations.spectrum, {"delta": DELTA, "W": W, "b": B, "p": NORMAL}),
    "perturbed_noise": (perturbations.perturbed_noise, {"delta": DELTA, "W": W, "b": B, "p": NORMAL}),
    "perturbation_divergence": (
        perturbations.perturbation_divergence,
        {"delta": DELTA, "W": W, "b": B, "divergence": "kl", "p": None},
    ),
    "loss_rise": (perturbations.loss_rise, {"delta": DELTA, "W": W, "b": B}),
    "worst_case_divergence": (
        worst_case.worst_case_divergence,
        {"W": W, "b": B, "radius": 0.5, "divergence": "w2", "norm": "frobenius", "p": None},
    ),
    "worst_case_divergence, of another p": (
        worst_case.worst_case_divergence,
        {"W": W, "b": B, "radius": 0.5, "norm": "frobenius", "p": gaussians.Gaussian(E, np.diag([0.5, 2.0]))},
    ),
    "curve_maximum": (worst_case.curve_maximum, {"s": np.array([0.5, 0.2]), "beta": E, "divergence": "reverse_kl"}),
    "spectral_ball_bounds": (
        spectral_ball.spectral_ball_bounds,
        {"W": W, "b": B, "radius": 0.5, "divergence": "kl", "inside": DELTA},
    ),
    "perturbed_density": (
        perturbed_density.perturbed_density,
        {
            "delta": ALONG[:1],
            "W": W[:1],
            "b": B,
            "activation": "relu",
            "log_density": None,
            "starts": None,
            "method": "auto",
            "samples": 1000,
            "seed": 0,
        },
    ),
    "PerturbedDensity.potential": (DENSITY.potential, {"x": np.zeros((4, 1))}),
    "PerturbedDensity.log_density": (DENSITY.log_density, {"x": np.zeros((4, 1))}),
    "worst_case_divergence, spectral": (
        worst_case.worst_case_divergence,
        {"W": W, "b": B, "radius": 0.5, "divergence": "kl", "norm": "spectral"},
    ),
    "gap_radius": (perturbations.gap_radius, {"kappa": 0.5, "divergence": "kl"}),
    "flat_radius": (perturbations.flat_radius, {"G": np.eye(3), "kappa": 0.5}),
    "RandomFeatureScore": (
        random_features.RandomFeatureScore,
        {"theta": DELTA, "W": W, "U": U, "activation": "tanh"},
    ),
    "RandomFeatureScore.__call__": (SCORE.__call__, {"x": np.zeros((4, 2)), "e": E}),
    "RandomFeatureScore.features": (SCORE.features, {"x": np.zeros((4, 2)), "e": E}),
    "RandomFeatureScore.bias": (SCORE.bias, {"e": E}),
    "smoothed_relu": (smoothed_relu.smoothed_relu, {"mean": B, "deviation": np.ones(3)}),
    "two_layer_low_pass_filter": (
        smoothed_relu.two_layer_low_pass_filter,
        {
            "theta": DELTA,
            "W": W,
            "b": B,
            "x": np.eye(2),
            "y": U[:, :2],
            "theta_noise": 0.1,
            "W_noise": 0.2,
            "extra": 1.0,
        },
    ),
    "gaussian_divergence": (
        pac_bayes.gaussian_divergence,
        {"squared_distance": 2.0, "weights": 10, "deviation": 0.1, "prior_deviation": 1.0},
    ),
    "binary_divergence": (pac_bayes.binary_divergence, {"q": 0.1, "p": 0.4}),
    "pac_bayes_bound": (
        pac_bayes.pac_bayes_bound,
        {"empirical": 0.2, "divergence": 5.0, "samples": 100, "clip": 1.0, "failure": 0.05},
    ),
    "least_noise_share": (pac_bayes.least_noise_share, {"weights": 100, "samples": 1000, "budget": 0.5}),
    "relu_moments": (path_norm.relu_moments, {"W": W, "b": B, "x": None, "extra": 0.5}),
    "path_norm": (path_norm.path_norm, {"theta": DELTA, "W": W}),
    "gauss_newton_trace": (
        path_norm.gauss_newton_trace,
        {"theta": DELTA, "W": W, "b": B, "x": np.eye(2), "extra": 0.5},
    ),
    "path_flatness": (path_norm.path_flatness, {"theta": DELTA, "W": W, "b": B, "x": None, "extra": 0.5}),
    "balanced": (path_norm.balanced, {"theta": DELTA, "W": W, "b": B, "x": np.eye(2), "extra": 0.5}),
    "lipschitz_from_flatness": (path_norm.lipschitz_from_flatness, {"theta": DELTA, "W": W, "b": B, "x": None}),
    "sampler_steps": (sampling.sampler_steps, {"alpha_bar": BARS, "sampler": "ddim"}),
    "exposure_bound": (
        sampling.exposure_bound,
        {"slopes": np.ones(3), "k": BARS, "errors": BARS, "drifts": None, "start": 0.1},
    ),
    "norm_gap_bound": (sampling.norm_gap_bound, {"lipschitz": np.ones(3), "distance": BARS}),
    "sde_law": (sampling.sde_law, {"delta": DELTA, "W": W, "b": B, "time": np.inf, "start": NORMAL}),
    "ode_law": (sampling.ode_law, {"delta": DELTA, "W": W, "b": B, "time": 2.0, "start": None}),
    "schedule": (likelihood.schedule, {"alpha_bar": BARS}),
    "reverse_variances": (likelihood.reverse_variances, {"alpha_bar": BARS, "variances": "large"}),
    "likelihood_weights": (likelihood.likelihood_weights, {"alpha_bar": BARS, "variances": np.ones(3)}),
    "likelihood_rise": (likelihood.likelihood_rise, {"rises": np.ones(3), "weights": BARS}),
    "readout_rise": (
        likelihood.readout_rise,
        {"variance": 0.1, "energies": np.ones(3), "weights": BARS, "d": 2, "m": 4},
    ),
    "rounding_bound": (
        likelihood.rounding_bound,
        {"step": 0.1, "second_moments": np.ones((3, 2, 2)), "weights": BARS, "d": 2, "loss": 0.5},
    ),
    "bits_per_dimension": (likelihood.bits_per_dimension, {"nats": 1.0, "d": 3}),
    "gradient_second_moment": (
        step_noise.gradient_second_moment,
        {"residuals": DELTA, "features": W, "batch": 3},
    ),
    "sam_dose": (step_noise.sam_dose, {"radius": 0.1, "gradient_norm": 2.0, "loss": 0.5}),
    "matched_noise": (step_noise.matched_noise, {"radius": 0.1, "gradient_norm": 2.0, "rise_per_variance": 3.0}),
    "stationary_covariance": (
        step_noise.stationary_covariance,
        {"hessian": np.diag([1.0, 2.0]), "noise": np.eye(2), "rate": 0.1},
    ),
    "stationary_sgd": (
        step_noise.stationary_sgd,
        {"hessians": np.stack([np.eye(2), 2 * np.eye(2)]), "gradients": np.array([E, -E]), "rate": 0.1, "batch": 2},
    ),
    "ema_share": (step_noise.ema_share, {"curvature": np.ones(2), "rate": 0.1, "decay": 0.9}),
    "swa_share": (step_noise.swa_share, {"curvature": np.ones(2), "rate": 0.1, "count": 5, "every": 2}),
    "averaged_excess": (
        step_noise.averaged_excess,
        {"hessian": np.eye(2), "covariance": np.eye(2), "share": np.ones(2)},
    ),
    "feature_second_moment": (random_features.feature_second_moment, {"W": W, "b": B, "activation": "relu"}),
    "feature_second_moment, quadrature": (
        random_features.feature_second_moment,
        {"W": W, "b": B, "activation": "tanh"},
    ),
}


class Sly:
    """An object whose words cannot be had."""

    def __repr__(self) -> str:
        """No words."""
        raise RuntimeError("no words")


NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e60, 1e61, -1e308, 1e-60, 1e-200, 5e-324, np.nan, np.inf]),
    st.integers(-3, 3),
)
SHAPES = st.sampled_from(
    [(), (0,), (1,), (2,), (3,), (2, 3), (3, 2), (2, 2), (3, 3), (1, 3), (0, 3), (2, 0), (2, 3, 1)]
)
MALFORMED = st.one_of(
    hnp.arrays(np.float64, SHAPES, elements=st.floats(allow_nan=True, allow_infinity=True)),
    hnp.arrays(np.float64, SHAPES, elements=st.sampled_from([0.0, 1.0, -2.0, 1e60, -1e60, 1e-60, 1e-300])),
    hnp.arrays(np.complex128, SHAPES),
    hnp.arrays(np.bool_, SHAPES),
    NUMBERS,
    st.sampled_from([None, "", "kl", "relu", b"\0", [], [[1.0], [1.0, 2.0]], {}, object(), int, True, 1j, KL, Sly()]),
    st.sampled_from([10**400, 2**40, 2**53]),
    st.lists(NUMBERS, max_size=3),
    st.builds(gaussians.standard_normal, st.integers(1, 3)),
)


EXTREME = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, 1.0, -2.0, 1e60, -1e60, 1e-60, 1e-300, 5e-324]),
)


def malformed_like(value: Any) -> st.SearchStrategy[Any]:
    """Anything at all, or extreme numbers in the shape that is expected."""
    if isinstance(value, np.ndarray):
        return st.one_of(MALFORMED, hnp.arrays(np.float64, value.shape, elements=EXTREME))
    return MALFORMED


def nan_free(value: Any) -> bool:
    if is_dataclass(value) and not isinstance(value, type | random_features.Activation):
        return all(nan_free(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, tuple):
        return all(nan_free(part) for part in value)
    if isinstance(value, np.ndarray | float):
        return not np.isnan(value).any()
    return True


@pytest.mark.parametrize("name", CALLS)
def test_the_valid_call_works(name: str) -> None:
    function, valid = CALLS[name]
    assert nan_free(function(**valid))


@pytest.mark.parametrize("name", CALLS)
@given(data=st.data())
@settings(max_examples=20 if settings().max_examples <= 200 else settings().max_examples // 4)
def test_malformed_input_is_refused_or_harmless(name: str, data: st.DataObject) -> None:
    function, valid = CALLS[name]
    broken = data.draw(st.sets(st.sampled_from(sorted(valid)), min_size=1))
    malformed = {key: data.draw(malformed_like(valid[key]), label=key) for key in sorted(broken)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            result = function(**{**valid, **malformed})
        except ValueError as error:
            refusal = error
        else:
            assert nan_free(result)
            return
    assert type(refusal) in (ValueError, perturbations.NotNormalizableError), repr(refusal)
    assert begins_with_an_argument(str(refusal), valid), str(refusal)


def begins_with_an_argument(message: str, names: Iterable[str]) -> bool:
    """Whether it names an argument, or says what came of all together: e^-I p has no integral."""
    return message.startswith("not normalisable") or re.split(r"\W", message)[0] in names


REFERENCE = (
    "worst_case", "perturbations", "divergences", "gaussians", "likelihood", "path_norm", "sampling",
    "step_noise", "smoothed_relu", "pac_bayes",
)  # fmt: skip
"""Modules whose members stand in the site's reference."""
RESULTS = {
    *("Bound", "Estimate", "Frame", "Moments", "Network", "NoisyLoss", "PerturbedDensity", "SGD", "Smoothed"),
    *("Spectrum", "Steps", "Whitened", "WorstCase", "Divergence", "NotNormalizableError"),
}
"""Classes that callers are given and do not make."""


def test_every_public_name_is_swept() -> None:
    public = set(theory.__all__)
    for name in REFERENCE:
        module = import_module(f"theory.model.{name}")
        members = {
            key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
        }
        public |= {key for key, value in members.items() if callable(value) and not key.startswith("_")}
        for key, value in members.items():
            if isinstance(value, type) and not key.startswith("_"):
                methods = [name for name, of in vars(value).items() if isinstance(of, FunctionType) and name[0] != "_"]
                public |= {f"{key}.{method}" for method in methods}
    swept = {name.split(",")[0] for name in CALLS}
    assert public - RESULTS <= swept, sorted(public - RESULTS - swept)


@pytest.mark.parametrize("name", CALLS)
def test_every_argument_is_swept(name: str) -> None:
    """Of a call, or of another of the same function."""
    function, _ = CALLS[name]
    swept = {key for other, valid in CALLS.values() if other == function for key in valid}
    assert set(signature(function).parameters) - {"name"} <= swept  # a name is what a message calls something


# Lists are accepted too; the signatures, which name arrays, are not asked here.
PERTURBATIONS: Any = perturbations
WORST_CASE: Any = worst_case
RANDOM_FEATURES: Any = random_features
GAUSSIANS: Any = gaussians


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PERTURBATIONS.perturbed_noise([[-1.5]], [[1.0]], [0.0]), "smallest eigenvalue of I.*is -0.5"),
        (lambda: PERTURBATIONS.perturbed_noise([[0, 1], [-1, 0]], np.eye(2), [0, 0]), "delta is not admissible"),
        (
            lambda: WORST_CASE.worst_case_divergence(W, B, 0),
            "radius is 0; allowed: a finite real number great",
        ),
        (lambda: WORST_CASE.worst_case_divergence(W, B[:2], 1), r"b has shape \(2,\)"),
        (lambda: WORST_CASE.worst_case_divergence(W, B, 1, "jensen"), "divergence is 'jensen'; allowed: one of 'kl'"),
        (lambda: WORST_CASE.worst_case_divergence(W, B, 1, norm="nuclear"), "norm is 'nuclear'"),
        (lambda: PERTURBATIONS.gap_radius(-1), "kappa is -1"),
        (lambda: PERTURBATIONS.flat_radius([[1, 2], [3, 4]], 1), "G of shape"),
        (lambda: RANDOM_FEATURES.feature_second_moment(W, B, "swish"), "activation is 'swish'"),
        (lambda: GAUSSIANS.Gaussian([0, 0], [[1, 2], [2, 1]]), "covariance has smallest eigenvalue"),
        (lambda: GAUSSIANS.Gaussian([0, np.nan], np.eye(2)), "mean has entries that are not finite"),
    ],
)
def test_the_message_names_argument_value_and_what_is_allowed(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "allowed" in str(caught.value)
