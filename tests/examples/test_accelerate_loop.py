"""The loop under accelerate against SAM by hand, and SAM's state through accelerate's checkpoints."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from examples.ring import Batch, noised, points
from flatness import SAM
from tests.examples.by_hand import check_sam, trained
from tests.examples.imports import example
from tests.examples.ring_common import RHO, adamw, check_falls, mean_loss, small

accelerate_loop = example("accelerate_loop", needs="accelerate")
STEPS, SIZE = 8, 10


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    """Accelerate keeps one state a process."""
    from accelerate.state import AcceleratorState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def clean() -> Tensor:
    return points(4 * SIZE, torch.Generator().manual_seed(0)).double()


def data() -> list[Batch]:
    """What the loop sees: the points in order, from the start again after four batches, and its noise."""
    generator = torch.Generator().manual_seed(3)
    return [noised(x_0, generator) for x_0 in (clean().split(SIZE) * 2)[:STEPS]]


def reference(rho: float) -> list[Tensor]:
    model = small()
    return trained(model, adamw(model), mean_loss, data(), rho)


def test_steps_are_sam_and_checkpoints_keep_its_state(tmp_path: Path) -> None:
    from accelerate import Accelerator

    accelerator, model = Accelerator(cpu=True), small()
    loader = DataLoader(TensorDataset(clean()), batch_size=SIZE)
    sam: SAM = accelerate_loop.train(accelerator, model, loader, STEPS, RHO, seed=3)
    check_sam(model, reference, RHO)
    check_falls(model, small(), data())

    accelerator.save_state(str(tmp_path))
    sam.steps, sam.rho = 0, 1.0
    accelerator.load_state(str(tmp_path))
    assert (sam.steps, sam.rho) == (STEPS, RHO)


@pytest.mark.parametrize("micro_batch", [3, 5])
def test_micro_batches_within_the_closure_make_the_step_of_the_whole_batch(micro_batch: int) -> None:
    from accelerate import Accelerator

    accelerator, model = Accelerator(cpu=True), small()
    loader = DataLoader(TensorDataset(clean()), batch_size=SIZE)
    accelerate_loop.train(accelerator, model, loader, STEPS, RHO, seed=3, micro_batch=micro_batch)
    check_sam(model, reference, RHO)


@pytest.mark.parametrize("clears", [False, True])
def test_accelerates_own_accumulation_is_refused(clears: bool) -> None:
    """Whether the closure clears what was accumulated or adds to it; the weights stay."""
    from accelerate import Accelerator

    accelerator, model = Accelerator(cpu=True, gradient_accumulation_steps=2), small()
    sam = SAM(adamw(model), rho=RHO)
    before = [p.detach().clone() for p in model.parameters()]
    model, optimizer = accelerator.prepare(model, sam)

    def step(batch: Batch) -> None:
        with accelerator.accumulate(model):
            accelerator.backward(mean_loss(model, batch))

            def closure() -> Tensor:
                if clears:
                    optimizer.zero_grad()
                loss = mean_loss(model, batch)
                accelerator.backward(loss)
                return loss

            optimizer.step(closure)

    step(data()[0])  # one of two: nothing is stepped
    message = "clears gradients" if clears else "adds to gradients"
    with pytest.raises(RuntimeError, match=message):
        step(data()[1])
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_it_runs(precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--steps", "5", "--batch", "8", "--cpu", "--mixed-precision", precision]
    plain, sam = accelerate_loop.main(options)
    assert plain.rise.value != sam.rise.value
    assert f"{sam.rise.value:.4f}" in capsys.readouterr().out
