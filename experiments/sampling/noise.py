"""Standard normal noise of image i as a function of (seed, i), the step and the pixel alone.

Every image has a stream of its own of the counter-based generator Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, 2011,
"Parallel Random Numbers: As Easy as 1, 2, 3"): the key is derived from the seed, and the counter is (block of four
pixels, step, image), so no two numbers share a counter. Any part of any image's noise is computed by itself, a batch of
images in one sequence of tensor operations on their own device: no generator is made, seeded or advanced for an image,
and nothing is copied to an accelerator. The words are the same on every device; the normals made of them (Box and
Muller, 1958, in float64) differ by float64's rounding at most before they become float32.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flatness import arguments
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
