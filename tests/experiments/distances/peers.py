"""`python peers.py IN OUT`: other projects' Frechet distances of the features in a file.

A program of its own, because these packages import torchvision, and where that was built for another torch than the one
installed it cannot be imported. Nothing of it is needed here, so empty stand-ins take its place in this process alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class _StandIn(ModuleType):
    """A package in which every name is an empty class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.split(".")[0] == "torchvision" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def replace_unusable_torchvision() -> bool:
    """Put stand-ins in torchvision's place where it cannot be imported; whether that was so."""
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.meta_path.insert(0, _Finder())
        return True
    return False


class _Given(nn.Module):
    """A feature module for torchmetrics whose images are the features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, images: Tensor) -> Tensor:
        return images


def by_torchmetrics(first: Tensor, second: Tensor) -> float:
    """torchmetrics' FrechetInceptionDistance, in float64."""
    metric = importlib.import_module("torchmetrics.image.fid").FrechetInceptionDistance(_Given(first.shape[1]))
    metric.update(first, real=True)
    metric.update(second, real=False)
    return metric.compute().item()


def by_torch_fidelity(first: Tensor, second: Tensor) -> float:
    """torch-fidelity's distance of its own statistics."""
    fid = importlib.import_module("torch_fidelity.metric_fid")
    metric = fid.fid_statistics_to_metric(*(fid.fid_features_to_statistics(x) for x in (first, second)), False)
    return float(metric[fid.KEY_METRIC_FID])


def inception_features(folder: Path) -> dict[str, list[list[float]]]:
    """A few features of ours and of torch-fidelity's own Inception, with the same random weights."""
    from experiments.distances import inception

    weights, network = folder / "random.pth", importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    torch.manual_seed(0)
    # its constructor loads weights, whatever they are; random ones are had by skipping that
    network.FeatureExtractorInceptionV3.load_state_dict = lambda self, state: None
    torch.save({}, weights)
    theirs = network.FeatureExtractorInceptionV3("peer", ["2048"], str(weights))
    del network.FeatureExtractorInceptionV3.load_state_dict
    torch.save(theirs.state_dict(), weights)
    inception.SHA256 = inception.sha256_of(weights)
    images = torch.randint(0, 256, (2, 1, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    ours = inception.InceptionFeatures(weights)(images)
    with torch.no_grad():
        known = theirs(images.expand(-1, 3, -1, -1))[0]
    weights.unlink()
    return {"ours": ours[:, :20].tolist(), "theirs": known[:, :20].tolist()}


def main() -> None:
    """Run the command line."""
    source, target = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    results: dict[str, Any] = {"stand-ins": replace_unusable_torchvision()}
    cases = np.load(source)
    pairs = [[torch.from_numpy(cases[f"{side}{i}"]) for side in "ab"] for i in range(len(cases) // 2)]
    results["torchmetrics"] = [by_torchmetrics(*pair) for pair in pairs]
    if importlib.util.find_spec("torch_fidelity"):
        results["torch-fidelity"] = [by_torch_fidelity(*pair) for pair in pairs]
        results["inception"] = inception_features(target.parent)
    target.write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
