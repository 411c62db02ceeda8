"""`python -m toy.sampling_theorems`: theorems T10 and T11 on networks that were trained.

T10 bounds how far a sampler strays from the chain of the exact noise, step by step, by the steps' slopes and the fit's
errors; T11 expects an error of the weights, such as rounding, to be forgotten by ancestral sampling and kept by DDIM.
Both are proved for any network, or for a Gaussian; here the toy's networks, on the ring, say by how much the one is
tight and whether the other is seen. The exact noise of the ring is known at every point, so that a chain of it can be
run beside a network's with the same noise. What was predicted stood in the theorems' pages before these were run.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from findings.boundary import guarded
from findings.documents import document_text
from findings.files import write_whole
from findings.provenance import ROOT, commit, versions
from findings.verdicts import mean_interval
from flatness import arguments
from flatness.diffusion.sampling import respaced_steps
from theory.model.likelihood import reverse_variances
from theory.model.sampling import SAMPLERS, exposure_bound, sampler_steps
from toy.data import GaussianMixture, generator_of, ring
from toy.distances import projections, sliced_wasserstein
from toy.measures import quantized_weights
from toy.models import ScoreModels, random_models
from toy.process import Process, cosine_process
from toy.report import interval_entry
from toy.training import Method, Plan, train

DEFAULT_OUT = ROOT / "results" / "toy_sampling.json"
RADII = (0.0, 0.0156, 0.1)
"""SAM's; 0 is plain training."""
BITS = (4, 3)


@dataclass(frozen=True)
class Setting:
    """How much is trained and sampled; `step` counts from the least noise, and begins where alpha_bar is `least`."""

    seeds: int = 12
    steps: int = 4000
    batch: int = 64
    features: int = 128
    points: int = 1024
    sampling_steps: int = 50
    least: float = 1e-3


QUICK = Setting(seeds=2, steps=40, points=64, sampling_steps=5)


class Walk(NamedTuple):
    """A network's chain and that of the exact noise, run with the same noise.

    Attributes:
        samples: (S, n, d), of the network.
        apart: (S, T + 1), root mean square of the distance between the two, an upper bound of e_t.
        slopes: (S, T), the largest slope of the network's step at points of either chain; of its Lipschitz constant
            what these points show.
        errors: (S, T), root mean square of eps_theta - eps* on the exact chain.
        gaps: (S, T), difference of the root mean squares of |eps_theta| on the two chains.
        lipschitz: (S, T), the largest slope of eps_theta at points of either chain.
        a, k: (T,), of the sampler's steps.
    """

    samples: Float[Tensor, "S n d"]
    apart: ndarray
    slopes: ndarray
    errors: ndarray
    gaps: ndarray
    lipschitz: ndarray
    a: ndarray
    k: ndarray


def chain_steps(process: Process, setting: Setting) -> list[int]:
    """The process's steps that are taken, ascending: evenly, from the first with alpha_bar at least `least`."""
    noisiest = int((process.alphas_cumprod >= setting.least).nonzero().max())
    return list(respaced_steps(noisiest + 1, min(setting.sampling_steps, noisiest + 1)))


def jacobians(models: ScoreModels, x: Float[Tensor, "S n d"], t: int) -> Float[Tensor, "S n d d"]:
    """d eps_theta / d x of ReLU networks: theta diag(active) W^T, by the step's scale.

    Raises:
        ValueError: models with another activation.
    """
    if models.activation != "relu":
        raise arguments.refuse("models.activation", models.activation, "'relu'")
    bias = (models.embedding[t] @ models.U)[:, None]
    active = (torch.baddbmm(bias, x.to(models.theta.dtype), models.W) > 0).to(models.theta)
    pairs = torch.einsum("sim,sjm->smij", models.theta, models.W).flatten(2)
    return torch.bmm(active, pairs).unflatten(2, (x.shape[2], x.shape[2])) * float(models.scales[t])


def path_norms(models: ScoreModels) -> Float[Tensor, " S"]:
    """Theorem T9's bound of the Lipschitz constant of eps_theta, at every step."""
    products = models.theta.double().norm(dim=1) * models.W.double().norm(dim=1)
    return products.sum(1) / models.normaliser


