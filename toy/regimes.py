"""The toy's regimes as data: where step noise is large, where a training set is memorised, and where neither holds.

A regime is a data set of some size, a model and a length of training; in each the same methods are trained at several
doses. Two rungs of the ladder have regimes: the ring in the plane, and Fashion-MNIST at 8 x 8 as points.

Doses are radii of SAM or deviations of weight noise. Radii are powers of sqrt(8) from 1 down to .0007, with two more
about the optimum, so that a batch of 16 at one radius and of 128 at the next larger have the same rho / sqrt(B).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from flatness import arguments
from flatness.training.perturbed_optimizer import EveryK, Late
from flatness.training.weight_averaging import PowerEMA
from toy.data import ring
from toy.ladder_measures import Measuring
from toy.training import Method, Rule, default_averages
from toy.training_sets import ROOT, Data, Distribution, fashion_mnist, training_sets

RADII = (0.0007, 0.002, 0.0055, 0.0093, 0.0156, 0.0263, 0.0442, 0.0743, 0.125, 0.354, 1.0)
"""SAM's; neighbours of a factor of sqrt(8) but for .0093, .0263 and .0743, which lie between."""
FEWER_RADII = (0.0055, 0.0156, 0.0263, 0.0442, 0.125, 0.354, 1.0)
DEVIATIONS = (0.0025, 0.005, 0.01, 0.02, 0.04, 0.08)
"""Of random weight perturbation on the ring."""
SHARES = (0.1, 0.25, 0.5)
"""Of a run's steps, where it is measured in brief; in full at its end."""
POWER_WIDTHS = (0.05, 0.1)
"""Relative standard deviations of the power-function EMAs, of which a post-hoc EMA is made (Karras et al., 2024)."""


@dataclass(frozen=True)
class Regime:
    """A setting in which methods are compared.

    Args:
        name: for rows.
        source: "ring" or "images".
        training_size: points in a seed's training set; 0 for fresh draws (of images: all of them).
        features: m.
        batch, learning_rate, steps: of training.
        radii: SAM's.
        deviations: of random weight perturbation.
        others: whether further flatteners are trained.
    """

    name: str
    source: str
    training_size: int
    features: int
    batch: int
    learning_rate: float
    steps: int
    radii: tuple[float, ...]
    deviations: tuple[float, ...]
    others: bool = False

    def __post_init__(self) -> None:
        """Check what is not checked where it is used."""
        arguments.choice("source", self.source, ("ring", "images"))
        arguments.count("training_size", self.training_size)
        arguments.count("steps", self.steps, at_least=40)

    def averages(self, method: str, steps: int) -> dict[str, Rule]:
        """Those kept beside a method's weights in so many steps, by name."""
        powers = {f"power {width:g}": PowerEMA.of_width(width) for width in POWER_WIDTHS} if method == "adm" else {}
        return {**default_averages(steps), **powers}


@dataclass(frozen=True)
class Arm:
    """A method at a dose: one training run.

    Args:
        regime: where.
        method: its name, as in `findings`.
        dose: the radius or deviation; 0 for methods without one.
        how: what a step does.
        shorter: what the regime's steps are divided by.
    """

    regime: Regime
    method: str
    dose: float
    how: Method
    shorter: int = 1

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.regime.name}: {self.method}" + (f" {self.dose:g}" if self.dose else "")

    @property
    def steps(self) -> int:
        """Of training."""
        return self.regime.steps // self.shorter

    @property
    def cost(self) -> float:
        """Of training, in multiply-adds of a seed, by what a gradient takes (`benchmarks.toy`)."""
        d = 2 if self.regime.source == "ring" else 64
        inputs = d + 32
        return self.how.gradients(self.steps) * self.regime.batch * self.regime.features * (4 * inputs + 6 * d) / 2


