"""Accept documents that were edited by hand: `python -m findings.accept FILE ...` makes their checksums anew.

The document notes on which days that was done, and tables say which of their rows were edited.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path

from findings.boundary import guarded
from findings.checksums import EDITED, ResultError, checked, parse_object, with_checksum
from findings.documents import json_text
from findings.files import check_regular, write_whole


def accept(path: Path) -> bool:
    """Make a document's checksum anew and note that it was edited; whether it had to be.

    Raises:
        ResultError: it is no JSON object of finite numbers, or cannot be read or written.
    """
    try:
        check_regular(path)
        document = parse_object(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ResultError(f"{path} cannot be accepted: {error}") from error
    try:
        checked(document)
    except ValueError:
        days = document.get(EDITED)
        known = [day for day in days if isinstance(day, str)] if isinstance(days, list) else []
        edited = with_checksum({**document, EDITED: [*known, datetime.date.today().isoformat()]})
        try:
            write_whole(path, json_text(edited))
        except OSError as error:
            raise ResultError(f"{path} cannot be written: {error}") from error
        return True
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m findings.accept",
        description="Accept result files that were edited by hand: their checksums are made anew, and they say so.",
        epilog="The exit status is 0 where all are accepted, 1 where one cannot be read.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JSON documents that were edited")
    status = 0
    for path in parser.parse_args(arguments).files:
        try:
            print(f"accepted {path}" if accept(path) else f"{path} is as it was written")
        except ResultError as error:
            print(f"error: {error}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(guarded(main))
