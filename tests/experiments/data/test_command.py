"""What `python -m experiments data NAME` says and does."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from experiments.commands import data as command
from experiments.commands.data import ORIGINS, run
from experiments.data import DATASETS, DataError, cifar10, fashion_mnist
from tests.experiments.data.local_server import Site, served
from tests.experiments.data.made_files import as_published

RunData = Callable[..., tuple[int, str]]


@pytest.fixture
def run_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunData:
    """The exit status and the text; nothing at Debian's place."""
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "no package")

    def call(name: str, root: Path | None = None, download: bool = False) -> tuple[int, str]:
        file = io.StringIO()
        return run(name, root, download, Console(file=file, width=40)), file.getvalue()

    return call


def from_site(monkeypatch: pytest.MonkeyPatch, name: str, url: str) -> None:
    origin = ORIGINS[name]
    moved = tuple(replace(file, url=url + file.name) for file in origin.downloads)
    monkeypatch.setattr(command, "ORIGINS", {**ORIGINS, name: replace(origin, downloads=moved)})


@pytest.mark.parametrize("name", DATASETS)
def test_it_says_what_to_download_and_where_to_put_it(run_data: RunData, tmp_path: Path, name: str) -> None:
    status, text = run_data(name, tmp_path / "root")
    assert status == 1
    assert text.startswith(f"{name}: not there yet\n{name}: to download by hand\n")
    for file in ORIGINS[name].downloads:
        assert f"\n  {file.url}" + (f"  ({file.checksum})" if file.checksum else "") + "\n" in text
    assert str(tmp_path / "root" / name) in text
    assert "FLATNESS_DATA" in text
    assert not (tmp_path / "root").exists()


def test_what_has_no_direct_link_is_not_fetched(run_data: RunData, tmp_path: Path) -> None:
    status, text = run_data("ffhq", tmp_path, download=True)
    assert status == 1
    assert "There is no direct link" in text


def test_without_a_network_it_says_why_and_what_to_do(
    run_data: RunData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(Site({})) as there:
        from_site(monkeypatch, "cifar10", there.url)
        status, text = run_data("cifar10", tmp_path, download=True)
    assert status == 1
    assert f"cifar10: could not be fetched: {there.url}{cifar10.ARCHIVE}: HTTP Error 404" in text
    assert "to download by hand" in text
    assert cifar10.ARCHIVE_MD5 in text


def test_a_wrong_file_is_not_kept(run_data: RunData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(Site({cifar10.ARCHIVE: b"<html>"})) as there:
        from_site(monkeypatch, "cifar10", there.url)
        status, text = run_data("cifar10", tmp_path, download=True)
    assert status == 1
    assert f"the published one is {cifar10.ARCHIVE_MD5}" in text
    assert list((tmp_path / "cifar10").iterdir()) == []


def test_lsuns_archive_is_held_against_its_checksum(
    run_data: RunData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = b"PK of another"
    with served(Site({"tower_train_lmdb.zip": other})) as there:
        from_site(monkeypatch, "lsun-tower", there.url)
        status, text = run_data("lsun-tower", tmp_path, download=True)
    assert status == 1
    assert f"SHA-256 {hashlib.sha256(other).hexdigest()}; the published one is 440caec7" in text
    assert list((tmp_path / "lsun-tower").iterdir()) == []


def test_every_file_comes_over_a_checked_transport_or_has_a_checksum() -> None:
    files = [file for origin in ORIGINS.values() for file in origin.downloads]
    assert {file.name for file in files if not file.checksum} == set()
    assert {file.name for file in files if not file.url.startswith("https://")} == set(fashion_mnist.FILES)


def test_fashion_mnist_is_fetched_checked_and_found(
    run_data: RunData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_fashion_mnist: Path
) -> None:
    names = list(fashion_mnist.FILES)
    with served(Site({name: as_published(real_fashion_mnist, name) for name in names}, cut=[1_000_000])) as there:
        from_site(monkeypatch, "fashion-mnist", there.url)
        status, text = run_data("fashion-mnist", tmp_path, download=True)
        assert status == 0
        assert [name for name, _ in there.requests] == [names[0], *names]  # the first broke off and was continued
        assert f"fashion-mnist: {tmp_path / 'fashion-mnist'}\n  70,000 images; checksum: the contents' SHA-256 " in text
        (tmp_path / "fashion-mnist" / names[1]).unlink()
        there.requests.clear()
        assert run_data("fashion-mnist", tmp_path, download=True)[0] == 0
        assert there.requests == [(names[1], None)]
        assert run_data("fashion-mnist", tmp_path) == run_data("fashion-mnist", tmp_path, download=True)
        assert len(there.requests) == 1
    (tmp_path / "fashion-mnist" / names[0]).write_bytes(b"damaged")
    with pytest.raises(DataError, match=f"{names[0]}: not a whole gzip file"):
        run_data("fashion-mnist", tmp_path, download=True)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="name is 'mnist'"):
        run("mnist")
    with pytest.raises(ValueError, match="download is 1"):
        run("cifar10", download=1)  # type: ignore[arg-type]
