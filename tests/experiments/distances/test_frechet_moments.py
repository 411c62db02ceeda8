"""Streaming moments: any division into batches gives the same, digits are kept, and files are whole or refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.distances import frechet
from experiments.distances.frechet import Moments
from tests.experiments.distances.gaussian_cases import EPS


def _features(number: int = 40, width: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    drift = torch.arange(number, dtype=torch.float64)[:, None]  # so that batches have different means
    return torch.randn(number, width, generator=generator, dtype=torch.float64) + drift


def _of(*parts: torch.Tensor) -> Moments:
    moments = Moments(parts[0].shape[1])
    for part in parts:
        moments.update(part)
    return moments


def _check_same(moments: Moments, features: torch.Tensor) -> None:
    # sums of 40 terms, a few operations each
    scale = features.square().sum().item()
    assert moments.count == len(features)
    torch.testing.assert_close(moments.mean, features.mean(0), rtol=100 * EPS, atol=0)
    torch.testing.assert_close(moments.covariance, features.T.cov(), rtol=0, atol=100 * EPS * scale)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 40), max_size=5).map(sorted), st.integers(0, 6))
def test_any_division_into_batches_gives_the_same(cuts: list[int], merged: int) -> None:
    """Empty batches and single vectors among them; the last ones by way of `merge`."""
    features = _features()
    parts = features.tensor_split(cuts)
    first, second = _of(*parts[:merged], features[:0]), _of(features[:0], *parts[merged:])
    first.merge(second)
    _check_same(first, features)


def test_without_undoes_merge() -> None:
    features = _features()
    _check_same(_of(features).without(_of(features[5:12])), torch.cat([features[:5], features[12:]]))
    with pytest.raises(ValueError, match="fewer than 40"):
        _of(features).without(_of(features))


def test_a_mean_large_beside_the_spread_costs_no_digits() -> None:
    generator = torch.Generator().manual_seed(1)
    spread = torch.randn(1000, 2, generator=generator, dtype=torch.float64)
    features = spread + 2.0**26
    exact = (features - 2.0**26).T.cov()  # the subtraction is exact
    # means are rounded to eps 2^26 = 1.5e-8
    torch.testing.assert_close(_of(*features.split(10)).covariance, exact, rtol=0, atol=1.5e-8)
    sums = (features.T @ features - 1000 * torch.outer(features.mean(0), features.mean(0))) / 999
    assert (sums - exact).abs().max() > 1e-3  # what plain sums of products would give


def test_float32_features_are_summed_in_float64() -> None:
    features = _features().float()
    _check_same(_of(features), features.double())


@pytest.mark.parametrize(
    "bad",
    [
        torch.zeros(2, 4),
        torch.zeros(3),
        torch.full((2, 3), torch.inf),
        torch.zeros(2, 3, dtype=torch.int64),
        None,
        torch.full((2, 3), torch.nan),
        torch.full((2, 3), 1e200, dtype=torch.float64),
        torch.zeros(2, 3, device="meta"),
    ],
)
def test_bad_features_are_refused_and_nothing_is_taken_in(bad: torch.Tensor) -> None:
    moments = _of(_features())
    with pytest.raises(ValueError, match="features"):
        moments.update(bad)
    _check_same(moments, _features())


def test_bad_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="width"):
        Moments(0)
    with pytest.raises(ValueError, match="other has width 2"):
        Moments(3).merge(Moments(2))


def test_files_give_back_every_bit(tmp_path: Path) -> None:
    moments = _of(_features())
    path = tmp_path / "new" / "moments.safetensors"
    moments.to_file(path, {"split": "train"})
    read = Moments.from_file(path, {"split": "train"})
    assert read.count == moments.count
    assert torch.equal(read.mean, moments.mean)
    assert torch.equal(read.scatter, moments.scatter)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "moments.safetensors"
    _of(_features()).to_file(path, {"split": "train"})
    whole = path.read_bytes()
    for place in (0, 20, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="moments"):
            Moments.from_file(path, {"split": "train"})
    for length in (0, 7, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="moments"):
            Moments.from_file(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mean", torch.full((3,), torch.nan, dtype=torch.float64)),
        ("mean", torch.zeros(2, dtype=torch.float64)),
        ("mean", torch.zeros(3, dtype=torch.float32)),
        ("mean", torch.zeros(3, dtype=torch.bfloat16)),
        ("mean", torch.tensor(0.0, dtype=torch.float64)),
        ("scatter", -torch.eye(3, dtype=torch.float64)),
        ("scatter", torch.ones(3, 3, dtype=torch.float64).tril()),
        ("scatter", torch.full((3, 3), torch.inf, dtype=torch.float64)),
        ("scatter", torch.eye(3, dtype=torch.int64)),
        ("scatter", torch.ones(9, dtype=torch.float64)),
        ("count", torch.tensor(-5)),
        ("count", torch.tensor(torch.inf)),
        ("count", torch.tensor([5])),
    ],
)
def test_files_with_a_checksum_of_their_own_hold_moments_or_are_refused(
    tmp_path: Path, name: str, value: torch.Tensor
) -> None:
    """Whoever writes a file can give it its checksum; NaN would be a distance of 0."""
    made, path = _of(_features()), tmp_path / "moments.safetensors"
    setattr(made, name, value)
    tensors = {"count": torch.as_tensor(made.count), "mean": made.mean, "scatter": made.scatter}
    tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
    narrow = value.dtype == torch.bfloat16  # of which there is no digest
    metadata = {"format": frechet.FORMAT, "sha256": "" if narrow else frechet._digest(tensors)}
    path.write_bytes(safetensors.torch.save(tensors, metadata))
    with pytest.raises(ValueError, match=r"moments\.safetensors"):
        Moments.from_file(path)


def test_files_about_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "moments.safetensors"
    with pytest.raises(ValueError, match="cannot be read"):
        Moments.from_file(path)
    _of(_features()).to_file(path, {"split": "train"})
    with pytest.raises(ValueError, match=r"says .*train.*; allowed: .*test"):
        Moments.from_file(path, {"split": "test"})


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "moments.safetensors"
    _of(_features()).to_file(path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        Moments(2).to_file(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
