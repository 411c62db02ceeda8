"""Small images: boxes by hand, files that are not the published ones, and the real ones where they are installed."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from toy import training_sets


def test_boxes_are_means_of_the_padded_image() -> None:
    whole = torch.randint(0, 256, (3, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    pooled = training_sets.boxes(whole)
    padded = np.zeros((3, 32, 32))
    padded[:, 2:30, 2:30] = whole.numpy()
    for i in range(8):
        for j in range(8):
            expected = padded[:, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean((1, 2)) / 127.5 - 1
            assert np.allclose(pooled[:, 8 * i + j].numpy(), expected, atol=1e-6)  # float32


def test_a_file_of_another_kind_is_refused() -> None:
    good = struct.pack(">4i", 2051, 2, 28, 28) + bytes(2 * 28 * 28)
    assert training_sets.unpacked(good, 2).shape == (2, 28, 28)
    for bad, count in ((good[:-1], 2), (good, 3), (b"", 2), (struct.pack(">4i", 2049, 2, 28, 28) + good[16:], 2)):
        with pytest.raises(ValueError, match="contents begin with"):
            training_sets.unpacked(bad, count)


def test_files_that_are_missing_or_not_the_published_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="split is 'validation'; allowed"):
        training_sets.fashion_mnist("validation", tmp_path)
    with pytest.raises(ValueError, match=r"cannot be read .*dataset-fashion-mnist"):
        training_sets.fashion_mnist("test", tmp_path)
    (tmp_path / training_sets.FILES["test"][0]).write_bytes(gzip.compress(b"something else"))
    with pytest.raises(ValueError, match="has the SHA-256"):
        training_sets.fashion_mnist("test", tmp_path)


@pytest.mark.skipif(
    not (training_sets.ROOT / training_sets.FILES["test"][0]).is_file(), reason="Fashion-MNIST is not installed"
)
def test_the_published_images() -> None:
    points = training_sets.fashion_mnist("test")
    assert (len(points), points.dimension) == (10_000, 64)
    assert float(points.x.min()) == -1.0
    assert float(points.x.max()) <= 1.0
    assert points is training_sets.fashion_mnist("test"), "read once"
