"""A study as `python -m experiments reproduce` writes it, made of a formula, so that what figures show is foretold.

The value of every measure is a function of method, average, radius and seed alone; see `level`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import image

from findings.names import AVERAGES, PAPER_METHODS

RMS = (0.005, 0.01)
WEIGHTS = 1_370_242
LINE = [place / 8 for place in range(-4, 5)]
"""Of the loss surface, to .5 along either direction."""
SIZES = {"fashion-mnist": 16, "cifar10": 32, "lsun-tower": 64, "ffhq": 64}
DRAW, DATA = 0.003, 0.004
"""Standard errors over draws and over images; in quadrature .005."""
ERROR = 0.005


def level(method: str, average: str, rho: float, seed: int) -> float:
    """A number that no two rows share."""
    radius = rho if method == "sam" else 0.0
    return 1 + PAPER_METHODS.index(method) + 0.1 * AVERAGES.index(average) + radius + 0.01 * seed


def _estimate(value: float) -> dict[str, float]:
    return {"value": value, "draw_standard_error": DRAW, "data_standard_error": DATA}


def measures(at: float, options: dict[str, Any], bits: Sequence[int]) -> dict[str, Any]:
    """All measures of a row of that level."""
    noise = {"loss": _estimate(at), "value": _estimate(1.5 * at), "rise": _estimate(0.5 * at)}
    entries: dict[str, Any] = {
        "loss": {name: {"value": at, "standard_error": ERROR} for name in ("loss", "mse", "vb")},
        **{f"lpf-{scale}": {**noise, "settings": {"weights": WEIGHTS}} for scale in ("absolute", "layer", "filter")},
        "curve-random": {
            "loss": _estimate(at),
            "distances": [rms * WEIGHTS**0.5 for rms in RMS],
            "losses": [_estimate(at * (1 + rms)) for rms in RMS],
            "rises": [_estimate(at * rms) for rms in RMS],
        },
        "surface": {
            "first": LINE,
            "second": LINE,
            "losses": [[_estimate(at + abs(6 * a + 2 * b)) for b in LINE] for a in LINE],
        },
        **{f"quantization-{width}": {"rise": _estimate(at / width), "value": _estimate(at)} for width in bits},
        "readout": {"weights": {"count": WEIGHTS, "norm": 60.0}, "feature_energy": _estimate(100 * at)},
    }
    for steps in options["sampling_steps"]:
        training = [10 + place for place in range(steps)]
        entries[f"exposure-{steps}"] = {
            "steps": [1000 * place // steps for place in range(steps)],
            "training": [_estimate(norm) for norm in training],
            "sampling": [_estimate(norm + at) for norm in training],
            "gap": [_estimate(at) for _ in training],
            "mean_signed_gap": _estimate(at),
            "mean_absolute_gap": _estimate(2 * at),
        }
        for width in (32, *bits):
            value = 10 * at + steps / width
            groups = [value - 1, value + 1]
            entries[f"frechet-{steps}-{width}"] = {
                "value": value,
                "standard_error": 1.0,
                "extrapolated": value - 1,
                "pseudo_values": groups,
                "group_sizes": [32, 32],
                "samples": 64,
            }
    return entries


def configuration(dataset: str, method: str, rho: float, seed: int, steps: int) -> dict[str, Any]:
    """Of a run, as far as figures read it."""
    return {
        "dataset": dataset,
        "method": method,
        "steps": steps,
        "global_batch": 8,
        "seed": seed,
        "network": {"image_size": SIZES[dataset], "channels": 1 if dataset == "fashion-mnist" else 3},
        "sam": {"rho": rho},
    }


def write(
    folder: Path,
    dataset: str = "fashion-mnist",
    *,
    radii: Sequence[float] = (0.01, 0.1),
    seeds: Sequence[int] = (0,),
    steps: int = 2000,
    sampling_steps: Sequence[int] = (20, 100),
    grids: bool = True,
) -> Path:
    """The whole folder: plan, rows and grids. Names of runs say nothing, so that none can be read from."""
    bits = [8, 4]
    options = {
        "sampling_steps": list(sampling_steps),
        "bits": bits,
        "rise_bits": bits,
        "objective": "mse",
        "samples": [64, 64],
    }
    wanted = [(m, rho, seed) for seed in seeds for m in PAPER_METHODS for rho in (radii if m == "sam" else (0.1,))]
    runs = {f"run-{n}": configuration(dataset, *of, steps) for n, of in enumerate(wanted)}
    (folder / "rows").mkdir(parents=True)
    settings = {"runs": runs, "evaluation": options, "features": None}
    (folder / "plan.json").write_text(json.dumps({"version": 2, "settings": settings}))
    for (name, c), (method, rho, seed) in zip(runs.items(), wanted, strict=True):
        for average in AVERAGES:
            entries = measures(level(method, average, rho, seed), options, bits)
            about = {"configuration": c, "evaluation": options, "features": None}
            row = {"version": 2, "method": method, "average": average, "settings": about, "measures": entries}
            (folder / "rows" / f"{name}-{average}.json").write_text(json.dumps(row))
        if grids:
            _grids(folder / "samples", name, c, [(sampling_steps[0], width) for width in (32, *bits)])
    return folder


def grey(name: str, width: int) -> int:
    """The brightness of a run's first sample at that number of bits."""
    return 20 * int(name.removeprefix("run-")) + width


def _grids(folder: Path, name: str, of: dict[str, Any], shown: Sequence[tuple[int, int]]) -> None:
    size, channels = of["network"]["image_size"], of["network"]["channels"]
    side = 8 * size + 7 * 2
    folder.mkdir(exist_ok=True)
    for steps, width in shown:
        sheet = np.full((side, side, 3), 255, dtype=np.uint8)
        for row in range(8):
            for column in range(8):
                top, left = row * (size + 2), column * (size + 2)
                sheet[top : top + size, left : left + size] = grey(name, width) + row + 8 * column
        shade: Any = sheet if channels == 3 else sheet[..., 0]
        kind: dict[str, Any] = {} if channels == 3 else {"cmap": "gray", "vmin": 0, "vmax": 255}
        image.imsave(folder / f"{name}-T{steps}-{width}bit.png", shade, format="png", **kind)


def change_row(folder: Path, run: str, average: str, **measures: Any) -> None:
    """Replace measures of a row; None takes one away."""
    path = folder / "rows" / f"{run}-{average}.json"
    row = json.loads(path.read_bytes())
    row["measures"] = {k: v for k, v in (row["measures"] | measures).items() if v is not None}
    path.write_text(json.dumps(row))
