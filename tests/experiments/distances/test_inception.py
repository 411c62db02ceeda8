"""Inception's features without Inception: what is said where something is missing, and that digests are checked."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from experiments.distances import inception
from experiments.distances.inception import InceptionError, InceptionFeatures
from tests.experiments.data.local_server import Site, served

NAME = "weights.pth"


class StandIn(nn.Module):
    """In place of torchmetrics' network: the means of channels, scaled by a weight, 2048 times over."""

    def __init__(self, name: str, features_list: list[str], path: str, antialias: bool = True) -> None:
        super().__init__()
        assert (features_list, antialias) == (["2048"], False)
        self.scale = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.load_state_dict(torch.load(path, weights_only=False))

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[1] == 3
        return (self.scale * images.double().mean(dim=(1, 2, 3)))[:, None].expand(-1, 2048).float()


@pytest.fixture
def content(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Bytes of weights whose digest is the allowed one, and a network that takes them."""
    stream = io.BytesIO()
    torch.save({"scale": torch.tensor(2.0)}, stream)
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(stream.getvalue()).hexdigest())
    monkeypatch.setattr(inception, "_network_class", lambda: StandIn)
    return stream.getvalue()


def test_features_of_grey_and_coloured_images_in_any_batch(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    grey = InceptionFeatures(path, batch=2)(images)
    assert grey.shape == (5, 2048)
    assert torch.equal(grey, InceptionFeatures(path)(images.repeat(1, 3, 1, 1)))
    torch.testing.assert_close(grey[:, 0], 2 * images.float().mean(dim=(1, 2, 3)))
    assert InceptionFeatures(path)(images[:0]).shape == (0, 2048)
    for bad in (images.float(), images[0], torch.zeros(2, 4, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="images"):
            InceptionFeatures(path)(bad)


def test_missing_weights_are_explained(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception, "fetch", lambda *_, **__: pytest.fail("fetched unasked"))
    with pytest.raises(InceptionError, match=f"{tmp_path}.*{inception.URL}.*{inception.SHA256}.*path.*classifier"):
        InceptionFeatures(tmp_path / "weights.pth")


def test_the_default_place_is_the_hub_folder(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InceptionError, match=str(tmp_path / "hub" / "checkpoints" / "weights-inception-2015-12-05")):
        InceptionFeatures()


def test_other_weights_are_refused_unread(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content[:-1])
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(ValueError, match=f"has SHA-256 .*allowed: {inception.SHA256}"):
        InceptionFeatures(path)


def test_download(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "weights.pth"
    with served(Site({NAME: content})) as there:
        monkeypatch.setattr(inception, "URL", there.url + NAME)
        first = InceptionFeatures(path, download=True)
        assert path.read_bytes() == content
        InceptionFeatures(path, download=True)
        assert there.requests == [(NAME, None)]  # once
    assert first.identity == inception.SHA256


@pytest.mark.parametrize("answers", [{}, {NAME: b"something else"}], ids=["not there", "wrong content"])
def test_a_failed_download_leaves_nothing(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[str, bytes]
) -> None:
    with served(Site(answers)) as there:
        monkeypatch.setattr(inception, "URL", there.url + NAME)
        with pytest.raises((InceptionError, ValueError), match=r"404.*give its path|SHA-256"):
            InceptionFeatures(tmp_path / "weights.pth", download=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("No module named 'torch_fidelity'", name="torch_fidelity"), "torch_fidelity.*pip install"),
        (RuntimeError("operator torchvision::nms does not exist"), "torchvision built for torch.*nms.*index"),
        (ImportError("libcudart.so.12: cannot open shared object file"), "torchvision built for torch.*libcudart"),
    ],
)
def test_missing_packages_are_explained(monkeypatch: pytest.MonkeyPatch, error: Exception, words: str) -> None:
    def import_module(name: str) -> SimpleNamespace:
        raise error

    monkeypatch.setattr(inception, "import_module", import_module)
    with pytest.raises(InceptionError, match=words):
        InceptionFeatures(Path("anything"))


def test_the_digest_is_the_one_in_the_files_name() -> None:
    assert f"-{inception.SHA256[:8]}.pth" in inception.URL
