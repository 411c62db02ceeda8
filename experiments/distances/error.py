"""How far a Frechet distance is from what infinitely many samples would give: its standard error and its bias.

Both come from the jackknife over groups of images (Busing, Meijer and van der Leeden, 1999): the distance without each
group in turn. That removes the part of the bias that goes as 1/n, as extrapolation to infinitely many samples does
(Chong and Forsyth, 2020), and leaves parts of higher order: trust it where there are many more samples than features.
The bootstrap would not do: images drawn twice add to the bias that is to be measured.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from experiments.distances.frechet import Moments, frechet_distance
from flatness import arguments


class Estimate(NamedTuple):
    """A distance of n samples to a reference, and how far to trust it.

    Attributes:
        value: the distance as it is usually stated: biased upwards.
        standard_error: over samples, the reference held fixed; itself uncertain by 1 / sqrt(2 (groups - 1)). Where the
            two laws are nearly equal the distance is of second order in the samples, and this is too large: by a factor
            of sqrt(2) where they are equal.
        bias: estimated from the part that goes as 1/n.
        samples: n.
        pseudo_values: of the jackknife, one a group. Where two samples are paired image by image and divided alike, the
            differences of theirs are the pseudo-values of the difference of their distances.
        group_sizes: images in each group.
    """

    value: float
    standard_error: float
    bias: float
    samples: int
    pseudo_values: tuple[float, ...]
    group_sizes: tuple[int, ...]

    @property
    def extrapolated(self) -> float:
        """The value without its bias: an estimate for infinitely many samples, which can be negative."""
        return self.value - self.bias


def jackknife(features: Float[Tensor, "n D"], reference: Moments, groups: int = 20, seed: int = 0) -> Estimate:
    """The distance of samples to a reference, with standard error and bias; computes groups + 1 distances.

    Args:
        features: of the samples.
        reference: moments of the real images' features, taken as known.
        groups: into how many parts of (nearly) equal size the samples are divided.
        seed: of the division, which is random so that the samples' order does not matter.

    Raises:
        ValueError: an argument is not as above, or there are fewer samples than groups, or than four.
    """
    groups = arguments.count("groups", groups, at_least=2)
    arguments.instance("reference", reference, Moments)
    everything = Moments(reference.width)
    everything.update(features)
    number = everything.count
    if number < max(groups, 4):
        raise arguments.refuse("features", features, f"at least {max(groups, 4)} feature vectors")
    value = frechet_distance(everything, reference)
    order = torch.randperm(number, generator=torch.Generator().manual_seed(arguments.count("seed", seed)))
    sizes, without = [], []
    for chosen in order.tensor_split(groups):
        group = Moments(reference.width)
        group.update(features[chosen])
        sizes.append(len(chosen))
        without.append(frechet_distance(everything.without(group), reference))
    ratios = number / torch.tensor(sizes, dtype=torch.float64)
    return _estimate(value, torch.tensor(without, dtype=torch.float64), ratios, number)


def _estimate(value: float, without: Tensor, ratios: Tensor, number: int) -> Estimate:
    """Busing et al.'s delete-m_j jackknife; ratios: n / m_j."""
    corrected = len(without) * value - ((1 - 1 / ratios) * without).sum()
    pseudo = ratios * value - (ratios - 1) * without
    variance = ((pseudo - corrected).square() / (ratios - 1)).mean()
    sizes = (number / ratios).round().long().tolist()
    return Estimate(
        value, variance.sqrt().item(), value - corrected.item(), number, tuple(pseudo.tolist()), tuple(sizes)
    )
