"""Where a command meets a person: whatever goes wrong is a line on standard error and an exit status.

With FLATNESS_TRACEBACK=1 in the environment errors are raised as Python does, and show where in the code they arose.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

TRACEBACK = "FLATNESS_TRACEBACK"
FAILED = 1
REFUSED = 2
INTERRUPTED = 130
"""The shell's status of a program that Ctrl-C ended."""
CUT_OFF = 141
"""The shell's status of a program whose reader has gone, as `head` does."""
EXPECTED = (ValueError, OSError, FloatingPointError, RuntimeWarning)
"""Errors whose text says what a person can do."""
CAPTION = "--caption"
"""The option that may be empty: of no words."""
WITHOUT_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def described(error: BaseException, also: tuple[str, ...] = ()) -> str:
    """An error in words, also where its own text cannot be had; one that is not expected is named with its place.

    Args:
        error: it.
        also: names of further classes whose texts say what to do.
    """
    try:
        text = str(error).strip()
    except BaseException as second:
        text = f"its text cannot be had ({type(second).__name__})"
    if isinstance(error, MemoryError) or any(words in text.lower() for words in WITHOUT_MEMORY):
        first = text.splitlines()[0] if text else "no more could be had"
        return f"out of memory: {first}; smaller batches, images or networks take less"
    if text and (isinstance(error, EXPECTED) or type(error).__name__ in also):
        return text
    kind = type(error).__name__
    return (
        f"{kind}{f': {text.splitlines()[0]}' if text else ''} ({_place(error)}); with {TRACEBACK}=1 it shows where it "
        "arose"
    )


def _place(error: BaseException) -> str:
    """The last line of code that the error went through."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "no place known" if trace is None else f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


def empty_value(words: Sequence[str]) -> str | None:
    """What is wrong with a command line in which a value is empty, as where a shell's variable is not set; or None.

    An empty path would be the folder that the command runs in.
    """
    for before, word in zip(["", *words], words, strict=False):
        if before == CAPTION or word == f"{CAPTION}=":
            continue
        if word == "":
            return f"{before or 'an argument'} is ''; allowed: a value that is not empty"
        if word.startswith("--") and word.endswith("=") and word[2:-1].replace("-", "").isalnum():
            return f"{word[:-1]} is ''; allowed: a value that is not empty"
    return None


def tracebacks() -> bool:
    """Whether errors are to be raised as Python does."""
    return bool(os.environ.get(TRACEBACK))


def guarded(
    work: Callable[[], int],
    fail: Callable[[BaseException], int] | None = None,
    words: Sequence[str] | None = None,
) -> int:
    """The exit status of some work; whatever it raises but SystemExit is a line, and so is a value that is empty.

    Args:
        work: of the command.
        fail: tells an error otherwise than by a line that begins with "error:", and gives the status.
        words: of the command line; None for the process's own.
    """
    if wrong := empty_value(sys.argv[1:] if words is None else words):
        print(f"error: {wrong}", file=sys.stderr)
        return REFUSED
    try:
        status = work()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr, flush=True)
        return INTERRUPTED
    except BrokenPipeError:
        # Whatever is still to be flushed goes nowhere, at the interpreter's end too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CUT_OFF
    except Exception as error:
        if tracebacks():
            raise
        if fail is not None:
            return fail(error)
        print(f"error: {described(error)}", file=sys.stderr, flush=True)
        return FAILED
    return status
