"""The verdicts of results/toy.json as Markdown: `python -m toy.tables` renews toy/README.md and docs/findings.md."""

from __future__ import annotations

import sys
from typing import Any

from findings import files, toy_study
from findings.boundary import guarded
from findings.names import PAPER_METHODS, group_of
from findings.provenance import ROOT
from findings.verdicts import DECIDED
from toy.predictions import REVISED

BRIEF = ROOT / "docs" / "findings.md"
OWN = ROOT / "toy" / "README.md"
MARKS = ("<!-- toy: written by python -m toy.tables -->", "<!-- end of toy -->")

TITLES = {
    "P1": "frozen features: every method is equally flat, as T3 says",
    "P2": "learnt features: SAM flattens, averaging and input perturbation do not",
    "P3": "the mechanism: SAM shrinks the feature energy, and T3 predicts the readout's rise from it",
    "P4": "quantisation: SAM's models lose less, T5 predicts how much",
    "P5": "exposure bias: the epsilon-norm gap",
    "P6": "sample quality",
    "P7": "gap tolerance: a flatter linear model tolerates no more (T4); trained models on wider data",
    "P8": "flatness or scale: what is left of SAM's gain in relative measures (T7)",
    "P9": "cheap SAM: late, every fifth step, a quarter of the batch",
}
VERDICTS = [verdict.value for verdict in DECIDED]


def brief(results: dict[str, Any]) -> str:
    """One row for each of P1 to P9: its parts by verdict."""
    lines = ["| prediction | " + " | ".join(VERDICTS) + " |", "|---" * (len(VERDICTS) + 1) + "|"]
    for group, title in TITLES.items():
        parts = [p for p in results["predictions"] if group_of(p["identifier"]) == group]
        letters = [(p["verdict"], p["identifier"].removeprefix(group)) for p in parts]
        cells = [", ".join(letter for verdict, letter in letters if verdict == column) for column in VERDICTS]
        lines.append(f"| [{group}](toy.md): {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(comparison: dict[str, Any]) -> str:
    return f"{comparison['mean']:.3g} [{comparison['low']:.3g}, {comparison['high']:.3g}]"


def _words(results: dict[str, Any]) -> list[str]:
    """What phi is, what runs of equal loss are, and which claims were made after results had been seen."""
    stopped = ", ".join(f"{name} after {entry['steps']} steps" for name, entry in results["equal_loss"].items())
    losses = ", ".join(f"{name} {results['measures'][f'learnt/{name}']['loss']['mean']:.3g}" for name in PAPER_METHODS)
    table = [
        "phi is what the readout theta multiplies, as in the theory; E|phi|^2 is the feature energy. The loss is a "
        "mean over the d coordinates and theta phi is not divided by m, so the factor d/m^2 of T3 and T5 is 1 here; "
        "sigma is the deviation of the noise on weights, q the step of the grid.",
        f"The methods' losses differ (learnt features: {losses}). P6e, P6f and P7f compare at equal final training "
        f"loss: the raw weights of runs stopped where their training loss reaches SAM's final one ({stopped} of "
        f"{results['configuration']['steps']}), and those runs' own averages.",
    ]
    revised = {how: [p["identifier"] for p in results["predictions"] if p.get("revised") == how] for how in REVISED}
    sentences = [f"{', '.join(names)} were {how}" for how, names in revised.items() if names]
    if sentences:
        table.append(
            f"After the results of a first run had been seen, {'; '.join(sentences)}. These claims and their margins "
            "were not set blind."
        )
    return table


def _source(prediction: dict[str, Any]) -> str:
    """Who claims it, and whether it was revised."""
    revised = prediction.get("revised")
    return str(prediction["source"]) + (f" ({revised} after a first run)" if revised else "")


def full(results: dict[str, Any]) -> str:
    """toy/README.md: every prediction with its verdict, and the comparison that is furthest from being confirmed."""
    setting = results["configuration"]
    lines = [
        "# The toy's predictions",
        "",
        "Written by `python -m toy.tables` from `results/toy.json`, which `python -m toy` computes. "
        f"{setting['seeds']} seeds, {setting['steps']} steps; {setting['data']}; {setting['model']}; "
        f"{setting['process']}. Intervals: {results['interval']}. A claim is confirmed where every interval lies "
        "inside the region claimed, refuted where one lies outside, undecided otherwise.",
        *(line for words in _words(results) for line in ("", words)),
        "",
        "| | claim | by | expected | verdict | the comparison that decides: mean and interval |",
        "|---|---|---|---|---|---|",
    ]
    for prediction in results["predictions"]:
        verdict = prediction["verdict"]
        deciding = next(c for c in prediction["comparisons"] if c["verdict"] == verdict)
        cells = [prediction[key] for key in ("identifier", "statement", "expected", "verdict")]
        cells.insert(2, _source(prediction))
        cells.append(f"{deciding['what']}: {_number(deciding)}")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def with_brief(page: str, results: dict[str, Any]) -> str:
    """The site's page of findings with its table renewed, between the two marks that hold it.

    Raises:
        ValueError: a mark is missing.
    """
    return files.renewed(page, MARKS, brief(results))


def main() -> int:
    """Renew both files; the exit status."""
    try:
        results = toy_study.load()
        files.write_whole(OWN, full(results))
        files.write_whole(BRIEF, with_brief(BRIEF.read_text(encoding="utf-8"), results))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {OWN.relative_to(ROOT)} and {BRIEF.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
