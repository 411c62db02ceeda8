"""The figures: one module each, computed from `theory` and result files, with the data beside every drawing.

A figure is a module of `paper_figs.figures` with `compute() -> dict` (plain numbers and strings, what is written to
disk) and `draw(data) -> Figure` (which reads nothing else); where it reads files, they stand in its `INPUTS`, a literal
tuple of patterns relative to the checkout. `python -m paper_figs` draws all that are out of date.
"""
