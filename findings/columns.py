"""The columns of the paper's tables: which number of a row's result stands under which heading.

A Frechet distance of n samples in D features is biased upwards by an amount that differs from row to row. The jackknife
takes away the part that goes as 1/n, so what is left is trusted at n of at least 8 D alone; below, only the biased
value is shown, and that n is near D is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from findings import estimates, names
from findings.estimates import Column
from findings.names import GAP

PER_FEATURE = 8
"""Samples a feature from which a distance is extrapolated to infinitely many."""
GAP_WORDS = "mean absolute gap"

ABSOLUTE = names.low_pass("absolute")
Settings = Mapping[str, Any]


def extrapolates(settings: Settings, count: int) -> bool:
    """Whether so many samples are enough for a distance without bias."""
    features = settings["features"]
    return features is not None and count >= PER_FEATURE * features["width"]


def samples_of(settings: Settings) -> dict[int, int]:
    """How many samples there are at each T'."""
    options = settings["evaluation"]
    return dict(zip(options["sampling_steps"], options["samples"], strict=True))


def bias_note(settings: Settings, steps: Iterable[int]) -> str:
    """What has to be said of the distances at these T': "" where each has samples enough."""
    counts = samples_of(settings)
    few = [at for at in steps if settings["features"] is not None and not extrapolates(settings, counts[at])]
    if not few:
        return ""
    named = " and ".join(f"{counts[at]} at T'={at}" for at in few)
    return f"biased: n ({named}) is near D = {settings['features']['width']}"


def distance_name(settings: Settings) -> str:
    """FID is Inception's alone."""
    features = settings["features"]
    if features is None:
        return "no distances"
    name = features["name"]
    return "FID" if name == names.FID_FEATURES else f"Frechet distance in features of {name} (not FID)"


def objective(options: Mapping[str, Any]) -> str:
    """The loss whose flatness is measured."""
    return "mean squared error of the noise" if options["objective"] == "mse" else "hybrid loss"


def change(steps: int, bits: int, name: str, heading: str) -> Column:
    """What rounding the weights does to a distance."""
    return estimates.change(name, heading, names.distance(steps, bits), names.distance(steps))


def summary(settings: Settings) -> list[Column]:
    """Table 1."""
    options = settings["evaluation"]
    steps = options["sampling_steps"][0]
    columns = [
        estimates.stored("mse", "MSE", "loss", "mse"),
        estimates.stored("lpf", "LPF", ABSOLUTE, "value"),
        estimates.stored("lpf-rise", "LPF rise", ABSOLUTE, "rise"),
        estimates.stored("gap", f"norm's {GAP_WORDS}, T'={steps}", names.exposure(steps), GAP),
        estimates.distance("frechet", f"distance T'={steps}", names.distance(steps)),
    ]
    return columns + [change(steps, bits, f"frechet-{bits}", f"change at {bits} bits") for bits in options["bits"]]


def distances(settings: Settings) -> list[Column]:
    """Table 2."""
    columns = []
    for steps, count in samples_of(settings).items():
        measure = names.distance(steps)
        columns.append(estimates.distance(f"frechet-{steps}", f"T'={steps}, {count} samples", measure))
        if extrapolates(settings, count):
            name = f"frechet-{steps}-extrapolated"
            columns.append(estimates.distance(name, f"T'={steps}, without bias", measure, "extrapolated"))
    return columns


def flatness(settings: Settings) -> list[Column]:
    """Table 3."""
    options = settings["evaluation"]
    columns = [estimates.stored("loss", "loss", ABSOLUTE, "loss")]
    for scale in names.SCALES:
        sigma = options["sigma" if scale == "absolute" else "relative_sigma"]
        columns.append(estimates.stored(f"lpf-{scale}", f"LPF, {scale} {sigma:g}", names.low_pass(scale), "value"))
        columns.append(estimates.stored(f"lpf-{scale}-rise", f"rise, {scale}", names.low_pass(scale), "rise"))
    return columns


