"""`python -m experiments COMMAND`: the paper's experiments, from data to results."""

from __future__ import annotations

import importlib
import os
import sys
import time

from experiments.commands import COMMANDS
from findings.boundary import FAILED, TRACEBACK, described, guarded

EXTRAS = ("tyro", "lmdb", "PIL", "safetensors", "tensorboard")
"""Modules of the optional extra that the experiments need."""
PATIENCE = 60.0
"""Seconds that other ranks leave the first one for an error that all have."""
OURS = ("CheckpointError", "OutOfMemoryError")
"""Further errors whose texts say what to do; named, as importing them for the question's sake takes seconds."""
RANKS = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1}
"""What torchrun sets, and the least of each."""


def _usage() -> str:
    lines = [f"  {name:10} {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python -m experiments COMMAND [OPTIONS]",
            "",
            *lines,
            "",
            "python -m experiments COMMAND --help lists a command's options. The exit status is 0 where it did what",
            f"was asked, 1 where it failed, 2 for options that are not allowed. With {TRACEBACK}=1 an error shows",
            "where in the code it arose.",
        ]
    )


def _rank() -> int:
    given = os.environ.get("RANK", "0")  # set by torchrun
    return int(given) if given.isdecimal() else 0


def _environment() -> str | None:
    """What is wrong with torchrun's variables, in a line; None where nothing is."""
    for name, least in RANKS.items():
        given = os.environ.get(name)
        if given is not None and not (
            len(given) < 11 and given.isascii() and given.isdecimal() and least <= int(given) < 2**31
        ):
            return f"{name} is {given!r} in the environment; allowed: a whole number of at least {least}"
    rank, world = (int(os.environ.get(name, str(least))) for name, least in (("RANK", 0), ("WORLD_SIZE", 1)))
    return None if rank < world else f"RANK is {rank} in the environment; allowed: below WORLD_SIZE, {world}"


def _leave_it_to_rank_0() -> None:
    """Wrong options and missing data are so on every rank: the first one says so, and torchrun then ends the others.

    Were they to end first, it would end the first rank before it has said anything.
    """
    if _rank() > 0:
        time.sleep(PATIENCE)


def _fail(error: BaseException) -> int:
    if isinstance(error, ValueError):
        _leave_it_to_rank_0()
    of_rank = f" (rank {_rank()})" if _rank() else ""
    print(f"error{of_rank}: {_told(error)}", file=sys.stderr, flush=True)
    return FAILED


def _told(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in EXTRAS:
        return f"{error.name} is not installed; pip install -e '.[experiments]' installs it"
    return described(error, OURS)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given or given[0] in ("-h", "--help"):
        print(_usage(), file=sys.stdout if given else sys.stderr)
        return 0 if given else 2
    if given[0] not in COMMANDS:
        print(f"error: COMMAND is {given[0]!r}; allowed: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    if wrong := _environment():
        print(f"error: {wrong}", file=sys.stderr)
        return 2

    def work() -> int:
        try:
            return int(importlib.import_module(f"experiments.commands.{given[0]}").main(given[1:]))
        except SystemExit as error:
            if error.code:
                _leave_it_to_rank_0()
            raise

    return guarded(work, _fail, given)


if __name__ == "__main__":
    sys.exit(main())
