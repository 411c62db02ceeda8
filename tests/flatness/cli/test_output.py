"""Results do not depend on the terminal: files are written first, and a stream that takes nothing costs nothing."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flatness.cli.output import Steady, tell

WORDS = ["--images", "4", "--draws", "2", "--scales", "filter", "--curve-rms", "--bits", "--steps", "--no-readout"]


class Failing(io.StringIO):
    """Takes so many writes."""

    def __init__(self, error: Exception, after: int) -> None:
        """Then raises."""
        super().__init__()
        self.error, self.left = error, after

    def write(self, text: str) -> int:
        """Write, or raise."""
        if not self.left:
            raise self.error
        self.left -= 1
        return super().write(text)


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space"), ValueError("closed")])
def test_a_stream_that_fails_is_told_once_and_passed_over(error: Exception) -> None:
    inner = Failing(error, 1)
    stream = Steady(inner)
    for _ in range(3):
        assert stream.write("line\n") == 5
        stream.flush()
    assert inner.getvalue() == "line\n"
    assert stream.failure is error
    assert stream.gone == isinstance(error, BrokenPipeError)
    assert Steady(None).failure is not None
    assert Steady(None).write("x") == 1


def test_what_an_encoding_lacks_is_written_in_ascii() -> None:
    raw = io.BytesIO()
    stream = Steady(io.TextIOWrapper(raw, encoding="ascii"))
    stream.write("1 ± 2 × 3 ε\n")
    stream.flush()
    assert raw.getvalue() == b"1 +- 2 x 3 ?\n"
    assert stream.failure is None


@pytest.mark.parametrize(
    ("redirection", "status"),
    [
        ("> /dev/null", 0),
        ("| true", 0),
        ("> /dev/full", 1),
        (">&-", 1),
        ("2>&-", 0),
        ("2> /dev/full", 0),
        ("2>&1 | true", 0),
    ],
)
def test_results_are_in_their_folder_whatever_becomes_of_the_terminal(
    redirection: str, status: int, tmp_path: Path
) -> None:
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).uniform(-1, 1, (6, 1, 4, 4)))
    command = [sys.executable, "-m", "flatness.cli", "measure", "tests.flatness.cli.models:mlp", "--data",
               str(tmp_path / "d.npz"), *WORDS, "--out", str(tmp_path / "out")]  # fmt: skip
    shell = f"set -o pipefail; {' '.join(command)} {redirection}"
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    document = json.loads((tmp_path / "out" / "measure.json").read_text())
    assert document["sources"]["mlp"]["numbers"]["loss"]["value"] > 0
    if status:
        assert "the table could not be printed" in done.stderr


def test_a_line_is_told_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    tell("error: ± x")
    assert capsys.readouterr().err == "error: ± x\n"