def quantisation(settings: Settings) -> list[Column]:
    """Table 4."""
    options = settings["evaluation"]
    columns = []
    for steps in options["sampling_steps"]:
        columns.append(estimates.distance(f"frechet-{steps}", f"T'={steps}, 32 bits", names.distance(steps)))
        for bits in options["bits"]:
            measure = names.distance(steps, bits)
            columns.append(estimates.distance(measure, f"T'={steps}, {bits} bits", measure))
            columns.append(change(steps, bits, f"{measure}-change", "change"))
    return columns + [
        estimates.stored(f"rise-{bits}", f"loss rise, {bits} bits", names.quantization(bits), "rise")
        for bits in options["rise_bits"]
    ]


def exposure(settings: Settings) -> list[Column]:
    """Exposure bias."""
    reductions = {GAP: GAP_WORDS, "mean_signed_gap": "mean gap, signed", "last_gap": "gap at the last step"}
    return [
        estimates.stored(f"{key}-{steps}", f"T'={steps}, {words}", names.exposure(steps), key)
        for steps in settings["evaluation"]["sampling_steps"]
        for key, words in reductions.items()
    ]


def curve(settings: Settings) -> list[Column]:
    """The loss at a distance from the weights."""

    def rise(measure: str, index: int) -> Any:
        return lambda result: estimates.estimate(
            estimates.at(result, measure, "rises")[index], estimates.at(result, measure).get("settings")
        )

    columns = []
    for measure, key, words in (
        ("curve-random", "curve_rms", "random, rms"),
        ("curve-gradient", "gradient_distances", "gradient,"),
    ):
        for index, distance in enumerate(settings["evaluation"][key]):
            columns.append(Column(f"{measure}-{distance:g}", f"{words} {distance:g}", rise(measure, index), (measure,)))
    return columns


def readout(settings: Settings) -> list[Column]:
    """The last layer."""
    columns = [
        estimates.stored("feature-energy", "E|phi|^2", "readout", "feature_energy"),
        estimates.bare("readout-norm", "|W| last layer", "readout", "weight_norm"),
        estimates.bare("norm", "|w| all", "readout", "weights", "norm"),
    ]
    words = {ABSOLUTE: "noise", names.low_pass("layer"): "scaled noise"}
    words |= {names.quantization(bits): f"{bits} bits" for bits in settings["evaluation"]["rise_bits"]}
    return columns + [
        estimates.stored(f"{name}-{kind}", f"{word}, {kind}", "readout", "rises", name, kind)
        for name, word in words.items()
        for kind in ("measured", "predicted")
    ]


def compared(settings: Settings) -> list[Column]:
    """What rows are compared in, in words."""
    options = settings["evaluation"]
    absolute, relative = options["sigma"], options["relative_sigma"]
    loss = estimates.stored("loss", "held-out loss", ABSOLUTE, "loss")
    filtered = estimates.stored("lpf", f"LPF (absolute noise, sigma {absolute:g})", ABSOLUTE, "value")
    needs = (ABSOLUTE, "loss")
    columns = [
        loss._replace(needs=needs, replicates=estimates.by_image),
        filtered._replace(needs=needs),
        estimates.stored("lpf-absolute-rise", "LPF's rise over the loss", ABSOLUTE, "rise"),
        estimates.stored(
            "lpf-layer-rise", f"rise under noise of {relative:g} of each layer's size", names.low_pass("layer"), "rise"
        ),
    ]
    for steps in options["sampling_steps"]:
        columns.append(estimates.stored(f"gap-{steps}", f"norm's {GAP_WORDS}, T'={steps}", names.exposure(steps), GAP))
        columns += _compared_distances(settings, steps)
    columns += [
        estimates.stored(f"rise-{bits}", f"loss's rise at {bits} bits", names.quantization(bits), "rise")
        for bits in options["rise_bits"]
    ]
    columns.append(estimates.stored("feature-energy", "feature energy of the last layer", "readout", "feature_energy"))
    return columns


def _compared_distances(settings: Settings, steps: int) -> list[Column]:
    measure, words = names.distance(steps), f"distance of samples, T'={steps}"
    note = bias_note(settings, [steps])
    columns = [estimates.distance(f"frechet-{steps}", f"{words}, {note}" if note else words, measure)]
    if not note:
        name = f"frechet-{steps}-extrapolated"
        columns.append(estimates.distance(name, f"{words}, without bias", measure, "extrapolated"))
    return columns + [
        change(steps, bits, f"frechet-{steps}-{bits}-change", f"change of that distance at {bits} bits, T'={steps}")
        for bits in settings["evaluation"]["bits"]
    ]
