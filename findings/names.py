"""What rows and measures are called, in results, tables and figures alike, and the constants that go with them.

A row is one average of the weights of one training run, and is named by its fields; a measure is named by what it is
of. Whoever needs a name makes it here, and whoever needs to know what a name is of asks for the fields.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

Method = Literal["adm", "ip", "sam", "ip+sam", "rwp"]
"""Of training; rwp is random weight perturbation."""
Average = Literal["raw", "ema", "swa"]
AVERAGES: tuple[Average, ...] = ("raw", "ema", "swa")
"""Of the weights along a run: none, exponential, uniform over its end."""
SUFFIXES = ("", "+ema", "+swa")
"""What they add to a row's name."""
PAPER_METHODS: tuple[Method, ...] = ("adm", "ip", "sam")
"""Plain training, input perturbation, sharpness-aware minimisation."""
METHODS: tuple[Method, ...] = get_args(Method)
"""All that a network is trained by."""
NINE = tuple(method + suffix for method in PAPER_METHODS for suffix in SUFFIXES)
"""The rows of the paper's tables."""
PAPER_RADIUS = 0.1
"""SAM's rho in the paper, the first that it names; a row whose name says no rho is of it, where it was trained."""
FID_FEATURES = "inception-2015-tf1-resize"
"""The features in which a Frechet distance is the FID: Inception's of 2015, images resized as its graph did."""
FULL = 32
"""Bits of weights as they are."""
SCALES = ("absolute", "layer", "filter")
"""What the deviation of weight noise is in proportion to."""
GAP = "mean_absolute_gap"
"""Of exposure bias, the number that is meant where one alone is shown: the mean over steps of the gap's size."""
GRADIENT = "gradient"
"""The measure of the training loss's gradient over a run's own batches."""

_ROW = re.compile(r"(?P<method>[a-z]+(?:\+[a-z]+)*?)(?: rho=(?P<rho>[^+]+))?(?:\+(?P<average>ema|swa))?")


@dataclass(frozen=True)
class RowName:
    """A row's fields.

    Args:
        method: of training, one of METHODS.
        average: of the weights.
        rho: SAM's radius where the name says it; None where it goes without saying.
    """

    method: str
    average: Average = "raw"
    rho: float | None = None

    def __str__(self) -> str:
        """As tables write it: "sam", "sam+ema", "sam rho=0.01+ema"."""
        radius = "" if self.rho is None else f" rho={self.rho:g}"
        return f"{self.method}{radius}{self.suffix}"

    @property
    def suffix(self) -> str:
        """What the average adds to the name."""
        return SUFFIXES[AVERAGES.index(self.average)]

    @property
    def of_method(self) -> str:
        """The name without the radius: "sam+ema"."""
        return str(RowName(self.method, self.average))

    @property
    def order(self) -> tuple[int, float, int]:
        """The paper's: by method, radius from the largest down, and average."""
        known: tuple[str, ...] = METHODS
        place = known.index(self.method) if self.method in known else len(known)
        return place, -(self.rho or 0.0), AVERAGES.index(self.average)

    @classmethod
    def of(cls, name: str) -> RowName:
        """The fields of a name that was written by `str`.

        Raises:
            ValueError: it is no such name.
        """
        parts = _ROW.fullmatch(name)
        try:
            if parts is None:
                raise ValueError
            rho = None if parts["rho"] is None else float(parts["rho"])
            average = next(one for one in AVERAGES if one == (parts["average"] or "raw"))
            row = cls(parts["method"], average, rho)
            if str(row) != name:
                raise ValueError
        except ValueError:
            raise ValueError(f"row is {name!r}; allowed: names such as sam, sam+ema or sam rho=0.01+ema") from None
        return row


def distance(steps: int, bits: int = FULL) -> str:
    """The measure of the distance of samples at T' = steps from weights of so many bits."""
    return f"frechet-{steps}-{bits}"


def floor(count: int) -> str:
    """That of the distance of so many real images."""
    return f"frechet-floor-{count}"


def exposure(steps: int) -> str:
    """That of exposure bias at T' = steps."""
    return f"exposure-{steps}"


def quantization(bits: int) -> str:
    """That of the loss's rise where weights are rounded to so many bits."""
    return f"quantization-{bits}"


def low_pass(scale: str) -> str:
    """That of the low-pass filter under noise of a scale."""
    return f"lpf-{scale}"


def group_of(identifier: str) -> str:
    """The group that a prediction's identifier names, "B5" of "B5p-ffhq-20": the form is read here and nowhere else.

    Raises:
        ValueError: it does not begin with a capital and a number.
    """
    group = re.match(r"[A-Z]\d+", identifier)
    if group is None:
        raise ValueError(f"identifier is {identifier!r}; allowed: a capital, a number, and what tells parts apart")
    return group[0]
