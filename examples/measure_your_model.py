"""How flat is a model? Five lines for any torch model: python -m examples.measure_your_model.

The model here is a classifier with batch normalisation, trained for a moment; put yours in its place. A loss takes the
model and a batch and returns one number a sample. Weights, buffers, modes and random states are afterwards as before.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor, nn

import flatness
from flatness.measuring.low_pass_filter import LowPassFilter

Data = list[tuple[Tensor, Tensor]]


def your_model_and_batches(steps: int) -> tuple[nn.Module, Data]:
    """A classifier of points by the sign of their coordinates' product, and batches (inputs, labels) held out."""
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(256, 2, generator=generator) for _ in range(steps + 4)]
    data = [(x, (x.prod(dim=1) > 0).long()) for x in drawn]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for x, label in data[:steps]:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), label).backward()
        optimizer.step()
    return model, data[steps:]


def measure(model: nn.Module, batches: Data) -> LowPassFilter:
    """The five lines."""

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

    measured = flatness.low_pass_filter(model, loss, batches, sigma=0.1, scale="layer", draws=50)
    print(f"loss {measured.loss.value:.4f}, under weight noise {measured.value.value:.4f}")
    print(f"rise {measured.rise.value:.4f}, standard error over the draws {measured.rise.draw_standard_error:.4f}")
    return measured


def main(argv: Sequence[str] | None = None) -> LowPassFilter:
    """Train a little and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="of the training before (default: %(default)s)")
    return measure(*your_model_and_batches(parser.parse_args(argv).steps))


if __name__ == "__main__":
    main()
