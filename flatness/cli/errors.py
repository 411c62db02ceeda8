"""What a person can act on, in one line; and the ends of a command."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

DONE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses: everything was measured; a measure failed; it cannot be done as asked; Ctrl-C."""
TRACEBACK = "FLATNESS_TRACEBACK"
"""The variable of the environment that, set to anything, has errors raised as Python does."""
INSTEAD = (
    "is pickled, and reading it could run any code; load it where you trust it and write it anew by "
    "save_pretrained(FOLDER), as safetensors, or name a function that returns the model: module:function"
)
"""What is said of a pickled file in place of reading it."""


class CommandError(ValueError):
    """The command cannot be carried out as asked; the message says what to do.

    Attributes:
        trace: what is printed above the message: the traceback of the user's own code, where it has raised; or "".
    """

    def __init__(self, message: str, trace: str = "") -> None:
        """The message, in one line."""
        super().__init__(message)
        self.trace = trace


class MissingPackageError(CommandError):
    """A package that is not installed, or cannot be imported, is needed."""

    def __init__(self, what: str, package: str, install: str, problem: str = "is not installed") -> None:
        """Say what needs which package, and how it is installed."""
        super().__init__(f"{what} needs {package}, which {problem}: pip install {install}")


def text_of(error: BaseException) -> str:
    """What an error says, in one line; in place of a text that cannot be had, that."""
    try:
        return " ".join(str(error).split())
    except Exception as second:
        return f"its text cannot be had ({type(second).__name__})"


def out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python had no memory left; torch says so on the CPU in a RuntimeError's text alone."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(
        words in text_of(error).lower() for words in ("out of memory", "can't allocate memory", "not enough memory")
    )


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Whatever a user's files raise inside becomes one line that begins with what was being read.

    Raises:
        CommandError: anything was raised.
    """
    try:
        yield
    except (CommandError, OSError):  # which name the file themselves
        raise
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        if out_of_memory(error):
            raise CommandError(f"{what}: out of memory") from error
        reason = text_of(error)[:300]
        kind = "" if isinstance(error, ValueError) and reason else f"{type(error).__name__}: "
        raise CommandError(f"{what} cannot be read: {kind}{reason}".rstrip(": ")) from error
