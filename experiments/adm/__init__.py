"""The network of Dhariwal and Nichol (2021), "Diffusion Models Beat GANs on Image Synthesis" (ADM)."""

from experiments.adm.loading import CheckpointMismatchError, load_checkpoint
from experiments.adm.network import ADM
from experiments.adm.options import ADMOptions

__all__ = ["ADM", "ADMOptions", "CheckpointMismatchError", "load_checkpoint"]
