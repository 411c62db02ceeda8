"""Loss surfaces of trained networks on one plane, as `python -m experiments measure RUN ... --surface N` writes them.

All networks of a file are measured on the same images, timesteps and noise, along the same random directions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from findings.checksums import ResultError
from findings.documents import FAILED, at, read_document

FILE = "results/surface/compare.json"
"""The networks of Figure 1."""
VERSION = 1
"""Of `flatness`' documents."""


class Surface(NamedTuple):
    """Of one network.

    Attributes:
        method: that trained it, with its average where it is one: "adm", "sam+ema".
        rho: SAM's radius; None for a method that has none.
        seed: of training.
        first, second: coordinates along the two directions.
        losses: entry [i][j] belongs to first[i], second[j]; none where the measure failed.
        missing: why it failed; "" where it is there.
    """

    method: str
    rho: float | None
    seed: int
    first: list[float]
    second: list[float]
    losses: list[list[float]]
    missing: str


class Networks(NamedTuple):
    """A file's.

    Attributes:
        dataset: its name, as "cifar10".
        image_size: pixels a side.
        steps: of training.
        images: that losses are means over.
        surfaces: in the order in which they were measured.
    """

    dataset: str
    image_size: int
    steps: int
    images: int
    surfaces: list[Surface]

    @property
    def seeds(self) -> list[int]:
        """Of training."""
        return sorted({one.seed for one in self.surfaces})


def read(path: Path) -> Networks:
    """The file's networks.

    Raises:
        ResultError: it cannot be read, lacks a part, or its networks are of different data.
    """
    document = read_document(path, VERSION)
    sources = at(document, ["sources"], path)
    if not isinstance(sources, dict) or not sources:
        raise ResultError(f"{path}: sources is {sources!r}; allowed: at least one network")
    of: set[tuple[str, int, int]] = set()
    for name in sources:
        configuration = at(document, ["sources", name, "about", "configuration"], path)
        size = at(configuration, ["network", "image_size"], path)
        of.add((str(at(configuration, ["dataset"], path)), int(size), int(at(configuration, ["steps"], path))))
    if len(of) > 1:
        raise ResultError(f"{path}: its networks are of {sorted(of)} (data set, pixels, steps); allowed: one")
    surfaces = [_surface(document, name, path) for name in sources]
    return Networks(*of.pop(), int(at(document, ["data", "used"], path)), surfaces)


def _surface(document: dict[str, Any], name: str, path: Path) -> Surface:
    about, measure = (at(document, ["sources", name, *keys], path) for keys in (["about"], ["measures", "surface"]))
    configuration, average = at(about, ["configuration"], path), str(at(about, ["average"], path))
    method = str(at(configuration, ["method"], path))
    rho = float(at(configuration, ["sam", "rho"], path)) if "sam" in method else None
    label = method if average == "raw" else f"{method}+{average}"
    seed = int(at(configuration, ["seed"], path))
    if FAILED in measure:
        return Surface(label, rho, seed, [], [], [], str(measure[FAILED]))
    first, second = (list(map(float, at(measure, [key], path))) for key in ("first", "second"))
    losses = [[float(at(point, ["value"], path)) for point in row] for row in at(measure, ["losses"], path)]
    if [len(row) for row in losses] != [len(second)] * len(first):
        raise ResultError(f"{path}: the losses of {name} are no table of {len(first)} by {len(second)}")
    return Surface(label, rho, seed, first, second, losses, "")
