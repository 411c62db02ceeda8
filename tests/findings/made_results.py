"""Results as `evaluate` writes them, with numbers that a test chooses, and no more measures than it needs."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.experiments.measures.small_rows import OPTIONS

WIDTH = 16


def result(
    measures: Mapping[str, Any], method: str = "adm", average: str = "raw", seed: int = 0, **options: Any
) -> dict[str, Any]:
    """One row's, in 16 features, with the small options but for what is given."""
    settings = {
        "configuration": {"seed": seed, "sam": {"rho": 0.1}},
        "features": {"name": "pixels", "width": WIDTH},
        "data": {"used": {"floors": [measures[name]["samples"] for name in measures if "floor" in name]}},
        "evaluation": dataclasses.asdict(dataclasses.replace(OPTIONS, **options)),
    }
    label = method if average == "raw" else f"{method}+{average}"
    entry = {"row": label, "method": method, "average": average, "settings": settings, "measures": dict(measures)}
    return dict(json.loads(json.dumps(entry)))


def estimate(value: float, draws: float = 0.0, data: float = 0.0) -> dict[str, float]:
    """An estimate of a loss."""
    return {"value": value, "draw_standard_error": draws, "data_standard_error": data}


def filtered(rise: Mapping[str, float], loss: float = 1.0, draws: int = 100, samples: int = 4096) -> dict[str, Any]:
    """What LPF stores."""
    value = {**rise, "value": loss + rise["value"]}
    return {"value": value, "rise": rise, "loss": estimate(loss), "settings": {"draws": draws, "samples": samples}}


def distance(value: float, pseudo_values: Sequence[float], group: int = 16, bias: float = 0.0) -> dict[str, Any]:
    """A distance of groups of equal size."""
    number = group * len(pseudo_values)
    middle = sum(pseudo_values) / len(pseudo_values)
    spread = sum((p - middle) ** 2 for p in pseudo_values) / len(pseudo_values)
    return {
        "value": value, "bias": bias, "extrapolated": value - bias, "samples": number,
        "standard_error": (spread / (len(pseudo_values) - 1)) ** 0.5, "pseudo_values": list(pseudo_values),
        "group_sizes": [group] * len(pseudo_values),
    }  # fmt: skip
