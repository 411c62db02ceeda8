"""Command lines in this process: every option of every command, as its own help lists it, with values that will not do.

Whatever a person writes, a command ends with a status and, where that is not 0, a line: never with a traceback.
"""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

OPTION = re.compile(r"(?<![\w\[-])--[a-z0-9][a-z0-9.-]*[a-z0-9]")
STATUSES = {0, 1, 2}
LONGEST = 100
"""Seconds that a command may take which is to refuse something."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: its exit status.
        out, err: what it printed.
    """

    status: int
    out: str
    err: str


class LateError(BaseException):
    """A command has not ended in time; no `except Exception` of the command's own takes it for its own error."""


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise LateError in what takes longer."""

    def late(number: int, frame: FrameType | None) -> None:
        raise LateError(f"after {seconds} seconds it had not ended")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run(module: str, words: Sequence[str]) -> Ended:
    """`python -m MODULE WORDS` in this process; what it raises but SystemExit comes out."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = [module, *words]
    status: object = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), limited(LONGEST):
            runpy.run_module(module, run_name="__main__", alter_sys=False)
    except SystemExit as error:
        status = error.code
        if isinstance(status, str):  # which Python prints
            err.write(status)
            status = 1
    finally:
        sys.argv = before
    return Ended(int(status or 0), out.getvalue(), err.getvalue())  # type: ignore[call-overload]


def options_of(module: str, *command: str) -> list[str]:
    """All that a command's help names."""
    ended = run(module, [*command, "--help"])
    assert ended.status == 0
    return sorted(set(OPTION.findall(ended.out)) - {"--help", "--version"})


def check(ended: Ended, what: str) -> None:
    """A status, and a line where it is not 0."""
    assert ended.status in STATUSES, f"{what}: status {ended.status}"
    assert "Traceback" not in ended.err + ended.out, f"{what}: {ended.err[-800:]}"
    if ended.status:
        assert re.search(r"\w{3}", ended.err), f"{what}: status {ended.status} without a word"


def hostile_values(folder: Path) -> dict[str, list[str]]:
    """What may stand after an option, by what it is; the paths lie in the folder."""
    (folder / "file").write_bytes(b"\x00\xff{not a result")
    (folder / "empty").mkdir(exist_ok=True)
    return {
        "nothing at all": [],
        "no text": [""],
        "a space": [" "],
        "a word": ["abc"],
        "-1": ["-1"],
        "0": ["0"],
        "1e400": ["1e400"],
        "nan": ["nan"],
        "ten to the thirty": ["1" + 30 * "0"],
        "a line break": ["a\nb"],
        "a surrogate": ["a\udcffb"],
        "a NUL": ["a\0b"],
        "a long text": ["x" * 5000],
        "a file": [str(folder / "file")],
        "below a file": [str(folder / "file" / "x")],
        "an empty folder": [str(folder / "empty")],
        "nowhere": [str(folder / "nowhere" / "x")],
        "a device": ["/dev/null"],
        "an option": ["--"],
    }
