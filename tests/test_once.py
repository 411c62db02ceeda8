"""What is made once: the second that asks gets the first one's folder, and a failure is not taken for what was made."""

from pathlib import Path

import pytest

from tests.once import made_once


def test_it_is_made_once_and_again_after_a_failure(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    name, made = tmp_path.name, []

    def make(folder: Path) -> None:
        made.append(folder)
        assert len(made) > 1, "the first fails"
        (folder / "file").write_text("whole")

    with pytest.raises(AssertionError, match="the first fails"):
        made_once(tmp_path_factory, name, make)
    for _ in range(2):
        assert (made_once(tmp_path_factory, name, make) / "file").read_text() == "whole"
    assert len(made) == 2
