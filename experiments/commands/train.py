"""`python -m experiments train`: one run, or with --dry-run what it would take."""

from __future__ import annotations

import os
import sys

from experiments.commands import train_options

NO_SWA = (
    "note: no multiple of --swa-cycle lies between --swa-start and the last step, so this run has no SWA weights; a "
    "shorter cycle gives them"
)


def main(arguments: list[str]) -> int:
    """Run the command line; 0 when the run has come to its last step, to --until, or to a signal's checkpoint."""
    command = train_options.parse(arguments)
    if command.dry_run:
        from experiments.commands import dry_run  # not above: --help does not wait for what the commands need

        return dry_run.main(command) if _rank() == 0 else 0
    return _train(command)


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _train(command: train_options.Run) -> int:
    from experiments import data
    from experiments.commands.progress import Watched
    from experiments.training.trainer import train

    configuration, run = command.configuration, command.options
    # Missing data is told before a network is built
    size = configuration.network.image_size
    images = data.load(configuration.dataset, configuration.train_split, size, run.data)
    if _rank() > 0:
        train(configuration, run, images)
        return 0
    if not configuration.swa_models:
        print(NO_SWA, file=sys.stderr)
    watched = Watched(data.load(configuration.dataset, "test", size, run.data))
    try:
        train(configuration, run, images, watchers=watched())
    finally:
        watched.close()
    return 0