@torch.no_grad()
def walk(models: ScoreModels, data: GaussianMixture, seeds: Sequence[int], sampler: str, setting: Setting) -> Walk:
    """Both chains from the same points of N(0, I) with the same noise; see `Walk`."""
    process, times = models.process, chain_steps(models.process, setting)
    bars = process.alphas_cumprod[times].numpy()
    a, k = sampler_steps(bars, sampler)
    deviations = np.sqrt(reverse_variances(bars, "small")) if sampler == "ancestral" else np.zeros(len(bars))
    deviations[0] = 0.0  # the last step adds no noise
    shape = (setting.points, models.dimension)

    def noise(index: int) -> Tensor:
        generators = [generator_of("theorems", seed, index) for seed in seeds]
        return torch.stack([torch.randn(shape, generator=one, dtype=torch.float64) for one in generators])

    def root(values: Tensor) -> ndarray:
        return np.asarray(values.square().sum(-1).mean(-1).sqrt())

    x = y = noise(len(times))
    apart = [root(x - y)]
    columns: list[tuple[ndarray, ...]] = []
    identity = torch.eye(models.dimension, dtype=torch.float64)
    for index in range(len(times) - 1, -1, -1):
        t = times[index]
        own, on_exact = models.epsilon(x, t).double(), models.epsilon(y, t).double()
        exact = data.optimal_noise(y, float(bars[index]))
        slopes = torch.cat([jacobians(models, x, t), jacobians(models, y, t)], dim=1).double()
        of_step = torch.linalg.matrix_norm(a[index] * identity - k[index] * slopes, 2).amax(1)
        of_noise = torch.linalg.matrix_norm(slopes, 2).amax(1)
        fresh = deviations[index] * noise(index)
        gap = np.abs(root(own) - root(on_exact))
        columns.insert(0, (of_step.numpy(), root(on_exact - exact), gap, of_noise.numpy()))
        x, y = a[index] * x - k[index] * own + fresh, a[index] * y - k[index] * exact + fresh
        apart.insert(0, root(x - y))
    slopes_, errors, gaps, lipschitz = (np.stack(column, 1) for column in zip(*columns, strict=True))
    return Walk(x, np.stack(apart, 1), slopes_, errors, gaps, lipschitz, a, k)


def of_t10(taken: Walk, norms: ndarray) -> dict[str, ndarray]:
    """What T10 is about, one number a seed.

    `tightness` is the mean over steps of a step's distance over its bound from the step before, with the largest slope
    that its points show; `bound over distance` the whole recursion's bound of e_0 over the distance, and `decades
    by path norm` the decimal logarithm of that where T9's path norms (S,) stand for the slopes; `gap over bound` the
    mean over steps of the norms' gap over slope times distance.
    """
    before, after = taken.apart[:, 1:], taken.apart[:, :-1]
    single = taken.slopes * before + taken.k * taken.errors
    whole = [exposure_bound(s, taken.k, e)[0] for s, e in zip(taken.slopes, taken.errors, strict=True)]
    surely = [exposure_bound(taken.a + taken.k * n, taken.k, e)[0] for n, e in zip(norms, taken.errors, strict=True)]
    moved = before > 0  # the first step's points are the same
    shares = np.where(moved, taken.gaps / np.where(moved, taken.lipschitz * before, 1.0), 0.0)
    return {
        "slope": np.asarray(taken.lipschitz.mean(1)),
        "fit error": np.sqrt((taken.errors**2).mean(1)),
        "gap": np.asarray(taken.gaps.mean(1)),
        "distance": taken.apart[:, 0],
        "tightness": np.asarray((after / single).mean(1)),
        "bound over distance": np.array(whole) / taken.apart[:, 0],
        "decades by path norm": np.log10(np.array(surely) / taken.apart[:, 0]),
        "gap over bound": shares.sum(1) / moved.sum(1),
    }


def of_t11(
    models: ScoreModels,
    data: GaussianMixture,
    seeds: Sequence[int],
    setting: Setting,
    own: Mapping[str, Walk],
    bits: int,
) -> dict[str, ndarray]:
    """How far rounding moves the samples, by sampler, one number a seed: of pairs, and of laws (sliced W_2)."""
    theta, W, U = quantized_weights([models.theta, models.W, models.U], bits)
    rounded = models.replaced(theta, W, U)
    lines, distances = projections(models.dimension), {}
    for sampler, walked in own.items():
        samples = walk(rounded, data, seeds, sampler, setting).samples
        distances[f"{sampler}, pairs"] = np.asarray((samples - walked.samples).square().sum(-1).mean(-1).sqrt())
        distances[f"{sampler}, laws"] = sliced_wasserstein(samples, walked.samples, lines).value.numpy()
    return distances


def measured(setting: Setting, progress: bool = True) -> dict[str, dict[str, ndarray]]:
    """Numbers a seed by row ("sam 0.1, ema") and measure."""
    data, seeds = ring(), range(setting.seeds)
    begun = random_models(seeds, 2, setting.features, cosine_process(), learn_features=True, divisor=1.0)
    rows: dict[str, dict[str, ndarray]] = {}
    for rho in RADII:
        label = f"sam {rho:g}" if rho else "adm"
        run = train(
            begun, data, Method(rho=rho), Plan(setting.steps, setting.batch), seeds, progress=progress, label=label
        )
        for average in ("", "ema"):
            models = run.models[average]
            norms = path_norms(models).numpy()
            walks = {sampler: walk(models, data, seeds, sampler, setting) for sampler in SAMPLERS}
            row = {f"{sampler}: {name}": v for sampler, w in walks.items() for name, v in of_t10(w, norms).items()}
            row["path norm"] = norms
            for bits in BITS:
                moved = of_t11(models, data, seeds, setting, walks, bits)
                row |= {f"{bits} bits, {name}": values for name, values in moved.items()}
            rows[f"{label}, {average or 'raw'}"] = row
    return rows


