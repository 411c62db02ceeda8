"""B3 and B4: the whole and its layers, and absolute against scale-free flatness."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.bridge.rows import INFINITE, By, Claim, Entry, Rows
from experiments.measures.layers import NOISES, WHOLE_NOISES
from findings.estimates import Cell, logarithm, paired_ratio, ratio
from findings.toy_study import Toy

ADDITIVE = 0.1
"""Margin of the layers' sum: what is of fourth order in the noise."""
WHERE_WHOLE = "layers/*.json: measures.whole.{}.by_image"
PAIRED = "error over images, in pairs, and over draws"


def by_image(entry: Entry, scale: str) -> list[float] | None:
    """The whole network's rise, image by image."""
    whole = entry.layered("whole")
    return None if whole is None else whole[scale]["by_image"]


def draws_error(entry: Entry, scale: str, of: float) -> Cell:
    """The standard error over draws of the whole network's rise, as a share of a number."""
    whole = entry.layered("whole")[scale]
    return Cell(0.0, whole["rise"]["draw_standard_error"] / abs(of), whole["draws"] - 1)


def rise_ratio(scale: str) -> Callable[[Entry, Entry], Cell | None]:
    """Of the whole network's rises of two rows (`whole_ratio`)."""

    def number(a: Entry, b: Entry) -> Cell | None:
        ours, theirs = a.layered("whole"), b.layered("whole")
        return None if ours is None or theirs is None else whole_ratio(ours[scale], theirs[scale])

    return number


