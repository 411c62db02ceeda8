"""The order of images: whole epochs, a function of (seed, step) alone, the same for any number of processes."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from experiments.data import Batches, Images


def images(number: int = 10, size: int = 4, channels: int = 3) -> Images:
    """Images whose pixels are all different within an image, and whose first pixel is the image's number."""
    pixels = torch.randint(256, (number, channels, size, size), generator=torch.Generator().manual_seed(0))
    pixels[:, 0, 0, 0] = torch.arange(number)
    return Images(pixels.to(torch.uint8), "cifar10", "train", "sha256:0")


def order(batches: Batches, steps: int) -> list[int]:
    return torch.cat([batches.indices(step) for step in range(steps)]).tolist()


@given(number=st.integers(1, 30), batch=st.integers(1, 70), seed=st.integers(0, 2**40))
def test_every_epoch_holds_every_image_once(number: int, batch: int, seed: int) -> None:
    indices = order(Batches(images(number), batch, seed), math.ceil(3 * number / batch))
    for epoch in range(3):
        assert sorted(indices[epoch * number : (epoch + 1) * number]) == list(range(number))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    indices = order(Batches(images(200), 100, seed=0), 4)
    other = order(Batches(images(200), 100, seed=1), 4)
    # four orders of 200 images: two equal ones by chance, or one that is not shuffled, once in 10^374
    orders = [tuple(part[:200]) for part in (indices, indices[200:], other, other[200:], list(range(200)))]
    assert len(set(orders)) == 5


def test_a_step_does_not_depend_on_the_steps_before_it() -> None:
    onward, backward = Batches(images(), 4, seed=3), Batches(images(), 4, seed=3)
    expected = [onward.batch(step) for step in range(12)]
    for step in reversed(range(12)):
        assert torch.equal(backward.batch(step), expected[step])


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_the_ranks_shares_are_the_batch_of_one_process(world: int) -> None:
    batches = Batches(images(10), 12, seed=5)
    for step in range(4):
        shares = [batches.batch(step, rank, world) for rank in range(world)]
        assert {len(share) for share in shares} == {12 // world}
        assert torch.equal(torch.cat(shares), batches.batch(step))


def mirrored(pixels: Tensor, flips: Tensor) -> Tensor:
    return torch.stack([image.flip(-1) if flip else image for image, flip in zip(pixels, flips, strict=True)])


@pytest.mark.parametrize("size", [4, 8, 12, 32])  # multiples of eight have a way of their own
def test_a_batch_is_the_images_of_its_indices_mirrored_where_it_says(size: int) -> None:
    batches = Batches(images(size=size), 64, seed=1)
    assert 0 < int(batches.flips(2).sum()) < 64
    assert torch.equal(batches.batch(2), mirrored(batches.images.pixels[batches.indices(2)], batches.flips(2)))
    plain = Batches(batches.images, 64, seed=1, flip=False)
    assert not plain.flips(2).any()
    assert torch.equal(plain.indices(2), batches.indices(2))
    assert torch.equal(plain.batch(2), plain.images.pixels[plain.indices(2)])


def test_half_the_images_are_mirrored_and_steps_draw_anew() -> None:
    number, steps = 500, 40
    drawn = torch.stack([Batches(images(), number, seed=2).flips(step) for step in range(steps)]).double()
    standard_error = 0.5 / math.sqrt(number * steps)
    assert abs(drawn.mean() - 0.5) < 5 * standard_error
    # flips of one step equal those of the next half of the time
    agreement = (drawn[1:] == drawn[:-1]).double().mean()
    assert abs(agreement - 0.5) < 5 * 0.5 / math.sqrt(number * (steps - 1))


def test_the_stream_is_the_batches_from_any_step_on() -> None:
    batches = Batches(images(), 6, seed=7)
    with batches.stream(first_step=5, rank=1, world=2, last_step=9) as stream:
        streamed = list(stream)
    assert [step for step, _ in streamed] == [5, 6, 7, 8]
    for step, share in streamed:
        assert torch.equal(share, batches.batch(step, 1, 2))
    with batches.stream() as endless:
        assert [step for step, _ in itertools.islice(endless, 30)] == list(range(30))
    assert endless.seconds_waited > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_stream_brings_batches_to_the_device() -> None:
    batches = Batches(images(), 6, seed=7)
    with batches.stream(device="cuda", last_step=20) as stream:
        for step, share in stream:
            assert share.is_cuda
            assert torch.equal(share.cpu(), batches.batch(step))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"global_batch": 0}, "global_batch"),
        ({"global_batch": True}, "global_batch"),
        ({"seed": -1}, "seed"),
        ({"flip": 1}, "flip"),
        ({"images": torch.zeros(3)}, "images"),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], name: str) -> None:
    usual: dict[str, Any] = {"images": images(), "global_batch": 4, "seed": 0}
    with pytest.raises(ValueError, match=f"{name} is"):
        Batches(**(usual | options))


@pytest.mark.parametrize(
    ("place", "name"), [((0, 0, 3), "world"), ((0, 2, 2), "rank"), ((0, -1, 2), "rank"), ((-1, 0, 1), "step")]
)
def test_a_share_that_does_not_exist_is_refused(place: tuple[int, int, int], name: str) -> None:
    batches = Batches(images(), 4, seed=0)
    with pytest.raises(ValueError, match=f"{name} is"):
        batches.batch(*place)
    if name != "step":
        with pytest.raises(ValueError, match=f"{name} is"):
            batches.stream(*place)
