"""Loss surfaces of trained networks: read whole, or refused by an error that names the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from findings import surfaces
from findings.checksums import ResultError, with_checksum
from findings.documents import json_text


def source(method: str = "adm", average: str = "raw", **configuration: Any) -> dict[str, Any]:
    own = {"dataset": "cifar10", "method": method, "seed": 1, "steps": 7, "sam": {"rho": 0.1}}
    about = {"configuration": own | {"network": {"image_size": 32}} | configuration, "average": average}
    losses = [[{"value": 10.0 * i + j} for j in range(3)] for i in range(2)]
    return {
        "about": about,
        "measures": {"surface": {"first": [0.0, 1.0], "second": [-1.0, 0.0, 1.0], "losses": losses}},
    }


def written(path: Path, **sources: dict[str, Any]) -> Path:
    document = {"version": surfaces.VERSION, "settings": {}, "data": {"used": 5}, "sources": sources}
    path.write_bytes(json_text(with_checksum(document)))
    return path


def test_networks_are_read(tmp_path: Path) -> None:
    networks = surfaces.read(written(tmp_path / "x.json", a=source(), b=source("sam", "ema", seed=0)))
    assert networks[:4] == ("cifar10", 32, 7, 5)
    assert networks.seeds == [0, 1]
    plain, sam = networks.surfaces
    assert (plain.method, plain.rho, plain.seed) == ("adm", None, 1)
    assert (sam.method, sam.rho, sam.seed) == ("sam+ema", 0.1, 0)
    assert sam.losses == [[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]]


def test_a_failure_is_read_as_one(tmp_path: Path) -> None:
    failed = source() | {"measures": {"surface": {"failed": "not finite"}}}
    (one,) = surfaces.read(written(tmp_path / "x.json", a=failed)).surfaces
    assert (one.missing, one.losses) == ("not finite", [])


@pytest.mark.parametrize("name", ["dataset", "steps", "network"])
def test_networks_of_different_data_are_refused(name: str, tmp_path: Path) -> None:
    other: dict[str, Any] = {"dataset": "ffhq", "steps": 8, "network": {"image_size": 64}}
    with pytest.raises(ResultError, match=r"x\.json: its networks are of .* allowed: one"):
        surfaces.read(written(tmp_path / "x.json", a=source(), b=source(**{name: other[name]})))


def test_a_table_of_another_shape_is_refused(tmp_path: Path) -> None:
    one = source()
    one["measures"]["surface"]["first"] = [0.0, 1.0, 2.0]
    with pytest.raises(ResultError, match="no table of 3 by 3"):
        surfaces.read(written(tmp_path / "x.json", a=one))


def test_what_measured_no_surface_is_refused(tmp_path: Path) -> None:
    one = source() | {"measures": {}}
    with pytest.raises(ResultError, match=r"lacks sources\.a\.measures\.surface"):
        surfaces.read(written(tmp_path / "x.json", a=one))
    with pytest.raises(ResultError, match="at least one network"):
        surfaces.read(written(tmp_path / "x.json"))
