"""Where commands meet a person: which words are held to be the command line's."""

from __future__ import annotations

import sys

import pytest

from findings.boundary import REFUSED, guarded


@pytest.mark.parametrize(
    ("own", "words", "status"),
    [
        (["--out", ""], None, REFUSED),
        (["--out", ""], ["--out", "x"], 0),  # called from a program whose own line is no concern of the command
        (["--out", "x"], ["--out", ""], REFUSED),
        (["--out="], [], 0),
    ],
)
def test_a_command_called_with_words_of_its_own_is_held_to_these(
    own: list[str], words: list[str] | None, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["program", *own])
    done: list[int] = []

    def work() -> int:
        done.append(1)
        return 0

    assert guarded(work, words=words) == status
    assert len(done) == (status == 0)
