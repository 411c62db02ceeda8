"""Every claim of the paper's theory as code: statement, verdict, evidence. Loads no torch.

The paper is "Understanding Flatness in Generative Models: Its Role and Benefits". Notation, as there:
a score model s(x) = theta sigma(W^T x + U^T e) / m with theta, W of shape (d, m); b = U^T e of shape (m,); delta of
shape (d, m) a perturbation of theta; p the density of x, the standard normal unless said otherwise. A perturbation is
admissible when delta W^T is symmetric.

`claims` holds the statements, `model` the objects that they are about, `proof` how they are shown. What callers from
outside need has one short path, `from theory import worst_case_divergence`, and is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from theory.model.gaussians import Gaussian, kl_divergence, squared_wasserstein
    from theory.model.likelihood import (
        bits_per_dimension,
        likelihood_rise,
        likelihood_weights,
        readout_rise,
        rounding_bound,
    )
    from theory.model.pac_bayes import gaussian_divergence, least_noise_share, pac_bayes_bound
    from theory.model.path_norm import balanced, gauss_newton_trace, lipschitz_from_flatness, path_flatness, path_norm
    from theory.model.perturbations import (
        NotNormalizableError,
        diffused,
        flat_radius,
        gap_radius,
        is_admissible,
        loss_rise,
        perturbation_divergence,
        perturbed_noise,
        project_admissible,
        score_perturbation,
    )
    from theory.model.perturbed_density import PerturbedDensity, perturbed_density
    from theory.model.random_features import RandomFeatureScore, feature_second_moment
    from theory.model.sampling import exposure_bound, norm_gap_bound, ode_law, sampler_steps, sde_law
    from theory.model.smoothed_relu import smoothed_relu, two_layer_low_pass_filter
    from theory.model.spectral_ball import spectral_ball_bounds
    from theory.model.step_noise import (
        averaged_excess,
        ema_share,
        gradient_second_moment,
        matched_noise,
        sam_dose,
        stationary_covariance,
        stationary_sgd,
        swa_share,
    )
    from theory.model.worst_case import WorstCase, worst_case_divergence

__all__ = [
    "Gaussian",
    "NotNormalizableError",
    "PerturbedDensity",
    "RandomFeatureScore",
    "WorstCase",
    "averaged_excess",
    "balanced",
    "bits_per_dimension",
    "diffused",
    "ema_share",
    "exposure_bound",
    "feature_second_moment",
    "flat_radius",
    "gap_radius",
    "gauss_newton_trace",
    "gaussian_divergence",
    "gradient_second_moment",
    "is_admissible",
    "kl_divergence",
    "least_noise_share",
    "likelihood_rise",
    "likelihood_weights",
    "lipschitz_from_flatness",
    "loss_rise",
    "matched_noise",
    "norm_gap_bound",
    "ode_law",
    "pac_bayes_bound",
    "path_flatness",
    "path_norm",
    "perturbation_divergence",
    "perturbed_density",
    "perturbed_noise",
    "project_admissible",
    "readout_rise",
    "rounding_bound",
    "sam_dose",
    "sampler_steps",
    "score_perturbation",
    "sde_law",
    "smoothed_relu",
    "spectral_ball_bounds",
    "squared_wasserstein",
    "stationary_covariance",
    "stationary_sgd",
    "swa_share",
    "two_layer_low_pass_filter",
    "worst_case_divergence",
]

_MODULES = {
    **dict.fromkeys(("smoothed_relu", "two_layer_low_pass_filter"), "smoothed_relu"),
    **dict.fromkeys(("gaussian_divergence", "least_noise_share", "pac_bayes_bound"), "pac_bayes"),
    **dict.fromkeys(
        (
            "averaged_excess",
            "ema_share",
            "gradient_second_moment",
            "matched_noise",
            "sam_dose",
            "stationary_covariance",
            "stationary_sgd",
            "swa_share",
        ),
        "step_noise",
    ),
    **dict.fromkeys(
        ("balanced", "gauss_newton_trace", "lipschitz_from_flatness", "path_flatness", "path_norm"), "path_norm"
    ),
    **dict.fromkeys(
        ("bits_per_dimension", "likelihood_rise", "likelihood_weights", "readout_rise", "rounding_bound"), "likelihood"
    ),
    **dict.fromkeys(("exposure_bound", "norm_gap_bound", "ode_law", "sampler_steps", "sde_law"), "sampling"),
    **dict.fromkeys(("Gaussian", "kl_divergence", "squared_wasserstein"), "gaussians"),
    **dict.fromkeys(("NotNormalizableError", "is_admissible", "loss_rise", "perturbation_divergence"), "perturbations"),
    **dict.fromkeys(("diffused", "perturbed_noise", "project_admissible", "score_perturbation"), "perturbations"),
    **dict.fromkeys(("PerturbedDensity", "perturbed_density"), "perturbed_density"),
    **dict.fromkeys(("RandomFeatureScore", "feature_second_moment"), "random_features"),
    **dict.fromkeys(("flat_radius", "gap_radius"), "perturbations"),
    "spectral_ball_bounds": "spectral_ball",
    **dict.fromkeys(("WorstCase", "worst_case_divergence"), "worst_case"),
}


def __getattr__(name: str) -> Any:
    """A public name, from its module of `theory.model`.

    Raises:
        AttributeError: there is no such name.
    """
    if name not in _MODULES:
        raise AttributeError(f"module 'theory' has no attribute {name!r}")
    return getattr(import_module(f"theory.model.{_MODULES[name]}"), name)
