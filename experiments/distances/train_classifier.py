"""`python -m experiments.distances.train_classifier`: train the classifiers of `classifier.py`, minutes on two cores.

Writes weights and record (script, seed, versions, test accuracy, digest) for each image size. Deterministic on one
machine and number of threads; elsewhere rounding differs, and with it the weights, hence the digest that identifies
the feature space: distances compare only where their digests agree.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from jaxtyping import Int, UInt8
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn.functional import cross_entropy

from experiments.distances.classifier import IMAGE_SIZES, WEIGHTS, Classifier, weights_path
from findings.boundary import guarded
from findings.files import write_whole
from findings.provenance import versions
from flatness import arguments

LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2
BATCH = 128


def main() -> int:
    """Run the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments.distances.train_classifier", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", choices=IMAGE_SIZES, default=IMAGE_SIZES, help="image sizes")
    parser.add_argument("--epochs", type=int, default=8, help="passes over the training images (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and mirroring (default %(default)s)")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder to write to (default: where they ship)")
    options = parser.parse_args()
    from experiments.data import load

    for size in options.sizes:
        images = {split: load("fashion-mnist", split, size) for split in ("train", "test")}
        pixels, labels = (
            {split: torch.as_tensor(getattr(i, name)) for split, i in images.items()} for name in ("pixels", "labels")
        )
        network = train(size, pixels["train"], labels["train"], epochs=options.epochs, seed=options.seed)
        reached = accuracy(network, pixels["test"], labels["test"])
        save(network, options.out / weights_path(size).name, reached, epochs=options.epochs, seed=options.seed)
        print(f"{size} x {size}: test accuracy {reached:.2%} on {len(labels['test'])} images")
    return 0


def train(
    size: int,
    pixels: UInt8[Tensor, "N 1 S S"],
    labels: Int[Tensor, " N"],
    *,
    epochs: int = 8,
    seed: int = 0,
    progress: bool = True,
) -> Classifier:
    """A classifier for one image size: AdamW, one cycle of the learning rate, images mirrored at random.

    torch's default random state is left as it was.

    Raises:
        ValueError: an argument is not as above, or there are fewer images than a batch takes (128).
    """
    epochs = arguments.count("epochs", epochs, at_least=1)
    seed = arguments.count("seed", seed)
    if len(pixels) < BATCH or len(labels) != len(pixels):
        raise arguments.refuse("pixels", pixels, f"at least {BATCH} images, and as many labels ({len(labels)} here)")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Classifier(size)
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * (len(pixels) // BATCH)
    adam = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, LEARNING_RATE, total_steps=steps)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
    )
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task(f"classifier, {size} x {size}", total=steps, loss=float("nan"))
        for chosen in _batches(len(pixels), epochs, generator):
            loss = cross_entropy(network(_mirrored(pixels[chosen], generator)), labels[chosen].long())
            adam.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
            bar.update(task, advance=1, loss=loss.item())
    return network.eval().requires_grad_(False)


@torch.no_grad()
def accuracy(network: Classifier, pixels: UInt8[Tensor, "N 1 S S"], labels: Int[Tensor, " N"]) -> float:
    """Share of images whose most likely class is their label, the network in evaluation mode."""
    guesses = torch.cat([network.eval()(part).argmax(dim=1) for part in pixels.split(500)])
    return (guesses == labels).double().mean().item()


def save(network: Classifier, path: Path, test_accuracy: float, *, epochs: int, seed: int) -> dict[str, Any]:
    """Write weights and record, each whole or not at all; the record last, so that it never names weights not there."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    content = safetensors.torch.save(state)
    record = {
        "script": "python -m experiments.distances.train_classifier",
        "dataset": "fashion-mnist",
        "image_size": network.image_size,
        "seed": seed,
        "epochs": epochs,
        "test_accuracy": test_accuracy,
        "threads": torch.get_num_threads(),
        "versions": versions(torch, safetensors),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    write_whole(path, content)
    write_whole(path.with_suffix(".json"), (json.dumps(record, indent=2) + "\n").encode())
    return record


def _batches(number: int, epochs: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of whole batches, every epoch in a new order."""
    for _ in range(epochs):
        order = torch.randperm(number, generator=generator)
        yield from order[: number - number % BATCH].split(BATCH)


def _mirrored(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the images mirrored, at random."""
    return torch.where(torch.rand(len(pixels), 1, 1, 1, generator=generator) < 0.5, pixels.flip(-1), pixels)


if __name__ == "__main__":
    sys.exit(guarded(main))
