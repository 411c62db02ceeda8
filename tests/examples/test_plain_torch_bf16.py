"""The example's loop against SAM by hand under autocast, and what it prints."""

import pytest
import torch
from torch import Tensor, nn

from examples.plain_torch_bf16 import main, train
from examples.ring import Batch, Denoiser, batches
from tests.examples.by_hand import FAR, check_sam, distance, trained
from tests.examples.ring_common import RHO, adamw, check_falls, mean_loss

SAME = 1e-7
"""The same operations in the same order; only the sum in the gradient's norm has another, in float64."""


def rounded_loss(model: nn.Module, batch: Batch) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return mean_loss(model, batch)


def reference(rho: float, loss_of=rounded_loss) -> list[Tensor]:  # type: ignore[no-untyped-def]
    model = Denoiser(width=16)
    return trained(model, adamw(model), loss_of, batches(8, 10), rho)


def test_steps_are_sam_in_bfloat16() -> None:
    model = Denoiser(width=16)
    train(model, batches(8, 10), RHO)
    check_sam(model, reference, RHO, within=SAME)
    assert distance(model.parameters(), reference(RHO, mean_loss)) > FAR
    assert all(p.dtype == torch.float32 for p in model.parameters())
    check_falls(model, Denoiser(width=16), batches(8, 10))


def test_without_a_radius_it_is_the_plain_optimizer() -> None:
    model = Denoiser(width=16)
    train(model, batches(8, 10), 0.0)
    assert distance(model.parameters(), reference(0.0)) == 0


def test_sam_lowers_the_rise(capsys: pytest.CaptureFixture[str]) -> None:
    plain, sam = main(["--steps", "100", "--batch", "64", "--rho", "0.2", "--device", "cpu"])
    assert sam.rise.value < plain.rise.value
    assert f"{sam.rise.value:.4f}" in capsys.readouterr().out
