"""What the report is made of, and whether the one on disk is up to date; asking loads neither theory nor templates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from findings.checksums import ResultError, read_json
from paper_figs import build, catalogue
from paper_figs.catalogue import fingerprint

NAME = "report"
TITLE = "The one page: findings, ledger of claims, figures and tables, predictions, and where every number comes from."
TOY = "results/toy.json"
BRIDGES = "results/*/bridge.json"
"""Where trained networks' measurements stand beside the predictions; see `fingerprint.matches` for other folders."""
INPUTS = (
    TOY,
    BRIDGES,
    "results/ladder/*.json",
    "results/ladder/*/*.json",
    "findings/paper_numbers.json",
    "paper_figs/report/templates/*",
    "paper_figs/report/vendor/*",
)
PACKAGES = ("fonttools", "jinja2", "latex2mathml", "markupsafe")
"""Packages whose version can change the page, beside those of the figures."""
SHOWN_SUFFIXES = (".png", ".csv", ".json")
"""Files of a figure that the page reads."""


def find(figures: Mapping[str, catalogue.Entry]) -> Report | None:
    """The report of these figures: there is one where a package `report` lies beside their folder."""
    for entry in figures.values():
        if (entry.source.parents[1] / NAME / "__init__.py").is_file():
            return Report(entry.root, dict(figures))
    return None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "not there"


@dataclass(frozen=True)
class Report:
    """The report, unopened.

    Args:
        root: the checkout.
        figures: those that it shows.
    """

    root: Path
    figures: Mapping[str, catalogue.Entry]
    name: str = NAME
    title: str = TITLE

    def file(self, out: Path) -> Path:
        """The page's file."""
        return out / f"{self.name}.html"

    def states(self, out: Path) -> dict[str, str]:
        """Of every figure: "drawn", "old" where its sources have changed since, or "missing"."""
        states = {}
        for name, entry in self.figures.items():
            there = (out / f"{name}.png").is_file()
            states[name] = "drawn" if build.up_to_date(entry, out) else "old" if there else "missing"
        return states

    def fingerprint(self, out: Path, failed: Mapping[str, str]) -> str:
        """The hash of all that the page is made of: sources, results, templates, and the figures in `out`.

        Args:
            out: the figures' folder.
            failed: figures that failed to be drawn, each with its reason.
        """
        theory = self.root / "theory"
        paths = [path for path in sorted(theory.rglob("*.py")) if not path.is_relative_to(theory / "tests")]
        modules = [".".join(path.relative_to(self.root).with_suffix("").parts) for path in paths]
        whole = {
            "sources": fingerprint(["paper_figs.report.page", *modules], INPUTS, self.root),
            "versions": {package: metadata.version(package) for package in PACKAGES},
            "states": self.states(out),
            "files": {
                f"{name}{suffix}": _digest(out / f"{name}{suffix}")
                for name in self.figures
                for suffix in SHOWN_SUFFIXES
            },
            "failed": dict(failed),
        }
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()

    def up_to_date(self, out: Path) -> bool:
        """Whether the page is the one last written, no figure failed then, and nothing has changed since."""
        try:
            stamp = read_json(out / f"{self.name}.stamp")
            if stamp["files"][".html"] != _digest(self.file(out)):
                return False
            return bool(stamp["fingerprint"] == self.fingerprint(out, {}))
        except (OSError, ResultError, KeyError, TypeError):  # missing, damaged or of another making
            return False