RING = (
    Regime("fresh, batch 16", "ring", 0, 128, 16, 2e-3, 6000, RADII, DEVIATIONS, others=True),
    Regime("24 points", "ring", 24, 256, 64, 2e-3, 6000, FEWER_RADII, DEVIATIONS[1:5]),
    Regime("fresh, batch 128", "ring", 0, 128, 128, 2e-3, 4000, RADII, DEVIATIONS),
    Regime("fresh, batch 64", "ring", 0, 256, 64, 2e-3, 6000, FEWER_RADII, DEVIATIONS[1:5]),
    Regime("96 points", "ring", 96, 256, 64, 2e-3, 6000, FEWER_RADII, DEVIATIONS[1:5]),
    Regime("384 points", "ring", 384, 256, 64, 2e-3, 6000, FEWER_RADII, DEVIATIONS[1:5]),
)
IMAGE_RADII = (0.0055, 0.0156, 0.0263, 0.0442, 0.125)
IMAGE_DEVIATIONS = (0.001, 0.002, 0.004, 0.008)
IMAGES = (
    Regime("all images, batch 32", "images", 0, 256, 32, 1e-3, 6000, IMAGE_RADII, IMAGE_DEVIATIONS, others=True),
    Regime("40 images", "images", 40, 512, 32, 1e-3, 6000, IMAGE_RADII[:4], IMAGE_DEVIATIONS[:3]),
    Regime("300 images", "images", 300, 256, 32, 1e-3, 6000, IMAGE_RADII, IMAGE_DEVIATIONS),
    Regime("all images, batch 256", "images", 0, 256, 256, 1e-3, 3000, IMAGE_RADII[1:4], IMAGE_DEVIATIONS[1:3]),
    Regime("1000 images", "images", 1000, 256, 32, 1e-3, 6000, IMAGE_RADII[1:4], IMAGE_DEVIATIONS[1:3]),
)


@dataclass(frozen=True)
class Rung:
    """Regimes measured alike.

    Attributes:
        name: of the rung and of its file.
        regimes: in the order they are run.
        measuring: sizes and units.
        seeds: how many.
        order: what regimes' results say, for people.
    """

    name: str
    regimes: tuple[Regime, ...]
    measuring: Measuring
    seeds: int = 20
    images: Path = field(default=ROOT)


RUNGS = {
    "ring": Rung("ring", RING, Measuring()),
    "images": Rung(
        "images", IMAGES, Measuring(sigma=0.002, points=1000, draws=8, readout_draws=64, chains=1000, many_chains=500)
    ),
}


def quick(rung: Rung) -> Rung:
    """The same with a few seeds, steps and doses: everything runs, nothing is settled."""
    regimes = []
    for one in (rung.regimes[0], rung.regimes[2]):
        doses = {"radii": one.radii[1:4:2], "deviations": one.deviations[:1]}
        regimes.append(replace(one, steps=100, features=32, batch=16, **doses))  # type: ignore[arg-type]
    small = replace(rung.measuring, points=256, draws=2, readout_draws=8, chains=400, many_chains=400)
    return replace(rung, regimes=tuple(regimes), measuring=small, seeds=3)


def arms_of(regime: Regime) -> list[Arm]:
    """All runs of a regime, plain training first."""
    arms = [Arm(regime, "adm", 0.0, Method()), Arm(regime, "ip", 0.0, Method(input_perturbation=0.1))]
    arms += [Arm(regime, "sam", rho, Method(rho=rho)) for rho in regime.radii]
    arms += [Arm(regime, "rwp", sigma, Method(noise=sigma)) for sigma in regime.deviations]
    if not regime.others:
        return arms
    middle = _about_the_optimum(regime)
    unit = regime.deviations[len(regime.deviations) // 2 - 1]
    for rho in middle:
        arms += [
            Arm(regime, "random sam", rho, Method(rho=rho, noise=unit)),
            Arm(regime, "friendly sam", rho, Method(rho=rho, friendly=1.0)),
            Arm(regime, "late sam", rho, Method(rho=rho, schedule=Late.after_share(0.8, regime.steps))),
            Arm(regime, "sam every 5", rho, Method(rho=rho, schedule=EveryK(5))),
            Arm(regime, "sam of half length", rho, Method(rho=rho), shorter=2),
        ]
    arms += [Arm(regime, "asam", rho, Method(rho=rho, adaptive=True)) for rho in (0.1, 0.3, 1.0)]
    return arms


def _about_the_optimum(regime: Regime) -> tuple[float, ...]:
    """Three radii, where prototypes have their best samples, for the flatteners that are tried at fewer."""
    return tuple(rho for rho in regime.radii if 0.015 < rho < 0.1)[-3:]


_ring = lru_cache(maxsize=1)(ring)
"""One object, by which what is drawn from it once is found again."""


def data_of(regime: Regime, seeds: Sequence[int], images: Path = ROOT) -> tuple[Distribution, Data]:
    """What losses and distances are taken on, and what training draws from.

    Raises:
        ValueError: the images cannot be read.
    """
    if regime.source == "ring":
        source: Distribution = _ring()
        return source, training_sets(source, regime.training_size, seeds) if regime.training_size else source
    train = fashion_mnist("train", images)
    data = training_sets(train, regime.training_size, seeds) if regime.training_size else train
    return fashion_mnist("test", images), data
