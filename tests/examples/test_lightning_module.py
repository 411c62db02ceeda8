"""The LightningModule against SAM by hand, and SAM's state through Lightning's checkpoints."""

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from torch.utils.data import DataLoader

from examples.ring import Batch
from flatness import SAM
from tests.examples.by_hand import check_sam, trained
from tests.examples.imports import example
from tests.examples.ring_common import RHO, adamw, check_falls, data, mean_loss, small

lightning_module = example("lightning_module", needs="pytorch_lightning")
pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on loaders and loggers
STEPS = 8


def trainer(steps: int) -> Any:
    return lightning_module.pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def reference(rho: float, batches: list[Batch]) -> list[Tensor]:
    model = small()
    return trained(model, adamw(model), mean_loss, batches, rho)


def loader() -> DataLoader[Any]:
    return DataLoader(data(STEPS), batch_size=None)  # type: ignore[arg-type]


def test_steps_are_sam_and_are_counted() -> None:
    module, fit = lightning_module.Diffusion(small(), RHO), trainer(STEPS)
    fit.fit(module, loader())
    assert fit.global_step == STEPS
    check_sam(module.model, lambda rho: reference(rho, data(STEPS)), RHO)
    check_falls(module.model, small(), data(STEPS))


@pytest.mark.parametrize("micro_batch", [3, 5])
def test_micro_batches_within_the_closure_make_the_step_of_the_whole_batch(micro_batch: int) -> None:
    module, fit = lightning_module.Diffusion(small(), RHO, micro_batch=micro_batch), trainer(STEPS)
    fit.fit(module, loader())
    assert fit.global_step == STEPS
    check_sam(module.model, lambda rho: reference(rho, data(STEPS)), RHO)


def test_the_trainers_own_accumulation_is_refused() -> None:
    class Automatic(lightning_module.Diffusion):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__(small(), RHO)
            self.automatic_optimization = True

        def training_step(self, batch: Batch, index: int) -> Tensor:
            return mean_loss(self.model, batch)

    fit = trainer(STEPS)
    fit.accumulate_grad_batches = 2
    with pytest.raises(RuntimeError, match=r"closure adds to gradients.*automatic_optimization = False"):
        fit.fit(Automatic(), loader())


def test_checkpoints_keep_the_state(tmp_path: Path) -> None:
    """Half of the steps, a checkpoint that loads without unpickling, new objects with another radius, and the rest."""
    half = STEPS // 2
    first = trainer(half)
    first.fit(lightning_module.Diffusion(small(), RHO), loader())
    first.save_checkpoint(tmp_path / "half.ckpt")

    module, second = lightning_module.Diffusion(small(), 1.0), trainer(STEPS)
    second.fit(module, loader(), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    (sam,) = second.optimizers
    assert isinstance(sam, SAM)
    assert (sam.steps, sam.rho) == (STEPS, RHO)
    again = data(STEPS)[:half] * 2  # Lightning begins a loader that cannot be resumed from its start
    check_sam(module.model, lambda rho: reference(rho, again), RHO)


def test_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    plain, sam = lightning_module.main(["--steps", "5", "--batch", "8"])
    assert plain.rise.value != sam.rise.value
    assert f"{sam.rise.value:.4f}" in capsys.readouterr().out
