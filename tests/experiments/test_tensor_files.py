"""Files of tensors: equal tensors are equal bytes, and a flipped bit and a cut are seen."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from experiments.tensor_files import read_tensors, write_tensors
from findings.checksums import DamagedError

TENSORS = {
    "images": torch.arange(30, dtype=torch.uint8).reshape(2, 5, 3),
    "weights": torch.linspace(-1, 1, 6).reshape(2, 3),
    "count": torch.tensor(7),
    "empty": torch.zeros(0, 3, dtype=torch.float64),
}
METADATA = {"settings": "ab", "made": '{"seconds": 1.5}'}


def test_tensors_and_metadata_are_read_back_also_by_the_library(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, METADATA)
    tensors, metadata = read_tensors(path)
    assert metadata == METADATA
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
        assert torch.equal(safetensors.torch.load_file(path)[name], tensor)
    write_tensors(tmp_path / "again.safetensors", TENSORS, METADATA)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_a_flipped_bit_in_any_byte_is_seen_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, METADATA)
    whole = path.read_bytes()
    harmless = 0
    for place in range(len(whole)):
        bit = 1 << place % 8
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        try:
            tensors, metadata = read_tensors(path)
        except DamagedError:
            continue
        harmless += 1
        assert metadata == METADATA
        assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())
    assert harmless < 0.1 * len(whole)


def test_every_cut_is_seen_and_so_is_what_was_added(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, METADATA)
    whole = path.read_bytes()
    for content in (*(whole[:length] for length in range(len(whole))), whole + b"\0"):
        path.write_bytes(content)
        with pytest.raises(DamagedError, match=r"x\.safetensors is damaged"):
            read_tensors(path)


def test_a_file_without_a_checksum_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    safetensors.torch.save_file(TENSORS, path, {"settings": "ab"})
    tensors, metadata = read_tensors(path)
    assert metadata == {"settings": "ab"}
    assert torch.equal(tensors["images"], TENSORS["images"])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedError, match="is damaged"):
        read_tensors(path)


@pytest.mark.parametrize("header", [b"{}", b'{"a": 3}', b"[" * 5000, b'{"__metadata__": 3}', b'{"a": {"shape": []}}'])
def test_headers_of_any_other_form_are_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"12345")
    with pytest.raises(DamagedError, match="is damaged"):
        read_tensors(path)
