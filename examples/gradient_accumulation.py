"""SAM with gradients accumulated over micro-batches: python -m examples.gradient_accumulation.

Both passes of a step run over all of its micro-batches, with the same noise, so the step is that of the whole batch up
to rounding. Perturbing for each micro-batch by itself would be another method.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from examples.ring import Batch, Denoiser, batches, losses, parser, report
from flatness import SAM
from flatness.measuring.low_pass_filter import LowPassFilter


def micro_losses(model: nn.Module, batch: Batch, micro_batch: int) -> Iterator[Tensor]:
    """Losses whose gradients add up to that of the mean loss over the batch, of at most `micro_batch` samples each."""
    parts = zip(*(tensor.split(micro_batch) for tensor in batch), strict=True)
    for part in parts:
        # Sums over the whole batch's size: a smaller last micro-batch then weighs what it should
        yield losses(model, Batch(*part)).sum() / len(batch.x_t)


def accumulate(model: nn.Module, batch: Batch, micro_batch: int) -> None:
    """Add up the gradient of the mean loss over the batch, at most `micro_batch` samples at a time."""
    for loss in micro_losses(model, batch, micro_batch):
        loss.backward()


def train(model: nn.Module, data: Sequence[Batch], rho: float, micro_batch: int, learning_rate: float = 1e-3) -> None:
    """One step a batch, in micro-batches."""
    sam = SAM(torch.optim.AdamW(model.parameters(), lr=learning_rate), rho=rho)
    for batch in data:
        sam.zero_grad()
        with sam.first_pass():  # at w; dropout, if there were any, would be the same in both passes
            accumulate(model, batch, micro_batch)
        if sam.due:
            with sam.perturbed():  # at w_hat, gradients cleared
                accumulate(model, batch, micro_batch)
        sam.step()


def main(argv: Sequence[str] | None = None) -> list[LowPassFilter]:
    """Train and measure without SAM, with it in micro-batches, and with it on whole batches."""
    options_of = parser(__doc__)
    options_of.add_argument("--micro-batch", type=int, default=48, help="(default: %(default)s)")
    options = options_of.parse_args(argv)

    data = batches(options.steps, options.batch, options.seed)
    rises, models = [], []
    runs = (("plain", 0.0, options.batch), ("micro", options.rho, options.micro_batch))
    for name, rho, micro_batch in (*runs, ("whole", options.rho, options.batch)):
        print(f"{name}: {options.steps} steps of {options.batch} points, {micro_batch} at a time, rho {rho:g}")
        models.append(Denoiser(seed=options.seed))
        train(models[-1], data, rho, micro_batch)
        rises.append(report(name, models[-1]))
    micro, whole = (nn.utils.parameters_to_vector(model.parameters()).detach() for model in models[1:])
    print(f"largest difference of a weight, micro against whole: {float((micro - whole).abs().max()):.2g}")
    return rises


if __name__ == "__main__":
    main()
