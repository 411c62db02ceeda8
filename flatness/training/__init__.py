"""Training for flatness: SAM, averages of weights, input perturbation."""