def whole_ratio(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Cell | None:
    """The ratio of two whole rises under the same noise: its error over images in pairs, and over draws.

    Draws are paired too where the files hold them one by one; else their errors are added as if independent.
    """
    level = theirs["rise"]["value"]
    if not level > 0:
        return None
    value = ours["rise"]["value"] / level
    if "by_draw" in ours and "by_draw" in theirs:
        paired = paired_ratio(ours["by_draw"], theirs["by_draw"])
        spread = [] if paired is None else [paired._replace(value=0.0)]
    else:
        spread = [
            Cell(0.0, factor * one["rise"]["draw_standard_error"] / level, one["draws"] - 1)
            for one, factor in ((ours, 1.0), (theirs, abs(value)))
        ]
    return paired_ratio(ours["by_image"], theirs["by_image"], *spread)


def sum_ratio(scale: str) -> Callable[[Entry, Entry], Cell | None]:
    """Of the layers' sums, image by image, each with draws of its own that are the same in every row."""

    def number(a: Entry, b: Entry) -> Cell | None:
        ours, theirs = layer_sum(a, scale), layer_sum(b, scale)
        return None if ours is None or theirs is None else paired_ratio(ours, theirs)

    return number


def layer_sum(entry: Entry, scale: str, only: str | None = None) -> list[float] | None:
    """The layers' rises added up, or one layer's, image by image."""
    layers = entry.layered("layers")
    if layers is None:
        return None
    chosen = [layer["rises"][scale]["by_image"] for layer in layers if only in (None, layer["name"])]
    return np.sum(chosen, axis=0).tolist() if chosen else None


def layers_over_whole(scale: str) -> Callable[[Entry], Cell | None]:
    """The layers' sum over the whole's rise, on the same images."""

    def number(entry: Entry) -> Cell | None:
        parts, whole = layer_sum(entry, scale), by_image(entry, scale)
        if parts is None or whole is None or not np.mean(whole) > 0:
            return None
        value = float(np.mean(parts) / np.mean(whole))
        return paired_ratio(parts, whole, draws_error(entry, scale, float(np.mean(whole)) / max(abs(value), 1e-12)))

    return number


def readouts_share(a: Entry, b: Entry) -> Cell | None:
    """The last layer's share of b's absolute rise less a's, among the layers: of their sum, image by image."""
    last = a.layered("readout")
    if last is None:
        return None
    sums = [layer_sum(entry, "absolute", only) for only in (last["layer"], None) for entry in (b, a)]
    if any(one is None for one in sums):
        return None
    ours, theirs, whole, others = (np.array(one) for one in sums)
    return paired_ratio((ours - theirs).tolist(), (whole - others).tolist())


def relative_share(of: Callable[[str], Callable[[Entry, Entry], Cell | None]]) -> Callable[..., Cell | None]:
    """log of the ratio of relative rises over that of absolute ones: what is left of the gain under relative noise.

    Layer-relative noise does not see one factor for a whole layer; a factor for each neuron it does (T7).
    """

    def number(a: Entry, b: Entry) -> Cell | None:
        relative, absolute = (logarithm(of(scale)(a, b)) for scale in ("layer", "absolute"))
        if relative is None or absolute is None or not absolute.value < 0:
            return None
        return ratio(relative._replace(value=-relative.value), absolute._replace(value=-absolute.value))

    return number


def norm_ratio(free: bool) -> Callable[[Entry, Entry], Cell | None]:
    """The norms of two rows' layers whose scale is without effect, or of all others: exact numbers, without error."""

    def norm(entry: Entry) -> float | None:
        layers = entry.layered("layers")
        return None if layers is None else math.hypot(*(one["norm"] for one in layers if one["scale_free"] == free))

    def number(a: Entry, b: Entry) -> Cell | None:
        ours, theirs = norm(a), norm(b)
        return None if ours is None or not theirs else Cell(ours / theirs, 0.0)

    return number


def claims(rows: Rows, toy: Toy) -> list[Claim]:
    """All of B3 and B4."""
    return [*_layers(rows, toy), *_scales(rows, toy)]


def _layers(rows: Rows, toy: Toy) -> list[Claim]:
    sam = rows.counterparts("sam", "adm")
    claims = [
        Claim(
            f"B3a-{scale}",
            f"The layers' rises one by one add up to the whole network's ({scale} noise)",
            By("theory", "theory: second order (T3's Hessian, block by block)"),
            (1.0 - ADDITIVE, 1.0 + ADDITIVE),
            rows.each(layers_over_whole(scale)),
            f"sum over layers against the whole on the same images, margin {ADDITIVE:.0%}; {PAIRED}",
            f"layers/*.json: measures.layers[].rises.{scale}.by_image, measures.whole.{scale}.by_image",
            predicted=1.0,
        )
        for scale in NOISES
    ]
    adm, flat = toy.row("adm", 0.0, "raw"), toy.row("sam", 0.1, "raw")
    numbers = [toy.number(row, measure) for measure in ("readout_rise", "lpf_rise") for row in (adm, flat)]
    predicted = None
    if all(number is not None for number in numbers):
        a, b, c, d = (number.value for number in numbers if number is not None)
        predicted = (a - b) / (c - d)
    claims.append(
        Claim(
            "B3b",
            "The last layer carries more than half of SAM's gain in the absolute rise, as in the toy",
            By("theory", "toy P2a, P3a"),
            (0.5, INFINITE),
            rows.against(sam, readouts_share),
            f"last layer's share of adm's sum over layers less SAM's; {PAIRED}",
            "layers/*.json: measures.layers[].rises.absolute.by_image; toy.json: measures.learnt/*.readout_rise, "
            "lpf_rise",
            predicted=predicted,
        )
    )
    return claims


def _scales(rows: Rows, toy: Toy) -> list[Claim]:
    sam, ip = rows.counterparts("sam", "adm"), rows.counterparts("ip", "adm")
    adm, flat = toy.row("adm", 0.0, "raw"), toy.row("sam", 0.1, "raw")
    predicted = {"absolute": toy.ratio(flat, adm, "lpf_rise"), "layer": toy.ratio(flat, adm, "relative_rise")}
    open_question = By("question", "question, toy P8a")
    sources = {"absolute": By("paper", "paper, toy P2a"), "layer": open_question, "filter": open_question}
    claims = []
    for letter, scale in zip("abc", WHOLE_NOISES, strict=True):
        toys = predicted.get(scale)
        claims.append(
            Claim(
                f"B4{letter}",
                f"SAM lowers the whole network's rise under {scale} noise",
                sources[scale],
                (-INFINITE, 1.0),
                rows.against(sam, rise_ratio(scale)),
                f"ratio to adm's; {PAIRED}",
                WHERE_WHOLE.format(scale),
                None if toys is None else toys.value,
                None if toys is None else toys.interval,
                "predicted: the toy's ratio at rho = .1",
            )
        )
    for letter, pairs, who in (("d", rows.averages(), "EMA and SWA do"), ("e", ip, "Input perturbation does")):
        claims.append(
            Claim(f"B4{letter}", f"{who} not lower the whole network's rise under absolute noise (at most 5% less)",
                  By("paper", "paper, toy P2c, P2d, P2e"), (0.95, INFINITE),
                  rows.against(pairs, rise_ratio("absolute")),
                  f"ratio to the raw weights' or adm's; {PAIRED}", WHERE_WHOLE.format("absolute"))
        )  # fmt: skip
    share = toy.share(flat, adm, "relative_rise", "lpf_rise")
    claims += [
        Claim("B4f", "Part of SAM's gain in the absolute rise is scale: less than all of its logarithm is left in the "
              "rise under layer-relative noise", By("theory", "theory T7, toy P8d"), (-INFINITE, 1.0),
              rows.against(sam, relative_share(rise_ratio)),
              "log of the ratio of layer-relative rises over log of that of absolute ones, where SAM lowers the "
              f"latter; {PAIRED}, the two logarithms as if independent",
              "layers/*.json: measures.whole.absolute, measures.whole.layer", share,
              note="predicted: the toy's share at rho = .1"),
        Claim("B4g", "SAM's weights are larger where their scale is without effect (directly in front of a norm)",
              By("question", "question (theory T7)"), (1.0, INFINITE), rows.against(sam, norm_ratio(True)),
              "ratio of L2 norms of all such layers together; exact numbers of these networks",
              "layers/*.json: measures.layers[].norm, scale_free"),
        Claim("B4h", "SAM's other weights are larger", By("question", "question (theory T7)"), (1.0, INFINITE),
              rows.against(sam, norm_ratio(False)),
              "ratio of L2 norms of all other layers together; exact numbers of these networks",
              "layers/*.json: measures.layers[].norm, scale_free"),
    ]  # fmt: skip
    return [*claims, *_by_sums(rows, share)]


def _by_sums(rows: Rows, share: float | None) -> list[Claim]:
    """B4i to B4l: the same by the layers' sums, which are paired draw by draw and so tell smaller differences."""
    sam = rows.counterparts("sam", "adm")
    note = "Added after a first run, in which the whole network's few draws decided little."
    how, where = "ratio of sums over layers, image by image; error over images and draws", "measures.layers[].rises"
    claims = [
        Claim(f"B4{letter}", f"SAM lowers the sum of the layers' rises under {scale} noise", source, (-INFINITE, 1.0),
              rows.against(sam, sum_ratio(scale)), how, f"layers/*.json: {where}.{scale}.by_image", note=note)
        for letter, scale, source in (
            ("i", "absolute", By("paper", "paper, toy P2a")), ("j", "layer", By("question", "question, toy P8a"))
        )
    ]  # fmt: skip
    others = [*rows.averages(), *rows.counterparts("ip", "adm")]
    claims += [
        Claim("B4k", "EMA, SWA and input perturbation do not lower the sum of the layers' absolute rises (at most 5% "
              "less)", By("paper", "paper, toy P2c, P2d, P2e"), (0.95, INFINITE),
              rows.against(others, sum_ratio("absolute")), how, f"layers/*.json: {where}.absolute.by_image", note=note),
        Claim("B4l", "Part of SAM's gain in the layers' absolute sum is scale: less than all of its logarithm is left "
              "in their layer-relative sum", By("theory", "theory T7, toy P8d"), (-INFINITE, 1.0),
              rows.against(sam, relative_share(sum_ratio)),
              f"log of the {how}, of relative over absolute noise; the two as if independent",
              f"layers/*.json: {where}", share, note=note),
    ]  # fmt: skip
    return claims


def layer_table(rows: Rows) -> list[dict[str, Any]]:
    """Which layers carry each row's rise: shares of the sum over layers by kind, for every row's first seed."""
    table = []
    for label in rows.labels:
        entry = rows.of(label)[0]
        layers, last = entry.layered("layers"), entry.layered("readout")
        if layers is None:
            continue
        name = None if last is None else last["layer"]
        kinds = [_kind(layer, name) for layer in layers]
        rises = [layer["rises"]["absolute"]["value"] for layer in layers]
        shares = {kind: _share(kind, kinds, rises) for kind in dict.fromkeys(kinds)}
        table.append({"row": label, "scale": "absolute", "sum": math.fsum(rises), "shares": shares})
    return table


def _kind(layer: Mapping[str, Any], last: str | None) -> str:
    if layer["name"] == last:
        return "last layer"
    if layer["scale_free"]:
        return "in front of a norm"
    return "norm" if "Norm" in layer["kind"] else "other"


def _share(kind: str, kinds: Sequence[str], rises: Sequence[float]) -> float:
    return math.fsum(rise for rise, one in zip(rises, kinds, strict=True) if one == kind) / math.fsum(rises)
