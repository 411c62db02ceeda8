"""Versions, commit and device: a clean checkout, a changed one, none; and nothing that names the computer."""

import json
import os
import platform
import subprocess
from pathlib import Path

import pytest
import torch

from experiments.provenance import provenance
from findings.provenance import ROOT, commit


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    return subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("change", ["", "new file", "edit"])
def test_the_commit_tells_a_changed_checkout(tmp_path: Path, change: str) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a.txt").write_text("a")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    if change:
        (tmp_path / ("b.txt" if change == "new file" else "a.txt")).write_text("b")
    assert commit(tmp_path) == git(tmp_path, "rev-parse", "HEAD").strip() + ("+changes" if change else "")


def test_outside_of_a_checkout_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert commit(tmp_path / "nowhere") is None


def test_it_is_plain_and_names_no_computer() -> None:
    about = provenance("cpu")
    text = json.dumps(about)
    assert json.loads(text) == about
    assert about["versions"]["torch"] == torch.__version__
    assert about["device"].startswith("cpu, ")
    named = [platform.node(), str(ROOT), os.environ.get("USER", "")]
    assert not any(name and name in text for name in named)
