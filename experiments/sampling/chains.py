"""Samples from a network, in batches: image i is a function of the network and (seed, i), however images are batched.

    for indices, images in generate(network, process, range(1000), steps=20, sampler="ddim", seed=0):
        pixels = to_uint8(images)

Rounding is the exception. Sums in float32 are taken in another order for another batch size, number of threads or
device, by which an image differs in its last digits, and a few of its pixels by one level of 256.

Noise is a function of (seed, i), the step and the pixel alone (`ImageNoise`): every image has a stream of its own of
the counter-based generator Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, 2011, "Parallel Random Numbers: As Easy as 1,
2, 3"): the key is derived from the seed, and the counter is (block of four pixels, step, image), so no two numbers
share a counter. Any part of any image's noise is computed by itself, a batch of images in one sequence of tensor
operations on their own device: no generator is made, seeded or advanced for an image, and nothing is copied to an
accelerator. The words are the same on every device; the normals made of them (Box and Muller, 1958, in float64) differ
by float64's rounding at most before they become float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from experiments.data import to_uint8
from experiments.diffusion import Process, ProcessOptions, trajectory
from experiments.diffusion.sampling import State
from flatness import arguments
from flatness.passes import whole_float32
from flatness.progress import Progress, reporter
from flatness.weights import derived_seed, widest

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
MASK = 2**32 - 1
START = 0
"""The counter's step for x_T; the noise of step s has s + 1."""

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """Philox 4x32-10.

    Args:
        counter: four words, int64 tensors of numbers from 0 to 2^32 - 1 that broadcast against each other.
        key: two words.

    Returns:
        Four words, in the same form.
    """
    a, b, c, d = counter
    first, second = key
    for _ in range(ROUNDS):
        # A product modulo 2^64 has the right bits though int64 wraps; the shift copies its sign, which the mask drops
        left, right = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = _high(right) ^ b ^ first, right & MASK, _high(left) ^ d ^ second, left & MASK
        first, second = (first + KEY_STEPS[0]) & MASK, (second + KEY_STEPS[1]) & MASK
    return a, b, c, d


def _high(product: Tensor) -> Tensor:
    return (product >> 32).bitwise_and_(MASK)


