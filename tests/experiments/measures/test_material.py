"""What the command line asks for, found: images of the right splits, and features by name."""

import dataclasses
from pathlib import Path

import pytest

from experiments import data
from experiments.configuration import PRESETS
from experiments.data import Images
from experiments.distances.classifier import ClassifierFeatures
from experiments.measures.subject import gathered
from tests.experiments.measures.small_rows import OPTIONS, PixelFeatures, images

TINY = PRESETS["fashion-mnist-tiny"]


@pytest.fixture(autouse=True)
def made_images(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, split: str, size: int, root: Path | None) -> Images:
        return images("test" if split == "test" else "train", size=size)

    monkeypatch.setattr(data, "load", load)


def test_fashion_mnist_is_measured_in_the_shipped_classifiers_features(tmp_path: Path) -> None:
    material = gathered(TINY, OPTIONS, tmp_path)
    assert (material.held_out.split, material.reference.split) == ("test", "train")
    assert material.features is not None
    assert material.features.identity == ClassifierFeatures(16).identity
    assert material.moments().count == len(material.reference)
    files = list((tmp_path / "reference").iterdir())
    assert len(files) == 1
    assert material.moments().count == len(material.reference)  # read back
    assert list((tmp_path / "reference").iterdir()) == files


def test_other_data_is_measured_in_inceptions_features_or_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--features none leaves distances out"):
        gathered(PRESETS["cifar10"], OPTIONS, tmp_path, inception=tmp_path / "missing.pth")
    assert gathered(PRESETS["cifar10"], OPTIONS, tmp_path, features="none").features is None
    with pytest.raises(ValueError, match="features is 'classifier' for cifar10"):
        gathered(PRESETS["cifar10"], OPTIONS, tmp_path, features="classifier")


def test_without_features_there_are_no_moments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="features is None"):
        gathered(TINY, dataclasses.replace(OPTIONS), tmp_path, features="none").moments()


def test_inceptions_weights_are_fetched_where_that_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Path | None, bool]] = []

    def recorded(weights: Path | None, device: object, *, download: bool) -> PixelFeatures:
        calls.append((weights, download))
        return PixelFeatures()

    monkeypatch.setattr("experiments.measures.subject.InceptionFeatures", recorded)
    gathered(PRESETS["cifar10"], OPTIONS, tmp_path, inception=tmp_path / "w.pth", download=True)
    gathered(PRESETS["cifar10"], OPTIONS, tmp_path)
    assert calls == [(tmp_path / "w.pth", True), (None, False)]
