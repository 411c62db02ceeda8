"""SAM under DistributedDataParallel: torchrun --standalone --nproc-per-node 2 -m examples.distributed.

Each rank takes its share of a global batch, in micro-batches. With gradients="averaged" all ranks climb the gradient of
the global batch, and the weights are those of one process that sees all of it, up to rounding. With "local" each climbs
its own share's, at one all-reduce a step in place of two; the result then depends on the number of ranks. Without
torchrun this is a single process.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence

import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from examples.ring import Batch, Denoiser, batches, losses, parser, report
from flatness import SAM


def accumulate(model: nn.Module, batch: Batch, micro_batch: int) -> None:
    """Add up the gradient of the mean loss over a rank's share; DDP averages once, with the last micro-batch."""
    parts = list(zip(*(tensor.split(micro_batch) for tensor in batch), strict=True))
    for index, part in enumerate(parts):
        with contextlib.ExitStack() as held_back:
            if isinstance(model, DistributedDataParallel) and index < len(parts) - 1:
                held_back.enter_context(model.no_sync())  # encloses forward and backward
            (losses(model, Batch(*part)).sum() / len(batch.t)).backward()


def train(model: nn.Module, data: Sequence[Batch], rho: float, micro_batch: int, gradients: str = "averaged") -> None:
    """One step a batch, of which this rank takes every world-th sample; the model is in DDP where there are ranks."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    # model: the one that is called, DDP's, whose no_sync SAM needs for local gradients
    sam = SAM(torch.optim.AdamW(model.parameters(), lr=1e-3), rho=rho, gradients=gradients, model=model)
    for batch in data:
        share = Batch(*(tensor[rank::world] for tensor in batch))
        sam.zero_grad()
        with sam.first_pass():  # with local gradients it keeps DDP from averaging, the last micro-batch too
            accumulate(model, share, micro_batch)
        if sam.due:
            with sam.perturbed():
                accumulate(model, share, micro_batch)
        sam.step()


def main(argv: Sequence[str] | None = None) -> None:
    """Train on all ranks without SAM and with it; rank 0 measures."""
    options_of = parser(__doc__)
    options_of.add_argument("--micro-batch", type=int, default=32, help="samples a rank takes at a time")
    options_of.add_argument("--gradients", choices=("averaged", "local"), default="averaged", help="that SAM climbs")
    options = options_of.parse_args(argv)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if options.batch % world:
        raise ValueError(f"--batch is {options.batch}; allowed: a multiple of the number of ranks, {world}")

    if world > 1:
        dist.init_process_group("gloo")  # on GPUs "nccl", and the model and its data on cuda:LOCAL_RANK
    data = batches(options.steps, options.batch, options.seed)
    for name, rho in (("plain", 0.0), ("SAM", options.rho)):
        network = Denoiser(seed=options.seed)
        model = DistributedDataParallel(network) if world > 1 else network
        train(model, data, rho, options.micro_batch, options.gradients)
        if os.environ.get("RANK", "0") == "0":
            print(f"{name}: {options.steps} steps of {options.batch} points on {world} ranks, rho {rho:g}")
            report(name, network)
    if world > 1:
        # gloo frees the last collective on a thread of its own, which needs Python's lock and aborts the process
        # if the interpreter is gone by then
        time.sleep(0.1)
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
