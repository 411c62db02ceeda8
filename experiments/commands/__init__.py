"""The subcommands of `python -m experiments`, one module each with `main(arguments) -> exit status`.

To add one: write the module, and give it a line in COMMANDS. Modules are imported when their command is run.
"""

from __future__ import annotations

COMMANDS = {
    "data": "say what is there of a data set, fetch what is missing",
    "train": "train by one of the methods; --dry-run says what it would take",
    "sample": "images from a run's weights, with a grid, an npz and their provenance",
    "evaluate": "every measure of a run: flatness, exposure bias, distances, quantisation",
    "measure": "the instruments alone, on runs and public ADM checkpoints; several are compared",
    "reproduce": "the whole matrix of runs and measures, and its tables",
    "bridge": "whether trained networks behave as the theory and the toy say",
    "plan": "GPU hours of the whole paper",
    "gpu": "what one GPU tells in minutes: parity, speed, two processes, rung 4",
}
"""What each does, in a line."""
