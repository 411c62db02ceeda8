"""Samples of a trained network, in chains that can be stopped and resumed."""
