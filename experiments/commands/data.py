"""`python -m experiments data NAME`: what is there of a data set, and what is missing fetched or named."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from rich.console import Console

from experiments.data import DATASETS, cifar10, fashion_mnist, ffhq
from experiments.data.fetching import FetchError, fetch, unzip_folder
from experiments.data.roots import VARIABLE, DataError, NotFoundError, Root, data_root
from flatness import arguments

LSUN_FOLDER = "tower_train_lmdb"
LSUN_SHA256 = "440caec74c9641cb51fd235a5970c8e4931c3af875aeb044a8bcca956e106309"
"""Of the archive of 12,010,237,081 bytes, as TensorFlow Datasets publishes it (url_checksums/lsun.txt); LSUN itself
publishes none."""
FASHION_MNIST_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"


def main(arguments: list[str]) -> int:
    """Run the command line; 0 where the data set is there, 1 where it is not."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments data",
        description="Say what is there of a data set; fetch what is missing; where that cannot be done, say what to "
        "download by hand.",
    )
    parser.add_argument("name", choices=DATASETS, metavar="NAME", help=", ".join(DATASETS))
    parser.add_argument("--root", type=Path, metavar="DIR", help="the data root (default: FLATNESS_DATA, or ./data)")
    parser.add_argument(
        "--download", action=argparse.BooleanOptionalAction, default=True, help="fetch what is missing (default: yes)"
    )
    options = parser.parse_args(arguments)
    status = run(options.name, options.root, options.download)
    if status:
        print(f"error: {options.name} is not in {data_root(options.root)}", file=sys.stderr)
    return status


@dataclass(frozen=True)
class Download:
    """One file to fetch: its name, its address and its MD5 or SHA-256, where one is published."""

    name: str
    url: str
    md5: str | None = None
    sha256: str | None = None

    @property
    def checksum(self) -> str:
        """In words, for whoever fetches it by hand; "" where none is published."""
        return f"MD5 {self.md5}" if self.md5 else f"SHA-256 {self.sha256}" if self.sha256 else ""


@dataclass(frozen=True)
class Origin:
    """Where a data set comes from.

    Attributes:
        downloads: the files to fetch; none where there is no direct link.
        by_hand: what to download and where to put it; {folder} stands for the data set's own folder.
        unpack: done with that folder after fetching.
    """

    downloads: tuple[Download, ...]
    by_hand: str
    unpack: Callable[[Path, Console], None] | None = None


def _unpack_lsun(folder: Path, console: Console) -> None:
    archive = folder / f"{LSUN_FOLDER}.zip"
    _say(console, f"unpacking {archive}")
    unzip_folder(archive, LSUN_FOLDER, folder)
    _say(console, f"{archive} is not needed any more")


ORIGINS: Mapping[str, Origin] = {
    cifar10.NAME: Origin(
        (Download(cifar10.ARCHIVE, f"https://www.cs.toronto.edu/~kriz/{cifar10.ARCHIVE}", cifar10.ARCHIVE_MD5),),
        f"Download the binary version (162 MiB) and put it, as it is or unpacked, into {{folder}}. Its MD5 is "
        f"{cifar10.ARCHIVE_MD5}.",
    ),
    "lsun-tower": Origin(
        (Download(f"{LSUN_FOLDER}.zip", f"https://dl.yf.io/lsun/scenes/{LSUN_FOLDER}.zip", sha256=LSUN_SHA256),),
        f"Download {LSUN_FOLDER}.zip (about 11 GB) and unpack it, so that {{folder}}/{LSUN_FOLDER}/data.mdb exists.",
        _unpack_lsun,
    ),
    ffhq.NAME: Origin(
        (),
        f"There is no direct link. The thumbnails of 128 x 128 pixels (about 2 GB) are the folder {ffhq.FOLDER} on the "
        "Google Drive that https://github.com/NVlabs/ffhq-dataset links to; its download_ffhq.py fetches them with "
        "--thumbs, and Kaggle has copies. "
        f"Put the folder, or a zip file of it, at {{folder}}/{ffhq.FOLDER} or {{folder}}/{ffhq.FOLDER}.zip.",
    ),
    fashion_mnist.NAME: Origin(
        tuple(Download(name, FASHION_MNIST_URL + name, f.published_md5) for name, f in fashion_mnist.FILES.items()),
        "Download these four files (29 MiB) into {folder}, or, on Debian and Ubuntu, `apt install "
        "dataset-fashion-mnist`.",
    ),
}


def run(name: str, root: Root = None, download: bool = True, console: Console | None = None) -> int:
    """Say what is there; fetch what is missing; where that is impossible, say what to download by hand.

    Args:
        name: one of the data sets.
        root: the data root; None for the environment variable FLATNESS_DATA, else ./data.
        download: fetch what is missing.
        console: where to write; None: standard output.

    Returns:
        0 where the data set is there and checked, else 1: an exit status.

    Raises:
        DataError: the data set is there and damaged; it is left for the person to look at.
        ValueError: an argument is not as above.
    """
    arguments.choice("name", name, DATASETS)
    arguments.flag("download", download)
    console = console or Console(soft_wrap=True)
    if _said(name, root, console):
        return 0
    origin = ORIGINS[name]
    folder = data_root(root) / name
    if download and origin.downloads:
        try:
            _fetch_missing(origin, folder, console)
        except FetchError as error:
            _say(console, f"{name}: could not be fetched: {error}")
        except (DataError, OSError) as error:
            _say(console, f"{name}: {error}")
            return 1
        else:
            return 0 if _said(name, root, console, missing_is_known=False) else 1
    _say(console, f"{name}: to download by hand")
    for file in origin.downloads:
        _say(console, f"  {file.url}" + (f"  ({file.checksum})" if file.checksum else ""))
    _say(console, "  " + origin.by_hand.format(folder=folder.absolute()))
    _say(console, f"  Another folder: the data root option, or {VARIABLE} in the environment.")
    return 1


def _said(name: str, root: Root, console: Console, missing_is_known: bool = True) -> bool:
    """Whether the data set is there; says so."""
    try:
        status = import_module("experiments.data." + name.replace("-", "_")).inspect(root)
    except NotFoundError as error:
        _say(console, f"{name}: not there yet" if missing_is_known else str(error))
        return False
    _say(console, f"{name}: {status.path}")
    _say(console, f"  {status.images:,} images; checksum: {status.checksum}")
    _say(console, f"  fingerprint {status.fingerprint}")
    return True


def _fetch_missing(origin: Origin, folder: Path, console: Console) -> None:
    for file in origin.downloads:
        target = folder / file.name
        if not target.is_file():
            _say(console, f"fetching {file.url} to {target}")
            fetch(file.url, target, file.md5, sha256=file.sha256)
    if origin.unpack is not None:
        origin.unpack(folder, console)


def _say(console: Console, line: str) -> None:
    """Paths and errors as they are: no markup, no colours, no wrapping."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)
