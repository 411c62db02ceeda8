"""Micro-batches against whole batches, and both against SAM by hand."""

import pytest
from torch import Tensor

from examples.gradient_accumulation import main, train
from tests.examples.by_hand import FAR, ROUNDING, check_sam, distance, trained
from tests.examples.ring_common import RHO, adamw, check_falls, data, mean_loss, small


def reference(rho: float) -> list[Tensor]:
    model = small()
    return trained(model, adamw(model), mean_loss, data(), rho)


@pytest.mark.parametrize("micro_batch", [3, 5, 100])
def test_micro_batches_make_the_step_of_the_whole_batch(micro_batch: int) -> None:
    model, whole = small(), small()
    train(model, data(), RHO, micro_batch)
    train(whole, data(), RHO, 10)
    assert distance(model.parameters(), whole.parameters()) <= ROUNDING
    check_sam(model, reference, RHO)
    check_falls(model, small(), data())


def test_a_perturbation_for_each_micro_batch_would_be_another_method() -> None:
    """So that agreement says something: SAM on one half of the batch at a time is further off than rounding."""
    model, halves = small(), small()
    train(model, data(), RHO, 5)
    parts = [type(batch)(*(tensor[k : k + 5] for tensor in batch)) for batch in data() for k in (0, 5)]
    trained(halves, adamw(halves), mean_loss, parts, RHO)
    assert distance(model.parameters(), halves.parameters()) > FAR


def test_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    _, micro, whole = main(["--steps", "5", "--batch", "20", "--micro-batch", "7"])
    assert micro.rise.value == pytest.approx(whole.rise.value, rel=1e-3)  # five steps of float32
    assert "largest difference of a weight, micro against whole" in capsys.readouterr().out
