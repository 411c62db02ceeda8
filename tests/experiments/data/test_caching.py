"""The cache of decoded images: made once, whole or not at all, used from memory or mapped."""

import contextlib
import errno
import resource
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.data import DataError, Preparation, caching
from experiments.data.caching import Read, cache_path, load_cached, sampled
from findings.files import BESIDE
from tests.experiments.data.made_files import encoded, level

COUNT = 10


@dataclass(frozen=True)
class Photographs:
    """A source that counts how often it is listed."""

    path: Path
    name: str = "ffhq"
    fingerprint: str = "sha256:1"
    broken: str = ""
    listed: list[int] = field(default_factory=list)

    def keys(self) -> Sequence[str]:
        self.listed.append(1)
        return [str(n) for n in range(COUNT)]

    @contextlib.contextmanager
    def opened(self) -> Iterator[Read]:
        yield lambda key: b"broken" if key == self.broken else encoded(int(key), (32, 40))


@pytest.fixture
def source(tmp_path: Path) -> Photographs:
    return Photographs(tmp_path / "source")


HERE = Preparation(workers=0)
EXPECTED = torch.tensor([level(n) for n in range(COUNT)], dtype=torch.uint8)[..., None, None].expand(COUNT, 3, 16, 16)


def test_processes_decode_in_order_and_hand_their_errors_over(
    source: Photographs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "CHUNK", 3)  # four chunks, the last one of one image
    chunks = caching.decoded(Photographs(source.path, broken="9"), source.keys(), 16, workers=2)
    assert np.array_equal(np.concatenate([next(chunks) for _ in range(3)]), EXPECTED[:9].numpy())
    with pytest.raises(DataError, match="source: 9: cannot be decoded"):
        next(chunks)
    assert np.array_equal(np.concatenate(list(caching.decoded(source, source.keys(), 16, 0))), EXPECTED.numpy())


def test_it_is_made_once_and_an_ordinary_npy_file(source: Photographs) -> None:
    for split, count in (("train", COUNT - 1), ("test", 1), ("all", COUNT)):
        images = load_cached(source, COUNT, split, 16, HERE)
        assert (len(images), images.fingerprint, images.split) == (count, "sha256:1", split)
    assert len(source.listed) == 1
    assert np.array_equal(np.load(cache_path(source, 16, HERE)), EXPECTED.numpy())


def test_one_in_seventy_is_held_out(tmp_path: Path) -> None:
    source = Photographs(tmp_path / "source")
    numbered = np.zeros((210, 3, 8, 8), np.uint8)
    numbered[:, 0, 0, 0] = np.arange(210)
    np.save(cache_path(source, 8, HERE), numbered)
    for split, numbers in (("test", range(207, 210)), ("train", range(207)), ("all", range(210))):
        assert load_cached(source, 210, split, 8, HERE).pixels[:, 0, 0, 0].tolist() == list(numbers)


def test_another_source_or_size_has_a_cache_of_its_own(source: Photographs, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {
        cache_path(source, 16, HERE),
        cache_path(source, 32, HERE),
        cache_path(Photographs(source.path, fingerprint="sha256:2"), 16, HERE),
        cache_path(source, 16, Preparation(cache=source.path / "elsewhere")),
    }
    monkeypatch.setattr(caching, "ADM_CROP", "another procedure")
    paths.add(cache_path(source, 16, HERE))
    assert len(paths) == 5


def test_large_splits_are_mapped_and_the_file_stays_as_it_is(source: Photographs) -> None:
    held = load_cached(source, COUNT, "all", 16, HERE)
    mapped = load_cached(source, COUNT, "all", 16, Preparation(workers=0, memory_limit=EXPECTED.numel() - 1))
    path = cache_path(source, 16, HERE)
    before = path.read_bytes()
    indices = torch.tensor([9, 0, 9])
    assert torch.equal(mapped.gather(indices), held.gather(indices))
    assert torch.equal(mapped.pixels, held.pixels)
    mapped.pixels.zero_()
    assert path.read_bytes() == before
    assert str(path) in Path("/proc/self/maps").read_text(encoding="utf-8")
    del mapped
    assert str(path) not in Path("/proc/self/maps").read_text(encoding="utf-8")  # so `held` is in memory


def test_a_full_disk_leaves_nothing_behind(source: Photographs) -> None:
    """A limit on the size of files stands in for the disk: writes beyond it fail in the same way."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
        with pytest.raises(OSError, match=r"ffhq-16-.*\.npy") as raised:
            load_cached(source, COUNT, "all", 16, HERE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.errno == errno.EFBIG
    assert [path.suffix for path in source.path.parent.iterdir()] == [".lock"]
    assert len(load_cached(source, COUNT, "all", 16, HERE)) == COUNT


def test_what_a_killed_program_left_is_not_used(source: Photographs) -> None:
    path = cache_path(source, 16, HERE)
    left = path.with_name(f"{BESIDE}{path.name}.1-0a")
    left.write_bytes(b"half a cache" * 10_000)
    assert torch.equal(load_cached(source, COUNT, "all", 16, HERE).pixels, EXPECTED)
    assert not left.exists()


@pytest.mark.parametrize("cut", [1, 5000, 10_000])
def test_a_cache_that_is_cut_off_is_named(source: Photographs, cut: int) -> None:
    load_cached(source, COUNT, "all", 16, HERE)
    path = cache_path(source, 16, HERE)
    path.write_bytes(path.read_bytes()[:-cut] if cut < 10_000 else b"")
    with pytest.raises(DataError, match=f"{path.name}: not a whole cache"):
        load_cached(source, COUNT, "all", 16, HERE)


def test_a_cache_of_another_shape_or_of_objects_is_refused(source: Photographs) -> None:
    path = cache_path(source, 16, HERE)
    np.save(path, np.zeros((COUNT, 3, 16, 16), np.float32))
    with pytest.raises(DataError, match="float32"):
        load_cached(source, COUNT, "all", 16, HERE)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="not a whole cache"):
        load_cached(source, COUNT, "all", 16, HERE)


def test_several_at_once_make_it_once(source: Photographs) -> None:
    """Locks are held by open files, so threads stand in for the ranks of one machine."""
    sizes: list[int] = []
    start = threading.Barrier(4)

    def rank() -> None:
        start.wait()
        sizes.append(len(load_cached(source, COUNT, "all", 16, HERE)))

    threads = [threading.Thread(target=rank) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [COUNT] * 4
    assert len(source.listed) == 1


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="workers is -1"):
        Preparation(workers=-1)
    with pytest.raises(ValueError, match="memory_limit is -1"):
        Preparation(memory_limit=-1)


def test_samples_are_spread_and_hold_both_ends() -> None:
    assert sampled(0) == []
    assert sampled(5) == [0, 1, 2, 3, 4]
    places = sampled(10_000)
    assert (len(places), places[0], places[-1]) == (64, 0, 9_999)
    assert {round(step / 158.7) for step in np.diff(places)} == {1}
