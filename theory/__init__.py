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
    from theory.model.perturbations import (
        NotNormalizableError,
        diffused,
        is_admissible,
        loss_rise,
        perturbation_divergence,
        perturbed_noise,
        project_admissible,
        score_perturbation,
    )
    from theory.model.perturbed_density import PerturbedDensity, perturbed_density
    from theory.model.random_features import RandomFeatureScore, feature_second_moment
    from theory.model.robustness import flat_radius, gap_radius
    from theory.model.spectral_ball import spectral_ball_bounds
    from theory.model.worst_case import WorstCase, worst_case_divergence

__all__ = [
    "Gaussian",
    "NotNormalizableError",
    "PerturbedDensity",
    "RandomFeatureScore",
    "WorstCase",
    "diffused",
    "feature_second_moment",
    "flat_radius",
    "gap_radius",
    "is_admissible",
    "kl_divergence",
    "loss_rise",
    "perturbation_divergence",
    "perturbed_density",
    "perturbed_noise",
    "project_admissible",
    "score_perturbation",
    "spectral_ball_bounds",
    "squared_wasserstein",
    "worst_case_divergence",
]

_MODULES = {
    **dict.fromkeys(("Gaussian", "kl_divergence", "squared_wasserstein"), "gaussians"),
    **dict.fromkeys(("NotNormalizableError", "is_admissible", "loss_rise", "perturbation_divergence"), "perturbations"),
    **dict.fromkeys(("diffused", "perturbed_noise", "project_admissible", "score_perturbation"), "perturbations"),
    **dict.fromkeys(("PerturbedDensity", "perturbed_density"), "perturbed_density"),
    **dict.fromkeys(("RandomFeatureScore", "feature_second_moment"), "random_features"),
    **dict.fromkeys(("flat_radius", "gap_radius"), "robustness"),
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
