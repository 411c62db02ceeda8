"""What killed writers leave beside a file is removed by the next one, and what is being written is not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from findings.files import BESIDE, remove_leftovers, whole_file, write_whole

WRITER = """
import os, signal, sys
from pathlib import Path
from findings.files import whole_file
with whole_file(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(path: Path) -> None:
    """A writer of a file that is killed half way."""
    done = subprocess.run([sys.executable, "-c", WRITER, str(path)], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL


def beside(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(BESIDE)]


def test_the_next_writer_of_a_file_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    path = tmp_path / "part.json"
    killed(path)
    assert len(beside(tmp_path)) == 1
    write_whole(tmp_path / "other.json", "{}")
    assert len(beside(tmp_path)) == 1, "another file's"
    write_whole(path, "{}")
    assert beside(tmp_path) == []
    killed(path)
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["other.json", "part.json"]


def test_what_is_being_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "part.json"
    with whole_file(path) as first:
        first.write(b"first")
        with whole_file(path) as second:
            second.write(b"second")
        remove_leftovers(tmp_path)
        assert len(beside(tmp_path)) == 1
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["part.json"]
