"""One row of a study: a result file read and checked, its numbers with their errors, and several seeds together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from findings.checksums import ResultError, read_json

VERSION = 2
"""Of plans and rows, and the only one that is read."""
AVERAGES = ("raw", "ema", "swa")
LEVEL = 0.95
"""Of the interval over seeds."""

Found = dict[str, Any]


def read(path: Path, version: int | None = VERSION) -> dict[str, Any]:
    """A file of a study; any version where `version` is None.

    Raises:
        ValueError: it is cut short, or of a version that is not known.
    """
    try:
        found = read_json(path)
    except ResultError as error:
        raise ValueError(
            f"{path} cannot be read as JSON ({error}); `python -m experiments reproduce` writes it"
        ) from None
    if version is not None and found.get("version") != version:
        said = found.get("version")
        raise ValueError(f"{path}: version is {said!r}; allowed: {version}, as this `python -m experiments` writes it")
    return found


def at(found: Any, keys: Sequence[str | int], path: Path) -> Any:
    """What stands under these keys, one inside the other.

    Raises:
        ValueError: one is not there; the file and the keys are named.
    """
    for depth, key in enumerate(keys):
        try:
            found = found[key]
        except (KeyError, IndexError, TypeError):
            raise ValueError(f"{path} lacks {'.'.join(map(str, keys[: depth + 1]))}") from None
    return found


@dataclass(frozen=True, eq=False)
class Row:
    """One average of one run.

    Attributes:
        path: of its file.
        run: the run's name.
        method: "adm", "ip", "sam" or "ip+sam".
        average: "raw", "ema" or "swa".
        rho: SAM's radius; None for a method that has none.
        seed: of training.
        document: the file's content.
    """

    path: Path
    run: str
    method: str
    average: str
    rho: float | None
    seed: int
    document: dict[str, Any]

    def why_missing(self, measure: str) -> str | None:
        """Why there is no such measure: it was not taken, or it failed; None where it is there."""
        measures = at(self.document, ["measures"], self.path)
        if measure not in measures:
            return "not measured"
        failed = measures[measure].get("failed")
        return None if failed is None else f"failed ({self.run}): {failed}"

    def measure(self, *keys: str | int) -> Any:
        """What stands in a measure, its name first, as in the file.

        Raises:
            ValueError: it is not there; the file and the key are named.
        """
        return at(self.document, ["measures", *keys], self.path)

    def estimate(self, *keys: str | int) -> tuple[float, float | None]:
        """A number and its standard error: over images and over draws, in quadrature; None where it has none.

        The key "extrapolated" of a distance has the distance's own error.
        """
        found = self.measure(*keys)
        holder = self.measure(*keys[:-1]) if keys[-1] == "extrapolated" else found
        value = found["value"] if isinstance(found, dict) and "value" in found else found
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{self.path}: {'.'.join(map(str, keys))} is no number")
        errors = ("standard_error", "draw_standard_error", "data_standard_error")
        parts = [holder[key] for key in errors if key in holder] if isinstance(holder, dict) else []
        return float(value), math.hypot(*parts) if parts else None


def combined(values: Sequence[float], errors: Sequence[float | None]) -> Found:
    """A number of each seed as {"mean", "low", "high", "seeds", "standard_error", "interval"}.

    Several seeds: their mean with Student's t interval. One: the number, and one standard error to either side.
    """
    count, mean = len(values), math.fsum(values) / len(values)
    if count > 1:
        from scipy.stats import t

        error = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1) / count)
        half, words = float(t.ppf((1 + LEVEL) / 2, count - 1)) * error, f"{LEVEL:.0%} interval over seeds"
    else:
        error = errors[0]  # type: ignore[assignment]
        half, words = error or 0.0, "none" if error is None else "1 standard error over images and draws"
    return {
        "mean": mean,
        "low": mean - half,
        "high": mean + half,
        "seeds": count,
        "standard_error": error,
        "interval": words,
    }


def parted(method: str) -> tuple[str, str]:
    """A row's name as method and average: "sam+ema" is ("sam", "ema"), "ip+sam" is ("ip+sam", "raw")."""
    base, plus, last = method.rpartition("+")
    return (base, last) if plus and last in AVERAGES[1:] else (method, "raw")
