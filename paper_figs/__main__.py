"""Draw figures: `python -m paper_figs` all that are out of date, `python -m paper_figs NAME ...` these."""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path

from paper_figs import catalogue, output


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m paper_figs", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures to draw, up to date or not")
    parser.add_argument("--list", action="store_true", help="show every figure, what it shows and its state")
    parser.add_argument("--out", type=Path, default=output.OUT, metavar="DIR", help="default: paper_figs/out")
    parser.add_argument("--force", action="store_true", help="draw all, up to date or not")
    return parser.parse_args(argv)


def _shown(path: Path) -> Path:
    """The path from here, where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _draw(entries: list[catalogue.Entry], out: Path) -> list[str]:
    """Draw them one by one; a failure is shown and does not keep the others from being drawn. The names that failed."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    failed = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("", total=len(entries))
        for entry in entries:
            progress.update(task, description=entry.name)
            try:
                files = output.draw(entry, out)
            except Exception:
                failed.append(entry.name)
                progress.console.print(f"{entry.name}: failed", traceback.format_exc(), markup=False, highlight=False)
            else:
                shown = " ".join(str(_shown(path)) for path in files)
                progress.console.print(f"{entry.name}: {shown}", soft_wrap=True, markup=False, highlight=False)
            progress.advance(task)
    return failed


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status: 0, 1 where a figure failed, 2 for a name or folder that will not do."""
    options = _arguments(argv)
    available = catalogue.figures()
    out = options.out.resolve()
    try:
        entries = catalogue.chosen(options.names, available) or list(available.values())
        if out.exists() and not out.is_dir():
            raise ValueError(f"--out is {out}, a file; allowed: a folder, or a path where one can be made")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.list:
        for entry in entries:
            print(f"{entry.name:18} {'up to date ' if output.up_to_date(entry, out) else 'out of date'} {entry.title}")
        return 0
    if not options.names and not options.force:
        stale = [entry for entry in entries if not output.up_to_date(entry, out)]
        if len(stale) < len(entries):
            print(f"{len(entries) - len(stale)} of {len(entries)} figures are up to date in {_shown(out)}")
        entries = stale
    failed = _draw(entries, out) if entries else []
    if failed:
        print(f"error: not drawn: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
