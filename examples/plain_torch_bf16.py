"""SAM in a loop of plain torch, with bfloat16 autocast: python -m examples.plain_torch_bf16.

Weights, optimizer and perturbation stay in float32; autocast rounds inside the forward pass alone. Trains one model
without SAM and one with it, on the same batches, and measures both in float32: one seed, so no interval over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from examples.ring import Batch, Denoiser, batches, losses, parser, report
from flatness import SAM
from flatness.measuring.low_pass_filter import LowPassFilter


def train(model: nn.Module, data: Sequence[Batch], rho: float, learning_rate: float = 1e-3) -> None:
    """One step a batch. With rho = 0 it is the plain optimizer's."""
    sam = SAM(torch.optim.AdamW(model.parameters(), lr=learning_rate), rho=rho)

    def closure(batch: Batch) -> Tensor:
        sam.zero_grad()
        with torch.autocast(batch.x_t.device.type, torch.bfloat16):
            loss = losses(model, batch).mean()
        loss.backward()
        return loss

    for batch in data:
        # The closure runs at w and at w_hat; noise and times are in the batch, so both see the same
        sam.step(partial(closure, batch))


def main(argv: Sequence[str] | None = None) -> list[LowPassFilter]:
    """Train and measure without SAM and with it."""
    options_of = parser(__doc__)
    options_of.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = options_of.parse_args(argv)

    data = batches(options.steps, options.batch, options.seed, options.device)
    rises = []
    for name, rho in (("plain", 0.0), ("SAM", options.rho)):
        print(f"{name}: {options.steps} steps of {options.batch} points, rho {rho:g}, bfloat16, {options.device}")
        model = Denoiser(seed=options.seed).to(options.device)
        train(model, data, rho)
        rises.append(report(name, model))
    return rises


if __name__ == "__main__":
    main()
