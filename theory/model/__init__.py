"""The objects that statements are about: scores, perturbations, densities, divergences, worst cases."""
