"""The checks of the theory; `pytest theory` runs them."""
