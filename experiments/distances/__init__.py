"""Distances between sets of images: Frechet's, with errors, and the features it is taken in."""
