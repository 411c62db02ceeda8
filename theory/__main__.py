"""`python -m theory`: check every claim and print the ledger; `explain LABEL` prints one claim in full."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import textwrap

import hypothesis
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from findings import files
from findings.boundary import guarded
from theory import ledger
from theory.proof import notation
from theory.proof.statement import Report, Statement, Verdict, register_profiles

_COLOURS = {
    Verdict.HOLDS: "green",
    Verdict.CONDITIONAL: "yellow",
    Verdict.FALSE: "red",
    Verdict.VACUOUS: "magenta",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m theory",
        description="Check every claim of the paper's theory and print the ledger: claim, verdict, evidence. "
        "Exit status 1 if any evidence fails.",
        epilog="python -m theory explain LABEL prints one claim in full: printed, verdict, counterexample with its "
        "numbers, what holds, evidence with figures. Labels stand in the first column of the ledger.",
    )
    parser.add_argument("command", nargs="?", choices=["explain"], help="explain: print one claim in full")
    parser.add_argument("label", nargs="?", help="which one, e.g. corollary-3.9")
    parser.add_argument(
        "--json", action="store_true", help="print JSON instead, with the numbers of every piece of evidence"
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="also renew theory/README.md and the counts of verdicts in README.md; only if every evidence holds",
    )
    parser.add_argument(
        "--thorough", action="store_true", help="10,000 examples a property instead of 200 (about an hour)"
    )
    return parser


def check(labels: list[str], console: Console) -> dict[str, list[Report]]:
    """Run all evidence of the given statements, with a progress bar on a terminal."""
    chosen = {label: ledger.statements()[label][1] for label in labels}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    reports: dict[str, list[Report]] = {}
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("checking", total=sum(len(statement.evidence) for statement in chosen.values()))
        for label, statement in chosen.items():
            progress.update(task, description=f"{label:28}")
            reports[label] = []
            for evidence in statement.evidence:
                reports[label].append(evidence.run())
                progress.advance(task)
    return reports


def _print_table(reports: dict[str, list[Report]], console: Console) -> None:
    table = Table(title="What the paper claims, and what is true", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("claim", no_wrap=True)
    table.add_column("verdict", min_width=10, max_width=11)
    table.add_column("in short", ratio=1)
    table.add_column("evidence", justify="right")
    for label, run in reports.items():
        statement = ledger.statements()[label][1]
        failed = [e.shows for e, r in zip(statement.evidence, run, strict=True) if not r.holds]
        colour = _COLOURS[statement.verdict]
        table.add_row(
            f"[bold]{label}[/]",
            f"[{colour}]{statement.standing}[/]",
            f"[italic]{escape(statement.title)}[/]\n{escape(ledger.in_short(statement))}",
            f"[bold red]FAILS: {escape('; '.join(failed))}[/]" if failed else f"[green]{len(run)} of {len(run)}[/]",
        )
    console.print(table)


def _print_in_full(statement: Statement, module: str, run: list[Report], console: Console) -> None:
    colour = _COLOURS[statement.verdict]
    console.print(f"[bold]{statement.label}[/]: {escape(statement.title)}")
    console.print(f"source:     {escape(statement.source)}; module theory/claims/{module}.py")
    for name, formula in (("printed", statement.printed), ("holds", statement.holds)):
        if formula is not None:
            console.print(f"{name + ':':11} {escape(notation.text(formula))}", soft_wrap=True)
    console.print(f"verdict:    [{colour}]{statement.standing}[/]")
    for condition in statement.conditions:
        console.print(f"condition:  {escape(condition)}")
    if statement.rescue:
        console.print(f"saved:      {escape(statement.rescue)}", soft_wrap=True)
    console.print(textwrap.fill(statement.reason, min(console.width, 100)), markup=False)
    for evidence, report in zip(statement.evidence, run, strict=True):
        mark = "[green]ok[/]" if report.holds else "[bold red]FAILS[/]"
        console.print(f"\n{mark}  {evidence.kind.value}: [italic]{escape(evidence.shows)}[/]")
        for line in report.lines:
            console.print("    " + " ".join(line.split()), markup=False, highlight=False, soft_wrap=True)


def use_profile(thorough: bool) -> None:
    """Search from fixed seeds, so that the same numbers are printed every time."""
    register_profiles()
    hypothesis.settings.load_profile("fixed-thorough" if thorough else "fixed-default")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    known = list(ledger.statements())
    labels = known
    if options.command == "explain":
        if options.label is None:
            parser.error("explain needs a label; allowed: " + ", ".join(known))
        labels = [label for label in known if label == options.label]
        if not labels:
            near = difflib.get_close_matches(options.label, known, n=3) or known
            parser.error(f"label is {options.label!r}; allowed: " + ", ".join(near))
        if options.write:
            parser.error("--write goes with the whole ledger, not with explain")
    use_profile(options.thorough)
    reports = check(labels, Console(stderr=True))
    console = Console()
    if options.json:
        print(json.dumps(ledger.as_json(reports), indent=1))
    elif options.command == "explain":
        module, statement = ledger.statements()[labels[0]]
        _print_in_full(statement, module, reports[labels[0]], console)
    else:
        _print_table(reports, console)
        console.print(ledger.headline())
    holds = all(report.holds for run in reports.values() for report in run)
    if options.write and holds:
        for path, text in (
            (ledger.LEDGER, ledger.markdown()),
            (ledger.README, ledger.with_verdicts(ledger.README.read_text(encoding="utf-8"))),
        ):
            files.write_whole(path, text)
            console.print(f"wrote {path.relative_to(ledger.ROOM.parent)}", highlight=False)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(guarded(main))