def comparisons(rows: Mapping[str, Mapping[str, ndarray]]) -> dict[str, Any]:
    """Ratios, in logarithms, each with a 99% interval over seeds: SAM over plain training, and DDIM over ancestral."""
    ratios: dict[str, Any] = {}
    for name, row in rows.items():
        for bits in BITS:
            for of_what in ("pairs", "laws"):
                ddim, ancestral = (row[f"{bits} bits, {sampler}, {of_what}"] for sampler in ("ddim", "ancestral"))
                ratios[f"{name}: {bits} bits, {of_what}, DDIM over ancestral"] = np.log(ddim / ancestral)
        method, average = name.split(", ")
        if method != "adm":
            plain = rows[f"adm, {average}"]
            measures = [f"{s}: {of_what}" for s in SAMPLERS for of_what in ("slope", "fit error", "gap", "distance")]
            for key in ("path norm", *measures):
                ratios[f"{name} over adm: {key}"] = np.log(row[key] / plain[key])
    return {key: interval_entry(mean_interval(values)) for key, values in ratios.items()}


def _range(values: Sequence[float], digits: int = 2) -> str:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def _times(entry: Mapping[str, float]) -> str:
    mean, low, high = (math.exp(entry[name]) for name in ("mean", "low", "high"))
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def sentences(document: Mapping[str, Any]) -> dict[str, str]:
    """What was measured of each theorem, in words with numbers, for its page."""
    rows, compared = document["rows"].values(), document["comparisons"]

    def every(name: str) -> list[float]:
        return [row[f"{sampler}: {name}"]["mean"] for row in rows for sampler in SAMPLERS]

    def sam(key: str, average: str) -> str:
        return _times(compared[f"sam 0.1, {average} over adm: {key}"])

    ddim = [entry for key, entry in compared.items() if key.endswith("DDIM over ancestral")]
    clear = sum(entry["low"] > 0 for entry in ddim)
    return {
        "theorem-t10": (
            f"A step's distance is {_range(every('tightness'))} of its bound, with slopes at the chains' own points; "
            f"over all steps the bound is {_range(every('bound over distance'), 0)} times the distance, and with the "
            f"path norm for the slopes at least 10^{min(every('decades by path norm')):.0f} times, which says nothing. "
            f"In EMA's weights SAM at the radius .1 multiplies plain training's path norm by "
            f"{sam('path norm', 'ema')}, the slope by {sam('ancestral: slope', 'ema')}, the norms' gap by "
            f"{sam('ancestral: gap', 'ema')} and the fit's error by {sam('ancestral: fit error', 'ema')}; the samples' "
            f"distance by {sam('ancestral: distance', 'ema')} with ancestral sampling and by "
            f"{sam('ddim: distance', 'ema')} with DDIM; in raw weights by {sam('ancestral: distance', 'raw')} and "
            f"{sam('ddim: distance', 'raw')}."
        ),
        "theorem-t11": (
            f"DDIM's samples moved further than ancestral sampling's in {clear} of {len(ddim)} comparisons beyond the "
            f"interval, by a factor of {_range([math.exp(entry['mean']) for entry in ddim])}."
        ),
    }


def main(words: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m toy.sampling_theorems", description=(__doc__ or "").split("\n\n")[1]
    )
    parser.add_argument("--quick", action="store_true", help="two seeds and few steps: shows that everything runs")
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"default {DEFAULT_OUT.relative_to(ROOT)}")
    options = parser.parse_args(words)
    setting = QUICK if options.quick else Setting()
    rows = measured(setting)
    document = {
        "what": "theorems T10 and T11 on the toy's trained networks: measures a row, and ratios in logarithms",
        "quick": options.quick,
        "command": "python -m toy.sampling_theorems",
        "configuration": asdict(setting)
        | {"rho": list(RADII), "bits": list(BITS), "data": "ring", "averages": ["ema"]},
        "versions": versions(torch, np),
        "commit": commit(),
        "rows": {
            name: {key: interval_entry(mean_interval(values)) for key, values in row.items()}
            for name, row in rows.items()
        },
        "comparisons": comparisons(rows),
    }
    out = options.out or (None if options.quick else DEFAULT_OUT)
    if out is not None:
        write_whole(out, document_text(document))
        print(f"wrote {out}")
    for name, entry in document["comparisons"].items():
        print(f"{name}: times {np.exp(entry['mean']):.3g} [{np.exp(entry['low']):.3g}, {np.exp(entry['high']):.3g}]")
    for theorem, sentence in sentences(document).items():
        print(f"{theorem}: {sentence}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
