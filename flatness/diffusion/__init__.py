"""Diffusion models: losses, noise paths, predictions, sampling."""
