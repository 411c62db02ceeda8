"""The Frechet distance between Gaussian fits to two sets of features, in float64, from streaming moments.

    d(1, 2) = |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)),

the squared 2-Wasserstein distance of N(mu_1, S_1) and N(mu_2, S_2) (Dowson and Landau, 1982; Heusel et al., 2017, with
Inception's features: the FID). No square root of the non-symmetric S_1 S_2 is taken: with any factors S_i = F_i F_i^T
the trace of the root is the sum of the singular values of F_1^T F_2. Forming no product of covariances also keeps small
eigenvalues, whose roots squaring would drown in rounding. Factors are Cholesky's where S_i is safely positive definite;
otherwise eigenvectors, with eigenvalues within rounding of zero set to zero.

Bias: the distance of a sample of n is too large by about c/n, where c depends on both laws and grows with the width. So
distances compare only at equal n and against the same reference; `jackknife` estimates the bias.

How far a Frechet distance is from what infinitely many samples would give: its standard error and its bias.

Both come from the jackknife over groups of images (Busing, Meijer and van der Leeden, 1999): the distance without each
group in turn. That removes the part of the bias that goes as 1/n, as extrapolation to infinitely many samples does
(Chong and Forsyth, 2020), and leaves parts of higher order: trust it where there are many more samples than features.
The bootstrap would not do: images drawn twice add to the bias that is to be measured.

`Features` is what a feature space has to be; `ReferenceCache` keeps the moments of real images in one.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import safetensors
import safetensors.torch
import torch
from jaxtyping import Float, UInt8
from rich.progress import track
from torch import Tensor

from experiments.data import Images
from findings.files import write_whole
from flatness import arguments

FORMAT = "moments-1"


class Moments:
    """Number, mean and scatter matrix of feature vectors seen so far, in float64 on the CPU.

    Each batch is centred before its products are summed (Chan, Golub and LeVeque, 1983), so a mean that is large beside
    the spread costs no digits.

    Attributes:
        count: feature vectors seen.
        mean: (D,).
        scatter: sum of (x - mean)(x - mean)^T, (D, D).
    """

    def __init__(self, width: int) -> None:
        """Of nothing yet.

        Raises:
            ValueError: the width is not a whole number of at least 1.
        """
        width = arguments.count("width", width, at_least=1)
        self.count = 0
        self.mean: Float[Tensor, " D"] = torch.zeros(width, dtype=torch.float64)
        self.scatter: Float[Tensor, "D D"] = torch.zeros(width, width, dtype=torch.float64)

    @property
    def width(self) -> int:
        """D."""
        return len(self.mean)

    @property
    def covariance(self) -> Float[Tensor, "D D"]:
        """The unbiased covariance, scatter / (count - 1).

        Raises:
            ValueError: fewer than two feature vectors.
        """
        if self.count < 2:
            raise ValueError(f"there are {self.count} feature vectors; allowed: at least 2 for a covariance")
        return self.scatter / (self.count - 1)

    def update(self, features: Float[Tensor, "n D"]) -> None:
        """Take in feature vectors.

        Raises:
            ValueError: another shape, or entries that are not finite; nothing is taken in.
        """
        added = _checked(features, self.width)
        if not len(added):
            return
        batch = Moments(self.width)
        batch.count, batch.mean = len(added), added.mean(dim=0)
        centred = added - batch.mean
        batch.scatter = centred.T @ centred
        self.merge(batch)

    def merge(self, other: Moments) -> None:
        """Take in all that the other has seen; the other stays as it is.

        Raises:
            ValueError: another width.
        """
        self._same_width(other)
        total = self.count + other.count
        if not other.count:
            return
        apart = other.mean - self.mean
        weight = self.count / total * other.count
        self.scatter = self.scatter + other.scatter + weight * torch.outer(apart, apart)
        self.mean = self.mean + apart * (other.count / total)
        self.count = total

    def without(self, other: Moments) -> Moments:
        """The moments of what is left when all that the other has seen is taken away again.

        Raises:
            ValueError: another width, or the other has seen no less than this.
        """
        self._same_width(other)
        rest = Moments(self.width)
        rest.count = self.count - other.count
        if rest.count < 1:
            raise ValueError(f"other has seen {other.count} feature vectors; allowed: fewer than {self.count}")
        apart = (other.mean - self.mean) * (self.count / rest.count)
        rest.mean = self.mean - apart * (other.count / self.count)
        weight = rest.count / self.count * other.count
        rest.scatter = self.scatter - other.scatter - weight * torch.outer(apart, apart)
        return rest

    def to_file(self, path: Path, about: Mapping[str, str] | None = None) -> None:
        """Write as safetensors, whole or not at all, with what is said `about` it and a digest as metadata."""
        tensors = {"count": torch.tensor(self.count), "mean": self.mean, "scatter": self.scatter}
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        metadata = {"format": FORMAT, **(about or {}), "sha256": _digest(tensors)}
        write_whole(path, safetensors.torch.save(tensors, metadata))

    @classmethod
    def from_file(cls, path: Path, about: Mapping[str, str] | None = None) -> Moments:
        """Read what `to_file` wrote.

        Raises:
            ValueError: the file is missing, damaged, no file of moments, or about something else.
        """
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name).clone() for name in ("count", "mean", "scatter")}
        except (OSError, safetensors.SafetensorError) as error:
            raise ValueError(f"{path} cannot be read as moments ({error})") from error
        count, mean, scatter = tensors.values()
        kinds = (count.dtype, mean.dtype, scatter.dtype) == (torch.int64, torch.float64, torch.float64)
        shapes = (count.dim(), mean.dim(), scatter.shape) == (0, 1, (*mean.shape, *mean.shape))
        if not (kinds and shapes and len(mean)):
            raise ValueError(f"{path} holds no number, mean and scatter matrix of features")
        expected = {"format": FORMAT, **(about or {}), "sha256": _digest(tensors)}
        wrong = {name: metadata.get(name) for name, value in expected.items() if metadata.get(name) != value}
        if wrong:
            raise ValueError(f"{path} says {wrong}; allowed: { {name: expected[name] for name in wrong} }")
        centre = int(count) * float(mean.square().max())  # rounding of a scatter goes with the squares about zero
        if int(count) < 0 or not bool(mean.isfinite().all()) or not _is_scatter(scatter, centre):
            raise ValueError(f"{path} holds a number, mean and scatter matrix that no features have")
        read = cls(len(mean))
        read.count, read.mean, read.scatter = int(count), mean, scatter
        return read

    def _same_width(self, other: Moments) -> None:
        if arguments.instance("other", other, Moments).width != self.width:
            raise ValueError(f"other has width {other.width}; allowed: {self.width}")


def frechet_distance(a: Moments, b: Moments) -> float:
    """The Frechet distance between the Gaussian fits of two sets of features; never negative, in squared units.

    Rounding: a covariance comes with errors of about eps times its largest eigenvalue, and a root turns that into
    sqrt(eps). So a distance is good to about 1e-8 of the traces for each direction in which one set has no spread and
    the other has some, and to about D eps of the traces otherwise.

    Raises:
        ValueError: widths differ, or a set has fewer than two feature vectors.
    """
    arguments.instance("a", a, Moments)._same_width(b)
    first, second = factor(a.covariance), factor(b.covariance)
    between = first.T @ second
    root = torch.linalg.svdvals(between).sum() if between.numel() else torch.zeros((), dtype=torch.float64)
    spread = first.square().sum() + second.square().sum() - 2 * root
    return max(0.0, ((a.mean - b.mean).square().sum() + spread).item())


def factor(covariance: Float[Tensor, "D D"]) -> Float[Tensor, "D r"]:
    """F with F F^T the covariance, up to rounding: eigenvalues within D eps of the largest from zero count as zero."""
    symmetric = (covariance + covariance.T) / 2
    rounding = len(symmetric) * torch.finfo(torch.float64).eps
    lower, failed = torch.linalg.cholesky_ex(symmetric)
    if not failed and lower.diagonal().square().min() > rounding * symmetric.diagonal().max():
        return lower
    eigenvalues, vectors = torch.linalg.eigh(symmetric)
    significant = eigenvalues > rounding * eigenvalues.abs().max()
    return vectors[:, significant] * eigenvalues[significant].sqrt()


def _is_scatter(matrix: Tensor, size: float) -> bool:
    """Whether a matrix may be a sum of squares, up to rounding of numbers of a size: finite, symmetric, no diagonal
    below 0."""
    if not bool(matrix.isfinite().all()):
        return False
    rounding = 1e-9 * max(size, float(matrix.abs().max()))
    return bool((matrix.diagonal() >= -rounding).all()) and bool(((matrix - matrix.T).abs() <= rounding).all())


def _checked(features: Any, width: int) -> Tensor:
    tensor = arguments.floating_tensor("features", features)
    if tensor.dim() != 2 or tensor.shape[1] != width or tensor.is_meta:
        raise arguments.refuse("features", features, f"shape (n, {width}), with values")
    tensor = tensor.detach().to("cpu", torch.float64)
    if not bool((tensor.abs() <= arguments.LARGEST).all()):  # squares of larger ones would overflow
        raise ValueError("features has entries beyond float32's, or not finite; allowed: finite entries of its range")
    return tensor


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


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


PASS = 1000
"""Images between two updates of moments and progress bar."""


class Features(Protocol):
    """A map from images to feature vectors that never changes.

    Attributes:
        name: for people and file names.
        width: D, features an image.
        identity: SHA-256 of the weights; distances compare only in features of the same identity.
    """

    name: str
    width: int
    identity: str

    def __call__(self, images: UInt8[Tensor, "N C H W"]) -> Float[Tensor, "N D"]:
        """Features of images."""


def moments_of(images: UInt8[Tensor, "N C H W"], features: Features, progress: bool = False) -> Moments:
    """The moments of the images' features.

    Raises:
        ValueError: no image, or images that the features do not take.
    """
    if not len(arguments.instance("images", images, Tensor)):
        raise arguments.refuse("images", images, "at least one image")
    moments = Moments(features.width)
    for part in track(images.split(PASS), f"features, {features.name}", disable=not progress, transient=True):
        moments.update(features(part))
    return moments


class ReferenceCache:
    """Moments of real images on disk, computed once for each data set, split, image size and feature space."""

    def __init__(self, folder: Path) -> None:
        """Kept in this folder, which is made when the first file is written."""
        self._folder = Path(folder)

    def path(self, images: Images, features: Features) -> Path:
        """Where the moments of these images in these features are kept."""
        about = self._about(images, features)
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        return self._folder / f"{images.name}-{images.split}-{images.image_size}-{features.name}-{digest}.safetensors"

    def moments(self, images: Images, features: Features) -> Moments:
        """The moments: read where they are kept, computed and kept otherwise.

        A file that is damaged or about something else is never used: a warning says so, and it is computed anew.
        """
        path, about = self.path(images, features), self._about(images, features)
        if path.exists():
            try:
                return self._read(path, about, images)
            except ValueError as error:
                warnings.warn(f"cached reference statistics are computed anew: {error}", stacklevel=2)
        moments = moments_of(images.pixels, features)
        moments.to_file(path, about)
        return moments

    @staticmethod
    def _about(images: Images, features: Features) -> dict[str, str]:
        return {
            "dataset": images.name,
            "split": images.split,
            "fingerprint": images.fingerprint,
            "images": "x".join(map(str, images.pixels.shape)),
            "features": features.name,
            "identity": features.identity,
            "width": str(features.width),
        }

    @staticmethod
    def _read(path: Path, about: dict[str, str], images: Images) -> Moments:
        moments = Moments.from_file(path, about)
        if moments.count != len(images) or str(moments.width) != about["width"]:
            raise ValueError(f"{path} is of {moments.count} images; allowed: {len(images)}")
        return moments
