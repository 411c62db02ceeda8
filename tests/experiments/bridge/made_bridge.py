"""A folder of `reproduce` with rows and files of the first stage, written by hand: numbers that a test chooses."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.configuration import Configuration, Method
from experiments.measures.layer_rows import LAYERS, NOISE, Plan
from experiments.measures.noise_tolerance import LAWS
from experiments.measures.options import EvaluationOptions, LayerOptions
from findings.documents import VERSION, json_text
from findings.files import write_whole
from tests.experiments.measures.small_rows import CONFIGURATION, FINGERPRINT, OPTIONS
from tests.findings.made_results import distance, estimate, filtered

IMAGES = 12
DIMENSION = 4
LEVELS = (0.01, 0.1, 1.0, 10.0)
STEP = "t=1"
EVALUATION: EvaluationOptions = dataclasses.replace(
    OPTIONS, rise_bits=(8, 4), sampling_steps=(20,), quantized_steps=(20,), samples=OPTIONS.samples[:1], bits=(8,)
)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a run's numbers are multiplied by, adm's being 1.

    Attributes:
        absolute, relative: the whole network's rises.
        energy: of the last layer's features.
        sum_of_layers: over the whole.
        closed_form: measured over predicted of the last layer.
        gap, rise, distance: outcomes of the rows.
        tolerated: by how much larger a divergence raises the loss as much.
        norm: of the layers in front of norms.
    """

    absolute: float = 1.0
    relative: float = 1.0
    energy: float = 1.0
    sum_of_layers: float = 1.0
    closed_form: float = 1.0
    gap: float = 1.0
    rise: float = 1.0
    distance: float = 1.0
    tolerated: float = 1.0
    norm: float = 1.0


def _scattered(value: float, count: int, key: str, share: float = 0.005) -> list[float]:
    """Numbers about a mean, the same pattern for every row, and a little of the row's own."""
    common = np.linspace(0.5, 1.5, count)
    own = np.random.default_rng(sum(map(ord, key))).standard_normal(count)
    return [float(v) for v in value * common * (1.0 + share * own)]


def _images(value: float, key: str) -> dict[str, Any]:
    values = _scattered(value, IMAGES, key)
    error = float(np.std(values, ddof=1)) / IMAGES**0.5
    return {"value": float(np.mean(values)), "standard_error": error, "by_image": values}


def _whole(value: float, key: str) -> dict[str, Any]:
    entry = _images(value, key)
    rise = estimate(entry["value"], 0.002 * value, entry["standard_error"])
    return {"sigma": 0.01, "draws": 8, "loss": estimate(0.5), "rise": rise, "by_image": entry["by_image"]}


def _layers(sizes: Sizes, key: str) -> list[dict[str, Any]]:
    """Three: in front of a norm, the norm, and the last one, which carries six tenths."""
    shares = {"block.conv": (0.3, True), "block.norm": (0.1, False), "out": (0.6, False)}
    layers = []
    for name, (share, free) in shares.items():
        rises = {
            scale: _images(share * size * sizes.sum_of_layers, f"{key}{name}{scale}")
            for scale, size in (("absolute", sizes.absolute), ("layer", 0.1 * sizes.relative))
        }
        kind = "GroupNorm" if name.endswith("norm") else "Conv2d"
        norm = 3.0 * (sizes.norm if free else 1.0)
        layers.append({"name": name, "kind": kind, "parameters": 9, "norm": norm, "scale_effect": 0.0, "rises": rises,
                      "scale_free": free})  # fmt: skip
    return layers


def _readout(sizes: Sizes) -> dict[str, Any]:
    rises = {}
    for name, value in (("noise-absolute", 1e-2), ("noise-layer", 1e-3), ("dither-8", 1e-6), ("rounding-8", 1e-6),
                        ("dither-4", 1e-4), ("rounding-4", 1e-4)):  # fmt: skip
        predicted = value * sizes.energy
        measured = sizes.closed_form * predicted
        error = estimate(measured, 0.002 * predicted, 0.002 * predicted)
        rises[name] = {"predicted": predicted, "measured": error, "by_image": [measured] * IMAGES}
    return {"layer": "out", "feature_energy": estimate(50 * sizes.energy), "weight_norm": 1.0, "draws": 128,
            "rises": rises}  # fmt: skip


def _tolerance(sizes: Sizes, key: str) -> dict[str, Any]:
    """Sampled rises that are 4 KL / tolerated; no residual but a constant, so that rescored ones are the theory's."""
    laws = {}
    for law in LAWS:
        places = [law.moments(level, DIMENSION) for level in LEVELS]
        rises = [_images(4.0 * level / sizes.tolerated, key + law.name) for level in LEVELS]
        laws[law.name] = {"u": [u for u, _ in places], "a": [a for _, a in places], "rises": rises}
    moments = {name: [0.0] * IMAGES for name in ("rr", "re", "r1", "ee", "e1")}
    return {"t": 1, "dimension": DIMENSION, "images": IMAGES, "levels": list(LEVELS), "loss": _images(2.0, "loss"),
            "moments": moments, "laws": laws}  # fmt: skip


def linearisation(energy: float = 1.0) -> dict[str, Any]:
    """Of a small linear model."""
    point = {"singular_values": [1.5, 1.0, 0.6, 0.2], "bias": [0.4, -0.2, 0.1, 0.0, 0.7], "linearisation_error": 0.3,
             "features": 7}  # fmt: skip
    return {"t": 1, "layer": "out", "positions": 4, "kernel_norm": 1.0, "kernel_curvature": 6.0 * energy,
            "points": [point]}  # fmt: skip


