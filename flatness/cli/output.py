"""Standard output and standard error as streams that never cost a result: what they cannot take is passed over.

A pipe whose reader has gone, a full disk behind `>`, a closed stream: writing to them does nothing from then on, and
`failure` says why. Characters that the stream's encoding lacks are written in ASCII.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import sys
from typing import Any, TextIO

ASCII = {"±": "+-", "−": "-", "×": "x", "–": "-", "’": "'", "│": "|", "─": "-", "━": "-"}


WIDE = 200
"""Columns of tables in files and pipes, where COLUMNS does not say how many."""


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(ASCII.get(letter, "?") for letter in error.object[error.start : error.end]), error.end


codecs.register_error("flatness-ascii", _in_ascii)


class Steady:
    """A text stream around another one, whose `write` and `flush` do not raise.

    Attributes:
        failure: why nothing is written any more; None while it is.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Around a stream; None, as where Python was started with it closed, takes nothing."""
        self._stream = stream
        self.failure: Exception | None = OSError(errno.EBADF, "closed") if stream is None else None

    @property
    def encoding(self) -> str:
        """Of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def gone(self) -> bool:
        """Whether its reader has gone, who then wants no more; other failures lose what was to be written."""
        return isinstance(self.failure, BrokenPipeError)

    def write(self, text: str) -> int:
        """Write the text, unless something is wrong."""
        if self.failure is None and self._stream is not None:
            try:
                self._stream.write(text.encode(self.encoding, "flatness-ascii").decode(self.encoding))
            except (OSError, ValueError, LookupError) as error:
                self._fails(error)
        return len(text)

    def flush(self) -> None:
        """Flush it, unless something is wrong."""
        if self.failure is None and self._stream is not None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._fails(error)

    def _fails(self, error: Exception) -> None:
        self.failure = error
        # what is left in its buffer would raise once more as Python ends
        with contextlib.suppress(OSError, ValueError, AttributeError):
            number = self._stream.fileno()  # type: ignore[union-attr]
            if number in (1, 2):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:  # closed
            return False

    def fileno(self) -> int:
        """Of the stream; OSError where it has none."""
        if self._stream is None:
            raise OSError(errno.EBADF, "closed")
        return self._stream.fileno()


def console(error: bool = False) -> tuple[Any, Steady]:
    """A rich console on standard output or standard error, and the stream under it."""
    from rich.console import Console

    stream = Steady(sys.stderr if error else sys.stdout)
    # What is no terminal has no width of its own, and at rich's 80 columns a comparison's names would not fit
    width = None if stream.isatty() or os.environ.get("COLUMNS") else WIDE
    return Console(file=stream, width=width), stream  # type: ignore[arg-type]


def tell(line: str) -> None:
    """Print a line on standard error."""
    stream = Steady(sys.stderr)
    stream.write(f"{line}\n")
    stream.flush()