class ImageNoise:
    """The noise of some images: what `experiments.diffusion.trajectory` takes as x_T and noise_of.

    Args:
        seed: a whole number from 0.
        indices: (n,), int64, the images' numbers, from 0.
        shape: (C, H, W) of an image.
        device: where the noise is made.

    Raises:
        ValueError: an argument is not as above.
    """

    def __init__(
        self,
        seed: int,
        indices: Int[Tensor, " n"],
        shape: tuple[int, int, int],
        device: torch.device | str = "cpu",
    ) -> None:
        """Check the arguments; nothing is drawn."""
        tensor = arguments.instance("indices", indices, Tensor)
        if tensor.dim() != 1 or tensor.dtype != torch.int64 or (len(tensor) and int(tensor.min()) < 0):
            raise arguments.refuse("indices", indices, "an int64 tensor (n,) of numbers from 0")
        derived = derived_seed("sampling noise", arguments.count("seed", seed))
        self._key = (derived & MASK, derived >> 32)
        self._shape = tuple(arguments.count("shape", side, at_least=1) for side in shape)
        self._size = math.prod(self._shape)
        placed = tensor.to(device)[:, None]
        self._images = (placed & MASK, placed >> 32)
        self._blocks = torch.arange(-(-self._size // 4), device=device)[None]

    def start(self) -> Float[Tensor, "n C H W"]:
        """x_T, float32."""
        return self._normal(START)

    def __call__(self, step: int, shape: tuple[int, ...] | None = None) -> Float[Tensor, "n C H W"]:
        """The noise of the process's step `step`, float32.

        Raises:
            ValueError: the shape, where one is given, is not that of these images.
        """
        if shape is not None and tuple(shape) != (len(self._images[0]), *self._shape):
            raise arguments.refuse("shape", shape, f"{(len(self._images[0]), *self._shape)}, as these images have")
        return self._normal(step + 1)

    def _normal(self, step: int) -> Tensor:
        low, high = self._images
        words = philox((self._blocks, torch.full_like(self._blocks, step), low, high), self._key)
        normals = torch.stack([*_box_muller(*words[:2]), *_box_muller(*words[2:])], dim=-1)
        return normals.flatten(1)[:, : self._size].reshape(-1, *self._shape)


def _box_muller(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent standard normals, float32, of two independent words; none is beyond 6.8."""
    wide = widest(first.device)
    # Half a step from both ends, so that the logarithm is finite
    radius = first.to(wide).add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
    angle = second.to(wide).mul_(2.0 * math.pi * 2.0**-32)
    return (radius * angle.cos()).float(), radius.mul_(angle.sin_()).float()


__all__ = ["ChainOptions", "Chains", "Samples", "chains", "check_steps", "finite_pixels", "generate", "to_uint8"]

SAMPLERS = ("ddpm", "ddim")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class ChainOptions:
    """How images are sampled: with the network and an image's number, all that the image depends on but for rounding.

    Raises:
        ValueError: an option is not as its line says.
    """

    steps: int = 20
    """T', the number of steps, evenly spaced."""
    sampler: Literal["ddpm", "ddim"] = "ddpm"
    """Ancestral with the process's variance (Ho et al., 2020, Algorithm 2), or DDIM (Song et al., 2021, Eq. 12)."""
    eta: float = 0.0
    """DDIM's noise, from 0 (none) to 1 (as much as DDPM's posterior has)."""
    seed: int = 0
    """Of all noise."""
    clip: bool = True
    """Clamp each predicted x_0 to [-1, 1]."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the network's passes: whole float32, without TF32, or by autocast; the chain is float32 in either case."""

    def __post_init__(self) -> None:
        """Check every option."""
        arguments.count("steps", self.steps, at_least=1)
        arguments.choice("sampler", self.sampler, SAMPLERS)
        if arguments.number("eta", self.eta, at_least=0.0, at_most=1.0) and self.sampler == "ddpm":
            raise arguments.refuse("eta", self.eta, "0 with sampler 'ddpm', whose noise is the process's own")
        arguments.count("seed", self.seed)
        arguments.flag("clip", self.clip)
        arguments.choice("precision", self.precision, PRECISIONS)


class Samples(NamedTuple):
    """indices: (n,), int64, on the CPU, the images' numbers; images: (n, C, H, W), float32, about within [-1, 1]."""

    indices: Int[Tensor, " n"]
    images: Float[Tensor, "n C H W"]


class Chains(NamedTuple):
    """The chains of some images.

    Attributes:
        indices: (n,), int64, on the CPU, the images' numbers.
        noise: theirs; `noise.start()` is x_T.
        states: after each step, from the noisiest to step 0; can be read once.
    """

    indices: Int[Tensor, " n"]
    noise: ImageNoise
    states: Iterator[State]


def chains(
    network: nn.Module,
    process: Process | ProcessOptions,
    images: Sequence[int],
    options: ChainOptions,
    *,
    batch_size: int = 64,
    device: torch.device | str | None = None,
    shape: tuple[int, int, int] | None = None,
) -> Iterator[Chains]:
    """Sample the images with the given numbers, batch by batch, in their order, showing every state on the way.

    Args:
        network: (x, timesteps) -> noise and, with a learned variance, v, as ADM; in evaluation mode.
        process: the whole one that the network was trained for, or its options.
        images: the images' numbers, say range(1000).
        options: see `ChainOptions`.
        batch_size: most images at once.
        device: where noise and images are; the network's by default, the CPU for one without parameters.
        shape: (C, H, W) of an image; by default as the network's `options` say.

    Raises:
        ValueError: an argument is not as above, or the network is in training mode; at the call, before any image.
    """
    whole = Process(process) if isinstance(process, ProcessOptions) else arguments.instance("process", process, Process)
    respaced = whole.respaced(check_steps(whole, options))
    arguments.count("batch_size", batch_size, at_least=1)
    numbers = torch.tensor([arguments.count("images", index) for index in images], dtype=torch.int64)
    _check_mode(network)
    sides = _shape(network, shape)
    place = _device(network, device)
    eta = options.eta if options.sampler == "ddim" else None

    def passes(x: Tensor, t: Tensor) -> Tensor:
        whole = options.precision == "float32"
        with whole_float32() if whole else torch.autocast(place.type, torch.bfloat16):
            return network(x, t)

    def batches() -> Iterator[Chains]:
        for start in range(0, len(numbers), batch_size):
            indices = numbers[start : start + batch_size]
            noise = ImageNoise(options.seed, indices, sides, place)
            yield Chains(indices, noise, trajectory(passes, respaced, noise.start(), noise, eta=eta, clip=options.clip))

    return batches()


def check_steps(process: Process, options: ChainOptions) -> int:
    """The number of steps.

    Raises:
        ValueError: there are more than the process has.
    """
    if options.steps > len(process):
        raise arguments.refuse("steps", options.steps, f"at most the {len(process)} steps of the process")
    return options.steps


def generate(
    network: nn.Module,
    process: Process | ProcessOptions,
    images: Sequence[int],
    *,
    batch_size: int = 64,
    device: torch.device | str | None = None,
    shape: tuple[int, int, int] | None = None,
    progress: Progress = False,
    **options: Any,
) -> Iterator[Samples]:
    """Sample the images with the given numbers, batch by batch, in their order. `to_uint8` makes pixels of them.

    Args:
        network, process, images, batch_size, device, shape: see `chains`.
        progress: see `flatness.progress`.
        **options: the fields of `ChainOptions`: steps, sampler, eta, seed, clip, precision.

    Raises:
        ValueError: an argument is not as described, or the network is in training mode; at the call.
    """
    batches = chains(
        network, process, images, ChainOptions(**options), batch_size=batch_size, device=device, shape=shape
    )
    return _ends(batches, reporter("sampling", len(images), progress), len(images))


def _ends(batches: Iterator[Chains], report: Callable[[int, int], None], total: int) -> Iterator[Samples]:
    done = 0
    for batch in batches:
        for state in batch.states:
            images = state.x
        yield Samples(batch.indices, images)
        done += len(batch.indices)
        report(done, total)


def finite_pixels(samples: Samples) -> UInt8[Tensor, "n C H W"]:
    """The samples as pixels, on the CPU.

    Raises:
        FloatingPointError: an image is not finite: NaN has no nearest level, and would pass for black.
    """
    finite = samples.images.isfinite().flatten(1).all(1).cpu()
    if not bool(finite.all()):
        broken = samples.indices[~finite]
        raise FloatingPointError(
            f"{len(broken)} images of {len(samples.indices)} are not finite, the first of them number {int(broken[0])}"
        )
    return to_uint8(samples.images).cpu()


def _check_mode(network: nn.Module) -> None:
    if any(part.training for part in arguments.instance("network", network, nn.Module).modules()):
        raise ValueError("network is in training mode; allowed: evaluation mode (network.eval()), without dropout")


def _shape(network: nn.Module, given: tuple[int, int, int] | None) -> tuple[int, int, int]:
    if given is None:
        options: Any = getattr(network, "options", None)
        if not hasattr(options, "channels") or not hasattr(options, "image_size"):
            raise arguments.refuse("shape", None, "(C, H, W), as the network has no options that say it")
        return options.channels, options.image_size, options.image_size
    if not isinstance(given, tuple | list) or len(given) != 3:
        raise arguments.refuse("shape", given, "three whole numbers (C, H, W) of at least 1")
    channels, height, width = (arguments.count("shape", side, at_least=1) for side in given)
    return channels, height, width


def _device(network: nn.Module, given: torch.device | str | None) -> torch.device:
    own = next((parameter.device for parameter in network.parameters()), None)
    if given is None:
        return torch.device("cpu") if own is None else own
    wanted = torch.device(given)
    if own is None:
        return wanted
    # "cuda" is whichever of them the network is on
    if wanted.type != own.type or wanted.index not in (None, own.index):
        raise arguments.refuse("device", given, f"{str(own)!r}, where the network is")
    return own
