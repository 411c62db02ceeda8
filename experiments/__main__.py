"""`python -m experiments COMMAND`: the paper's experiments, from data to results."""

from __future__ import annotations

import importlib
import os
import sys
import time

from experiments.commands import COMMANDS

TRACEBACK = "FLATNESS_TRACEBACK"
EXTRAS = ("tyro", "lmdb", "PIL", "safetensors", "tensorboard")
"""Modules of the optional extra that the experiments need."""
PATIENCE = 60.0
"""Seconds that other ranks leave the first one for an error that all have."""
INTERRUPTED = 130
"""The shell's status of a program that Ctrl-C ended."""


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
    return int(os.environ.get("RANK", "0"))  # set by torchrun


def _leave_it_to_rank_0() -> None:
    """Wrong options and missing data are so on every rank: the first one says so, and torchrun then ends the others.

    Were they to end first, it would end the first rank before it has said anything.
    """
    if _rank() > 0:
        time.sleep(PATIENCE)


def _fail(message: object) -> int:
    if isinstance(message, ValueError):
        _leave_it_to_rank_0()
    print(f"error{f' (rank {_rank()})' if _rank() else ''}: {message}", file=sys.stderr, flush=True)
    return 1


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given or given[0] in ("-h", "--help"):
        print(_usage(), file=sys.stdout if given else sys.stderr)
        return 0 if given else 2
    if given[0] not in COMMANDS:
        print(f"error: COMMAND is {given[0]!r}; allowed: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        return importlib.import_module(f"experiments.commands.{given[0]}").main(given[1:])
    except SystemExit as error:
        if error.code:
            _leave_it_to_rank_0()
        raise
    except KeyboardInterrupt:
        _fail("interrupted")
        return INTERRUPTED
    except ModuleNotFoundError as error:
        if os.environ.get(TRACEBACK) or (error.name or "").split(".")[0] not in EXTRAS:
            raise
        return _fail(f"{error.name} is not installed; pip install -e '.[experiments]' installs it")
    except Exception as error:
        if os.environ.get(TRACEBACK) or not _speaks_for_itself(error):
            raise
        return _fail(error)


def _speaks_for_itself(error: Exception) -> bool:
    """Whether a person can act on the message alone; anything else is a fault of ours, and its traceback is wanted."""
    if isinstance(error, ValueError | OSError | FloatingPointError):
        return True
    of_ours = (("torch", "OutOfMemoryError"), ("experiments.training.checkpoints", "CheckpointError"))
    # Not imported for the question's sake: torch takes seconds
    return any(
        module in sys.modules and isinstance(error, getattr(sys.modules[module], name)) for module, name in of_ours
    )


if __name__ == "__main__":
    sys.exit(main())