def _row(sizes: Sizes, configuration: Configuration, average: str, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    measures: dict[str, Any] = {
        "loss": {"images": IMAGES, "mse": {"value": 0.5, "standard_error": 0.01}},
        "lpf-absolute": filtered(estimate(sizes.absolute, 0.01, 0.01), 0.5),
        "readout": {
            "feature_energy": estimate(50 * sizes.energy, 0.0, 0.2 * sizes.energy),
            "settings": {"samples": IMAGES},
            "rises": {
                name: {
                    "predicted": estimate(0.01 * sizes.energy),
                    "measured": estimate(0.01 * sizes.energy, 1e-4, 1e-4),
                }
                for name in ("lpf-absolute", "lpf-layer", "quantization-8", "quantization-4")
            },
        },
        "frechet-20-32": distance(10.0 * sizes.distance, [10.0 * sizes.distance + 0.1 * (g % 2) for g in range(8)]),
        "frechet-20-8": distance(11.0 * sizes.distance, [11.0 * sizes.distance + 0.1 * (g % 2) for g in range(8)]),
        "exposure-20": {"mean_absolute_gap": estimate(0.2 * sizes.gap, 0.0, 0.002), "settings": {"images": IMAGES}},
    }
    for bits in EVALUATION.rise_bits:
        rise = estimate(sizes.rise / bits, 0.0, 0.001)
        measures[f"quantization-{bits}"] = {"rise": rise, "settings": {"draws": 1, "samples": IMAGES}}
    settings = {
        "configuration": configuration.to_dict(),
        "checkpoint": checkpoint,
        "features": None,
        "evaluation": dataclasses.asdict(EVALUATION),
    }
    label = configuration.method if average == "raw" else f"{configuration.method}+{average}"
    return {"what": "a row", "row": label, "method": configuration.method, "average": average, "settings": settings,
            "provenance": [], "seconds": {}, "measures": measures}  # fmt: skip


def folder(
    out: Path,
    sizes: Mapping[str, Sizes] | None = None,
    *,
    radii: Sequence[float] = (0.1,),
    seeds: Sequence[int] = (0,),
    scatter: float = 0.0,
) -> Plan:
    """Write it: runs adm, ip and sam, of each radius and seed, each with three averages that hardly differ.

    Args:
        out: the folder.
        sizes: by run, without its seed; 1 everywhere where there are none.
        radii: of SAM.
        seeds: of training.
        scatter: by what share numbers differ from seed to seed.
    """
    runs: dict[str, Configuration] = {}
    given: dict[str, Sizes] = {}
    for seed in seeds:
        of_seed = f"-seed-{seed}" if len(seeds) > 1 else ""
        methods: list[tuple[str, Method, float]] = [("adm", "adm", 0.1), ("ip", "ip", 0.1)]
        methods += [(f"sam-rho-{rho:g}" if len(radii) > 1 else "sam", "sam", rho) for rho in radii]
        for name, method, rho in methods:
            sam = dataclasses.replace(CONFIGURATION.sam, rho=rho)
            runs[name + of_seed] = dataclasses.replace(CONFIGURATION, method=method, seed=seed, sam=sam)
            size = (sizes or {}).get(name, Sizes())
            factor = 1.0 + scatter * (seed - float(np.mean(seeds)))
            given[name + of_seed] = Sizes(*(factor * value for value in dataclasses.astuple(size)))
    settings = {
        "runs": {name: c.to_dict() for name, c in runs.items()},
        "evaluation": dataclasses.asdict(EVALUATION),
        "data": FINGERPRINT,
    }
    write_whole(out / "plan.json", json_text({"version": VERSION, "settings": settings}))
    for run, configuration in runs.items():
        for place, average in enumerate(("raw", "ema", "swa")):
            checkpoint = {"average": average, "step": 4, "sha256": f"{run}-{average}"}
            row = _row(given[run], configuration, average, checkpoint)
            write(out / "rows" / f"{run}-{average}.json", row)
            first = _first_stage(given[run], row, run, f"{run}{place}")
            write(out / LAYERS / f"{run}-{average}.json", first)
        write(out / LAYERS / f"{run}-snapshots.json", _snapshots(given[run], run, first["settings"]))
    return Plan.of(out)


def _first_stage(sizes: Sizes, row: Mapping[str, Any], run: str, key: str) -> dict[str, Any]:
    evaluation = dataclasses.asdict(EVALUATION)
    settings = {
        "configuration": row["settings"]["configuration"],
        "checkpoint": row["settings"]["checkpoint"],
        "device": "cpu",
        "noise": {name: evaluation[name] for name in NOISE},
        "options": dataclasses.asdict(LayerOptions()),
    }
    rises = {"absolute": sizes.absolute, "layer": 0.1 * sizes.relative, "filter": 0.1 * sizes.relative}
    measures = {
        "whole": {scale: _whole(value, f"{key}{scale}") for scale, value in rises.items()},
        "readout": _readout(sizes),
        "tolerance": {STEP: _tolerance(sizes, key)},
        "layers": _layers(sizes, key),
        "linearisation": {STEP: linearisation(sizes.energy)},
    }
    return {"what": "first stage", "run": run, "settings": settings, "measures": measures}


def _snapshots(sizes: Sizes, run: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    measures = {}
    for steps in (2, 4):
        whole = {scale: _whole(sizes.absolute / steps, f"{run}{steps}{scale}") for scale in ("absolute", "layer")}
        rounded = {str(bits): estimate(sizes.rise / bits / steps) for bits in EVALUATION.rise_bits}
        measures[f"step-{steps}"] = {"steps": steps, "whole": whole, "quantization": rounded, "norms": {}}
    return {"what": "first stage", "run": run, "settings": settings, "measures": measures}


def write(path: Path, document: Mapping[str, Any]) -> None:
    """A document in its place."""
    write_whole(path, json_text({"version": VERSION, **json.loads(json.dumps(document))}))
