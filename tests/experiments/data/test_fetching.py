"""Fetching, from a server on this machine: continued, checked, whole or not at all."""

import errno
import hashlib
import resource
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from experiments.data import DataError
from experiments.data.fetching import ATTEMPTS, FetchError, fetch, md5_of, unzip_folder
from tests.experiments.data.local_server import Site, served

CONTENTS = np.random.default_rng(0).bytes(100_000)
MD5 = hashlib.md5(CONTENTS, usedforsecurity=False).hexdigest()
NAME = "file.bin"


def site(**settings: object) -> Site:
    return Site({NAME: CONTENTS}, **settings)  # type: ignore[arg-type]


def quiet(done: int, total: int | None) -> None:
    """No progress bar."""


def assert_whole(target: Path) -> None:
    assert target.read_bytes() == CONTENTS
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_file_is_fetched_with_its_progress(tmp_path: Path) -> None:
    reports: list[tuple[int, int | None]] = []
    with served(site()) as there:
        fetch(there.url + NAME, tmp_path / "new" / NAME, MD5, lambda done, total: reports.append((done, total)))
    assert_whole(tmp_path / "new" / NAME)
    assert (reports[0], reports[-1]) == ((0, 100_000), (100_000, 100_000))
    assert there.requests == [(NAME, None)]
    assert md5_of(tmp_path / "new" / NAME) == MD5


@pytest.mark.parametrize("have", [1, 40_000, 99_999])
def test_what_an_earlier_program_left_is_continued(tmp_path: Path, have: int) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(CONTENTS[:have])
    with served(site()) as there:
        fetch(there.url + NAME, tmp_path / NAME, MD5, quiet)
    assert there.requests == [(NAME, f"bytes={have}-")]
    assert_whole(tmp_path / NAME)


def test_a_part_that_is_already_whole_is_only_checked(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(CONTENTS)
    with served(site()) as there:
        fetch(there.url + NAME, tmp_path / NAME, MD5, quiet)
    assert there.requests == [(NAME, "bytes=100000-")]
    assert_whole(tmp_path / NAME)


def test_a_part_longer_than_the_file_is_fetched_anew(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(CONTENTS + b"more")
    with served(site()) as there:
        fetch(there.url + NAME, tmp_path / NAME, MD5, quiet)
    assert there.requests == [(NAME, "bytes=100004-"), (NAME, None)]
    assert_whole(tmp_path / NAME)


def test_a_server_without_ranges_sends_everything_again(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(CONTENTS[:40_000])
    with served(site(ranges=False)) as there:
        fetch(there.url + NAME, tmp_path / NAME, MD5, quiet)
    assert there.requests == [(NAME, "bytes=40000-")]
    assert_whole(tmp_path / NAME)


def test_connections_that_break_off_are_continued(tmp_path: Path) -> None:
    with served(site(cut=[30_000, 20_000])) as there:
        fetch(there.url + NAME, tmp_path / NAME, MD5, quiet)
    assert [wanted for _, wanted in there.requests] == [None, "bytes=30000-", "bytes=50000-"]
    assert_whole(tmp_path / NAME)


def test_what_came_before_the_attempts_ran_out_is_kept(tmp_path: Path) -> None:
    with served(site(cut=[1000] * ATTEMPTS)) as there:
        with pytest.raises(FetchError, match=f"broke after {ATTEMPTS}000 bytes, kept in .*{NAME}.part; run this again"):
            fetch(there.url + NAME, tmp_path / NAME, MD5, quiet)
        assert (tmp_path / f"{NAME}.part").read_bytes() == CONTENTS[: 1000 * ATTEMPTS]
        assert not (tmp_path / NAME).exists()
        fetch(there.url + NAME, tmp_path / NAME, MD5, quiet)
    assert_whole(tmp_path / NAME)


def test_a_connection_that_brings_nothing_ends_the_attempts(tmp_path: Path) -> None:
    with served(site(cut=[0] * ATTEMPTS)) as there, pytest.raises(FetchError, match="broke after 0 bytes"):
        fetch(there.url + NAME, tmp_path / NAME, MD5, quiet)
    assert len(there.requests) == 1


def test_another_checksum_leaves_nothing(tmp_path: Path) -> None:
    """Also where the beginning came from an earlier program: it could never become right."""
    for have in (b"", b"x" * 40_000):
        if have:
            (tmp_path / f"{NAME}.part").write_bytes(have)
        with served(site()) as there, pytest.raises(DataError, match=f"{NAME}: .* MD5 .* published one is ") as raised:
            fetch(there.url + NAME, tmp_path / NAME, MD5 if have else "0" * 32, quiet)
        assert not isinstance(raised.value, FetchError)
        assert list(tmp_path.iterdir()) == []


def test_a_server_that_sends_another_range_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(CONTENTS[:10])
    with served(site(wrong_range=True)) as there, pytest.raises(FetchError, match="asked for the bytes from 10"):
        fetch(there.url + NAME, tmp_path / NAME, MD5, quiet)
    assert (tmp_path / f"{NAME}.part").read_bytes() == CONTENTS[:10]


def test_a_missing_file_and_a_missing_server_are_named(tmp_path: Path) -> None:
    with served(site()) as there, pytest.raises(FetchError, match="nothing: HTTP Error 404"):
        fetch(there.url + "nothing", tmp_path / NAME, MD5, quiet)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/{NAME}"
        with pytest.raises(FetchError, match=f"{url}: .*refused"):
            fetch(url, tmp_path / NAME, MD5, quiet)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_and_what_came_is_kept(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: writes beyond it fail in the same way."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with served(site()) as there:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
            with pytest.raises(OSError, match="File too large") as raised:
                fetch(there.url + NAME, tmp_path / NAME, MD5, quiet)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert raised.value.errno == errno.EFBIG
        assert not (tmp_path / NAME).exists()
        fetch(there.url + NAME, tmp_path / NAME, MD5, quiet)
    assert_whole(tmp_path / NAME)


def zipped(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/data.mdb", CONTENTS)
        archive.writestr("folder/lock.mdb", b"")
        archive.writestr("other/file", b"")
        archive.writestr("folder/../../outside", b"")
    return path


def test_one_folder_of_a_zip_file(tmp_path: Path) -> None:
    unzip_folder(zipped(tmp_path / "a.zip"), "folder", tmp_path / "to")
    assert (tmp_path / "to" / "folder" / "data.mdb").read_bytes() == CONTENTS
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["folder"]
    assert not (tmp_path / "outside").exists()


def flip(contents: bytes) -> bytes:
    return contents[:5000] + bytes([contents[5000] ^ 1]) + contents[5001:]


@pytest.mark.parametrize(("damage", "message"), [(flip, "Bad CRC-32"), (lambda c: c[:-50], "not a zip file")])
def test_a_broken_zip_file_leaves_nothing(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    path = zipped(tmp_path / "a.zip")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=rf"a\.zip: not a whole zip file \(.*{message}"):
        unzip_folder(path, "folder", tmp_path / "to")
    assert not (tmp_path / "to").exists() or not list((tmp_path / "to").iterdir())
    with pytest.raises(DataError, match="it has no folder elsewhere"):
        unzip_folder(zipped(path), "elsewhere", tmp_path / "to")
