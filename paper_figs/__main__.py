"""Draw figures: `python -m paper_figs` all that are out of date and the report, `python -m paper_figs NAME ...` these.

The report, report.html, shows every figure that is there and says which are not.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path

from findings import trained
from findings.boundary import described, guarded, tracebacks
from findings.files import check_out
from paper_figs import build, catalogue
from paper_figs.report import document


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m paper_figs", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures to draw, or report: up to date or not")
    parser.add_argument("--list", action="store_true", help="show every figure, what it shows and its state")
    parser.add_argument("--out", type=Path, default=build.OUT, metavar="DIR", help="default: paper_figs/out")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="also show the trained networks in this folder")
    parser.add_argument("--force", action="store_true", help="draw all, up to date or not")
    return parser.parse_args(argv)


def _shown(path: Path) -> Path:
    """The path from here, where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _chosen(
    names: list[str], available: dict[str, catalogue.Entry], report: document.Report | None
) -> tuple[list[catalogue.Entry], document.Report | None]:
    """The figures of these names and the report, where it is named; all of them where no name is given.

    Raises:
        ValueError: a name that is not there.
    """
    if not names:
        return list(available.values()), report
    if report is None:
        return catalogue.chosen(names, available), None
    try:
        figures = catalogue.chosen([name for name in names if name != report.name], available)
    except ValueError as error:
        raise ValueError(f"{error}, {report.name}") from None
    return figures, report if report.name in names else None


def _line(name: str, fresh: bool, title: str) -> str:
    """A line of the list."""
    return f"{name:18} {'up to date ' if fresh else 'out of date'} {title}"


def _draw(entries: list[catalogue.Entry], out: Path) -> dict[str, str]:
    """Draw them one by one; a failure is shown and does not keep the others from being drawn. What failed, and why."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    failed = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("", total=len(entries))
        for entry in entries:
            progress.update(task, description=entry.name)
            try:
                files = build.draw(entry, out)
            except Exception as error:
                failed[entry.name] = described(error)
                words = traceback.format_exc() if tracebacks() else failed[entry.name]
                progress.console.print(f"{entry.name}: failed:", words, markup=False, highlight=False, soft_wrap=True)
            else:
                shown = " ".join(str(_shown(path)) for path in files)
                progress.console.print(f"{entry.name}: {shown}", soft_wrap=True, markup=False, highlight=False)
            progress.advance(task)
    return failed


def _report(report: document.Report, out: Path, failed: dict[str, str]) -> dict[str, str]:
    """Write the report; what failed, and why."""
    try:
        from paper_figs.report import page  # loads theory and the templates

        print(f"{report.name}: {_shown(page.write(report, out, failed))}")
    except Exception as error:
        words = described(error)
        print(f"{report.name}: failed:", traceback.format_exc() if tracebacks() else words)
        return {report.name: words}
    return {}


def _where_to_look(report: document.Report, out: Path) -> list[str]:
    """Two lines at the end: where to look first, and what stands there."""
    from findings.ladder_page import columns_of
    from findings.sentences import sentences

    try:
        heads = "; ".join(one.title for one in sentences(columns_of(report.root / "results" / "ladder")))
    except ValueError:  # the report has said what is wrong with it
        heads = ""
    return [
        f"Look first at {_shown(report.file(out))}, in a browser: its first page has question, answers and advice.",
        f"There: {heads or 'nothing of the ladder is measured yet'}.",
    ]


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status: 0, 1 where a figure failed, 2 for a name or folder that will not do."""
    options = _arguments(argv)
    available = catalogue.figures()
    out = options.out.resolve()
    try:
        entries, report = _chosen(options.names, available, document.find(available))
        check_out(out)
        if options.runs is not None:
            trained.use(options.runs)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.list:
        for entry in entries:
            print(_line(entry.name, build.up_to_date(entry, out), entry.title))
        if report is not None:
            print(_line(report.name, report.up_to_date(out), report.title))
        return 0
    if not options.names and not options.force:
        stale = [entry for entry in entries if not build.up_to_date(entry, out)]
        if len(stale) < len(entries):
            print(f"{len(entries) - len(stale)} of {len(entries)} figures are up to date in {_shown(out)}")
        entries = stale
    failed = _draw(entries, out) if entries else {}
    if report is not None and (options.names or options.force or failed or not report.up_to_date(out)):
        failed |= _report(report, out, failed)
    if report is not None and report.file(out).is_file():
        print("\n".join(_where_to_look(report, out)))
    if failed:
        print(f"error: not drawn: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(guarded(main))
