"""The version stands in the package; what else names it agrees."""

from __future__ import annotations

import re

import flatness
from tests.package.building import ROOT

HEADING = re.compile(r"^## (\d+\.\d+\.\d+) - (unreleased|\d{4}-\d{2}-\d{2})$")


def headings() -> list[re.Match[str] | None]:
    """Those of the changelog's versions, newest first."""
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    return [HEADING.match(line) for line in lines if line.startswith("## ")]


def test_all_that_name_the_version_agree() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", flatness.__version__)
    cited = re.findall(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited == [flatness.__version__]
    newest = headings()[0]
    assert newest is not None
    assert newest.group(1) == flatness.__version__


def test_the_changelogs_versions_are_dated_and_fall() -> None:
    dated = headings()
    assert all(dated)
    numbers = [tuple(map(int, one.group(1).split("."))) for one in dated if one is not None]
    assert numbers == sorted(set(numbers), reverse=True)
    released = [one.group(2) for one in dated if one is not None][1:]
    assert "unreleased" not in released
    assert released == sorted(released, reverse=True)
