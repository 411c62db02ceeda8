"""SAM in a LightningModule with manual optimisation: python -m examples.lightning_module.

`self.optimizers().step(closure)` reaches SAM with the closure, through the strategy and its precision, and the trainer
counts the step. The two-phase form does not fit: without a closure Lightning hands over an empty one of its own.
Checkpoints hold SAM's state beside the optimizer's.

Gradients are accumulated inside of the closure, which runs at w and at w_hat over all micro-batches of a batch. The
trainer's accumulate_grad_batches, which is for automatic optimisation, would hand SAM a closure of one micro-batch that
clears nothing: SAM refuses that, as it would be another method.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from examples.gradient_accumulation import micro_losses
from examples.ring import Batch, Denoiser, batches, parser, report
from flatness import SAM
from flatness.measuring.low_pass_filter import LowPassFilter


class Diffusion(pl.LightningModule):
    """Denoising with SAM."""

    def __init__(
        self, model: torch.nn.Module, rho: float, learning_rate: float = 1e-3, micro_batch: int = 2**20
    ) -> None:
        """Train this model, at most so many samples at a time."""
        super().__init__()
        self.automatic_optimization, self.micro_batch = False, micro_batch
        self.model, self.rho, self.learning_rate = model, rho, learning_rate

    def configure_optimizers(self) -> SAM:
        """SAM, as Lightning takes any optimizer."""
        adamw = torch.optim.AdamW(self.model.parameters(), lr=self.learning_rate)
        return SAM(adamw, rho=self.rho, gradients="averaged")  # on several devices: unlike "local" it needs no model

    def training_step(self, batch: Batch, index: int) -> None:
        """One step of SAM; noise and times are in the batch, so both passes see the same."""
        optimizer = self.optimizers()

        def closure() -> Tensor:
            optimizer.zero_grad()
            total = torch.zeros(())
            for loss in micro_losses(self.model, batch, self.micro_batch):
                self.manual_backward(loss)
                total = total.to(loss) + loss.detach()
            return total

        optimizer.step(closure)


def main(argv: Sequence[str] | None = None) -> list[LowPassFilter]:
    """Train and measure without SAM and with it."""
    options_of = parser(__doc__)
    options_of.add_argument("--micro-batch", type=int, default=48, help="(default: %(default)s)")
    options = options_of.parse_args(argv)
    data = batches(options.steps, options.batch, options.seed)
    rises = []
    for name, rho in (("plain", 0.0), ("SAM", options.rho)):
        print(f"{name}: {options.steps} steps of {options.batch} points, rho {rho:g}")
        module = Diffusion(Denoiser(seed=options.seed), rho, micro_batch=options.micro_batch)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = pl.Trainer(max_epochs=1, enable_checkpointing=False, **quiet)
        trainer.fit(module, DataLoader(data, batch_size=None))  # type: ignore[arg-type]
        rises.append(report(name, module.model))
    return rises


if __name__ == "__main__":
    main()
