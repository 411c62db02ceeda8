"""Losses of networks that are called by other public codes' conventions: SiT's and EDM2's."""

from __future__ import annotations

from flatness import arguments
from flatness.diffusion.losses import DiffusionLoss, EDMLoss
from flatness.diffusion.noise_paths import RECTIFIED_FLOW, LogNormal, Times
from flatness.diffusion.predictions import ModelCall

EDM2_TIMES = LogNormal(-0.4, 1.0)
"""P_mean and P_std of Karras et al. (2024, Table 6 of the appendix), for latents of 64 x 64."""


def sit_loss(*, labels: str | None = "y", times: Times | None = None) -> DiffusionLoss:
    """The loss of SiT (Ma et al., 2024) with the linear path and velocity prediction.

    SiT's time runs from noise (0) to data (1), and its velocity from noise to data: model(x, t, y) at
    x = t x_0 + (1 - t) epsilon is trained towards x_0 - epsilon.

    Args:
        labels: how labels are handed over (`ModelCall`); None for an unconditional network.
        times: the distribution of times, in this package's direction (1 is noise); uniform by default.

    Raises:
        ValueError: an argument is not as above.
    """
    call = ModelCall(labels, time_scale=-1.0, time_offset=1.0, output_scale=-1.0)
    return DiffusionLoss(RECTIFIED_FLOW, "flow", times, call)


def edm2_loss(
    classes: int = 1000, *, sigma_data: float = 0.5, labels: str | None = "positional", times: Times | None = None
) -> EDMLoss:
    """The loss of EDM and EDM2's preconditioned networks: model(x, sigma, one-hot labels) is the denoiser D.

    Args:
        classes: length of the one-hot rows (label_dim); 0 for an unconditional network.
        sigma_data: the data's standard deviation, 0.5 in both codes.
        labels: how they are handed over (`ModelCall`).
        times: the distribution of sigma; EDM2's lognormal by default.

    Raises:
        ValueError: an argument is not as above.
    """
    one_hot = arguments.count("classes", classes)
    call = ModelCall(labels if one_hot else None, one_hot=one_hot)
    times = EDM2_TIMES if times is None else times
    return EDMLoss(times=times, call=call, sigma_data=sigma_data, preconditioned=True)
