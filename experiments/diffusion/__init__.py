"""The diffusion process of ADM: schedules, losses, draws of timesteps, sampling."""

from experiments.diffusion.process import Losses, PMeanVariance, Process, ProcessOptions, cosine_betas, linear_betas
from experiments.diffusion.sampling import sample, trajectory
from experiments.diffusion.timesteps import SecondMomentTimesteps, UniformTimesteps

__all__ = [
    "Losses",
    "PMeanVariance",
    "Process",
    "ProcessOptions",
    "SecondMomentTimesteps",
    "UniformTimesteps",
    "cosine_betas",
    "linear_betas",
    "sample",
    "trajectory",
]
