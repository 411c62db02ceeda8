"""What a person can act on, in one line; and the ends of a command.

Where the user's own function or loss raises, a line alone would not do: they want to see where. So what is printed is
their frames, without those of this package that led to them, and the line below.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import torch

import flatness

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


OURS, TORCH = (str(Path(str(package.__file__)).parent) + os.sep for package in (flatness, torch))
LIBRARY = [str(module.__file__) for module in (contextlib, functools, importlib)]
BETWEEN = (OURS, TORCH, *LIBRARY, "<frozen ")
"""Where code lies that leads to the user's, and is not theirs."""
LONGEST = 300


def one_line(error: BaseException) -> str:
    """What an error says; of one that is not about a value, its kind before that."""
    text = text_of(error)[:LONGEST]
    plain = text and isinstance(error, ValueError | RuntimeError | ArithmeticError)
    return text if plain else f"{type(error).__name__}: {text}".rstrip(": ")


def theirs(error: BaseException) -> TracebackType | None:
    """The traceback from the user's first frame on; None where none is theirs."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(BETWEEN):
        frame = frame.tb_next
    return frame


def their_traceback(error: BaseException) -> str:
    """As Python prints it; "" where nothing of it is theirs."""
    frames = theirs(error)
    if isinstance(error, SyntaxError) and frames is None:  # which no frame has come to
        return "".join(traceback.format_exception_only(error))
    return "" if frames is None else "".join(traceback.format_exception(type(error), error, frames))


def place(error: BaseException) -> str:
    """The user's innermost line, " (mine.py, line 3)"; "" where nothing is theirs."""
    frames = [f for f in traceback.extract_tb(theirs(error)) if not f.filename.startswith(BETWEEN)]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def is_ours(error: BaseException) -> bool:
    """Whether this package has raised it, and not for code of the user's that called it."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.startswith(OURS) and theirs(error) is None


def from_their_code(what: str, error: BaseException) -> CommandError:
    """The error to raise for one that came out of the user's code.

    Args:
        what: was being done, for the line.
        error: theirs.
    """
    if isinstance(error, CommandError):
        return error
    if out_of_memory(error):
        return CommandError(f"{what}: out of memory")
    return CommandError(f"{what}: {one_line(error)}", their_traceback(error))
