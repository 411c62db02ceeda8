"""Files fetched from their public sources: continued where they were cut off, checked, and put in place whole."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from experiments.data.roots import DataError
from findings.files import hash_file

ATTEMPTS = 5
"""Connections made for one file; one that brings nothing ends the attempts at once."""
TIMEOUT = 30.0
"""Seconds without a byte."""
BLOCK = 2**20
Report = Callable[[int, int | None], None]


class FetchError(DataError):
    """A file could not be fetched: no network, an answer that is no file, or a connection that broke."""


def fetch(
    url: str, target: Path, md5: str | None = None, report: Report | None = None, *, sha256: str | None = None
) -> None:
    """Fetch a file. What has come stays in `target` + ".part" and is continued next time, also by a later program.

    Args:
        url: where it is.
        target: where to put it.
        md5, sha256: of the file, where one is published.
        report: called with (bytes so far, bytes in all or None); None: a progress bar on a terminal.

    Raises:
        FetchError: as above; what has come so far is kept.
        DataError: another checksum; what has come is removed.
        OSError: the file cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    if report is None:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not Console(stderr=True).is_terminal,
        ) as bar:
            task = bar.add_task(target.name, total=None)
            _complete(url, part, lambda done, total: bar.update(task, completed=done, total=total))
    else:
        _complete(url, part, report)
    for kind, published, digest_of in (("MD5", md5, md5_of), ("SHA-256", sha256, sha256_of)):
        if published is not None and (digest := digest_of(part)) != published:
            part.unlink()  # continued from, it could never become right
            raise DataError(
                f"{url}: the file that came has {kind} {digest}; the published one is {published}; it was removed"
            )
    os.replace(part, target)


def _complete(url: str, part: Path, report: Report) -> None:
    """Bring the partial file to its full length."""
    for _ in range(ATTEMPTS):
        before = _length(part)
        try:
            if _continued(url, part, report):
                return
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            if _length(part) <= before:
                raise FetchError(f"{url}: {error}") from error
        else:
            if _length(part) <= before:
                break
    raise FetchError(f"{url}: the connection broke after {_length(part)} bytes, kept in {part}; run this again")


def _continued(url: str, part: Path, report: Report) -> bool:
    """One connection; whether the file is complete now."""
    have = _length(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 416 or not have:
                raise
            # nothing behind what we have: either it is all, or it is not a beginning of this file
            if _total(error.headers.get("Content-Range")) == have:
                return True
        part.unlink()
        return _continued(url, part, report)
    with answer:
        if url.startswith("https:") and not answer.geturl().startswith("https:"):
            raise FetchError(f"{url}: the server leads to {answer.geturl()}, which is not protected on its way")
        ranged = answer.headers.get("Content-Range")
        if answer.status == 206 and not re.match(rf"bytes {have}-", ranged or ""):
            raise FetchError(f"{url}: asked for the bytes from {have}, the server sent {ranged!r}")
        begin = have if answer.status == 206 else 0  # a server that knows no ranges sends everything
        length = answer.headers.get("Content-Length")
        total = begin + int(length) if length is not None else None
        with open(part, "r+b" if begin else "wb") as file:
            file.seek(begin)
            _copy(answer, file, begin, total, report)
            file.flush()
            os.fsync(file.fileno())
    return total is None or _length(part) == total


def _copy(answer: http.client.HTTPResponse, file: BinaryIO, begin: int, total: int | None, report: Report) -> None:
    done = begin
    report(done, total)
    while block := answer.read(BLOCK):
        file.write(block)
        done += len(block)
        report(done, total)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _total(content_range: str | None) -> int | None:
    """What stands behind the slash of a Content-Range."""
    match = re.fullmatch(r"bytes \*/(\d+)", content_range or "")
    return int(match[1]) if match else None


def md5_of(path: Path) -> str:
    """MD5 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    return hash_file(path).sha256


def unzip_folder(archive: Path, folder: str, target: Path) -> None:
    """Take one folder out of a zip file, checked by the zip file's own checksums; whole or not at all.

    Raises:
        DataError: the zip file is cut off or corrupt, or has no such folder.
        OSError: the files cannot be written.
    """
    part = target / f"{folder}.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [name for name in opened.namelist() if name.startswith(f"{folder}/") and not name.endswith("/")]
            if not names:
                raise DataError(f"{archive}: it has no folder {folder}")
            size = sum(opened.getinfo(name).file_size for name in names)  # no more than that is unpacked of each
            free = shutil.disk_usage(next(path for path in (target, *target.absolute().parents) if path.exists())).free
            if size > free:
                raise DataError(f"{archive}: {size} bytes are packed in {folder}, and {free} are free in {target}")
            for name in names:
                opened.extract(name, part)  # zipfile drops what would lead out of the folder
        os.replace(part / folder, target / folder)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{archive}: not a whole zip file ({error}); remove it to fetch it anew") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
