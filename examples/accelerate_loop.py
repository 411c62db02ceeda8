"""SAM in a loop of Hugging Face accelerate: accelerate launch -m examples.accelerate_loop.

SAM wraps the optimizer before `prepare` wraps it once more: step(closure) reaches SAM, and save_state and load_state
keep its state beside the optimizer's. With mixed_precision="fp16" accelerate steps through a GradScaler, for which SAM
takes no closure; bfloat16 needs none.

Gradients are accumulated inside of the closure, which runs at w and at w_hat over all micro-batches of a batch, and not
by `accelerator.accumulate`, which would step with the last micro-batch's closure alone: SAM refuses that where it sees
it. Leave gradient_accumulation_steps at 1, by which `accelerator.backward` divides.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from examples.gradient_accumulation import micro_losses
from examples.ring import Batch, Denoiser, noised, parser, points, report
from flatness import SAM
from flatness.measuring.low_pass_filter import LowPassFilter


def train(
    accelerator: Accelerator,
    model: nn.Module,
    loader: DataLoader,
    steps: int,
    rho: float,
    seed: int,
    micro_batch: int = 2**20,
) -> SAM:
    """Steps over the loader of clean points, from its start again at its end; the optimizer as it was left."""
    # "averaged" needs no model; for "local" SAM must know the prepared one: set sam.model after prepare
    sam = SAM(torch.optim.AdamW(model.parameters(), lr=1e-3), rho=rho, gradients="averaged")
    model, optimizer, loader = accelerator.prepare(model, sam, loader)
    generator = torch.Generator().manual_seed(seed + accelerator.process_index)

    def closure(batch: Batch) -> Tensor:
        optimizer.zero_grad()
        total = torch.zeros(())
        parts = micro_losses(model, batch, micro_batch)
        while True:
            with accelerator.autocast():  # around the forward pass alone
                loss = next(parts, None)
            if loss is None:
                return total
            accelerator.backward(loss)
            total = total.to(loss) + loss.detach()

    while sam.steps < steps:
        for (x_0,) in loader:
            # Noise and times before the closure, which runs at w and at w_hat
            optimizer.step(partial(closure, noised(x_0, generator)))
            if sam.steps == steps:
                break
    return sam


def main(argv: Sequence[str] | None = None) -> list[LowPassFilter]:
    """Train and measure without SAM and with it."""
    options_of = parser(__doc__)
    options_of.add_argument("--mixed-precision", choices=("no", "bf16"), default="no", help="(default: %(default)s)")
    options_of.add_argument("--micro-batch", type=int, default=48, help="(default: %(default)s)")
    options_of.add_argument("--cpu", action="store_true", help="also where there is a GPU")
    options = options_of.parse_args(argv)

    accelerator = Accelerator(cpu=options.cpu, mixed_precision=options.mixed_precision)
    rises = []
    for name, rho in (("plain", 0.0), ("SAM", options.rho)):
        accelerator.print(f"{name}: {options.steps} steps of {options.batch} points on each process, rho {rho:g}")
        generator = torch.Generator().manual_seed(options.seed)
        clean = TensorDataset(points(64 * options.batch, generator))
        loader = DataLoader(clean, batch_size=options.batch, shuffle=True, generator=generator)
        model = Denoiser(seed=options.seed)
        train(accelerator, model, loader, options.steps, rho, options.seed, options.micro_batch)
        if accelerator.is_main_process:
            rises.append(report(name, model))
    accelerator.end_training()
    return rises


if __name__ == "__main__":
    main()
