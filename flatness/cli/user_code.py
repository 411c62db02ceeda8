"""Errors out of code that is the user's own: the part of the traceback that is theirs, and one line.

What a person can act on is a line. Where their own function or loss raises, that line alone would not do: they want to
see where. So what is printed is their frames, without those of this package that led to them, and the line below.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import traceback
from pathlib import Path
from types import TracebackType

import torch

import flatness
from flatness.cli.errors import CommandError, out_of_memory, text_of

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
