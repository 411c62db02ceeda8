"""The ladder's last rung: the claims on the numbers that the paper prints, one run a row and without errors.

A printed number decides nothing about seeds; what is counted is in how many of the paper's comparisons (data sets and
T') the printed ratio lies in the claimed region. FID stands for the distance; the low-pass filter's value for its rise,
which the paper does not print; doses are the paper's, chosen by result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from findings.ladder_claims import AT_8_BITS, CLAIMS, LadderClaim, Selection
from findings.names import RowName
from findings.toy_study import paper

STEPS = {"distance-20": "20", "distance-100": "100"}
"""T' as the printed tables have it, of the claims' distances."""
DATA = ("cifar10", "lsun-tower", "ffhq")
CHOSEN = ("none", "chosen", "chosen for the average")


class Printed(NamedTuple):
    """One printed comparison.

    Attributes:
        of: the data set, and T' where there is one.
        value: log of the ratio.
        holds: whether it lies in the claimed region.
    """

    of: str
    value: float
    holds: bool


def printed(claim: LadderClaim, numbers: Mapping[str, Any] | None = None) -> list[Printed]:
    """The paper's comparisons that a claim is about; none where the paper prints no such numbers."""
    tables = paper() if numbers is None else numbers
    values = _values(claim, tables)
    low, high = claim.region
    return [Printed(of, value, low < value < high) for of, value in values.items()]


def _values(claim: LadderClaim, tables: Mapping[str, Any]) -> dict[str, float]:
    if claim.form == "log ratio of gaps per rise":
        return _gaps_over_flatness(tables)
    sides = (claim.subject, claim.against)
    if any(side.method not in ("adm", "ip", "sam") or side.dose not in CHOSEN for side in sides):
        return {}
    a, b = (_row(side) for side in sides)
    ratios: dict[str, float] = {}
    for quantity in claim.quantities:
        if quantity in STEPS:
            steps = STEPS[quantity]
            for data, table in _by_data(tables["fid"]):
                ratios[f"{data}, T' = {steps}"] = math.log(table[steps][a] / table[steps][b])
        elif quantity == "lpf_rise":
            for data, table in _by_data(tables["lpf"]):
                ratios[data] = math.log(table[a] / table[b])
        elif quantity == AT_8_BITS:
            for data, table in _by_data(tables["fid_at_8_bits"]):
                ratios[f"{data}, T' = 20"] = math.log(table["20"][a] / tables["fid"][data]["20"][a])
        elif quantity == "mean_absolute_gap-20":
            for data, table in _by_data(tables["epsilon_norm_gap"]):
                if a in table and b in table:
                    ratios[data] = math.log(table[a] / table[b])
    return ratios


def _by_data(block: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """A printed table's parts, without what is said about it."""
    return [(data, block[data]) for data in DATA if data in block]


def _gaps_over_flatness(tables: Mapping[str, Any]) -> dict[str, float]:
    """log of (raw less EMA's FID over the low-pass filter's value) of SAM, against plain training's."""
    ratios = {}
    for data, flatness in _by_data(tables["lpf"]):
        for steps in STEPS.values():
            fid = tables["fid"][data][steps]
            sam, adm = ((fid[m] - fid[f"{m}+ema"]) / flatness[m] for m in ("sam", "adm"))
            ratios[f"{data}, T' = {steps}"] = math.log(sam / adm)
    return ratios


def _row(selection: Selection) -> str:
    return str(RowName(selection.method, selection.weights if selection.weights in ("ema", "swa") else "raw"))


def in_print() -> dict[str, list[Printed]]:
    """Every claim on which the paper prints numbers, by identifier.

    The paper's runs have large step noise (raw and averaged rows are far apart); whether they memorise is not printed.
    So claims of either regime are held against its numbers, and those of neither are left out.
    """
    by_claim = {claim.identifier: printed(claim) for claim in CLAIMS if claim.regime != "neither"}
    return {identifier: numbers for identifier, numbers in by_claim.items() if numbers}
