"""What training costs beside its passes: SAM, averages of the weights, waiting for data, checkpoints."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.timing import Row, interleaved
from experiments.configuration import PRESETS, AverageOptions, Configuration, RunOptions, SAMOptions
from experiments.data import Batches, Images
from experiments.training.checkpoints import write_checkpoint
from experiments.training.distributed import Ranks
from experiments.training.events import RunState, StepReport, Watcher
from experiments.training.state import TrainingState, initial_network
from experiments.training.step import TrainingStep
from experiments.training.trainer import train

ROUNDS = 5
TINY = dataclasses.replace(PRESETS["fashion-mnist-tiny"], global_batch=16, steps=20)
CIFAR10 = PRESETS["cifar10"]
BATCH = 2
"""Of the steps timed at the cifar10 configuration, whose own batch takes minutes on a CPU."""
CPU = torch.device("cpu")


def _images(configuration: Configuration) -> Images:
    """Noise of the configuration's shape."""
    shape = (256, configuration.network.channels, *[configuration.network.image_size] * 2)
    pixels = torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Images(pixels, configuration.dataset, "train", "sha256:" + "0" * 64)


def _stepping(stepper: TrainingStep) -> Callable[[], object]:
    """Makes the stepper's next step, of the same images each time."""
    c = stepper.configuration
    pixels = Batches(_images(c), c.global_batch, c.seed).batch(0)
    counter = itertools.count(stepper.sam.steps)
    return lambda: stepper(next(counter), pixels)


class _Reports(Watcher):
    """A watcher that keeps the steps' reports."""

    def __init__(self) -> None:
        self.reports: list[StepReport] = []

    def stepped(self, state: RunState, report: StepReport) -> None:
        """Keep it."""
        self.reports.append(report)


def _reports(configuration: Configuration) -> list[StepReport]:
    """Of a whole run on the CPU."""
    watcher = _Reports()
    with tempfile.TemporaryDirectory() as folder:
        options = RunOptions(out=Path(folder), device="cpu", checkpoint_every=configuration.steps)
        train(configuration, options, _images(configuration), [watcher])
    return watcher.reports


def _on_one_thread(part: Callable[[], list[Row]]) -> Callable[[], list[Row]]:
    """A second thread that waits for a core that others use would be timed, too."""

    @functools.wraps(part)
    def measured() -> list[Row]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return part()
        finally:
            torch.set_num_threads(threads)

    return measured


@_on_one_thread
def sam() -> list[Row]:
    """Steps with and without SAM, interleaved; late SAM from these, and from the steps that a run perturbs."""
    steppers = {}
    for method in ("adm", "sam"):
        c = dataclasses.replace(TINY, method=method)
        steppers[method] = _stepping(TrainingStep(c, initial_network(c, CPU), Ranks()))
    seconds = interleaved(steppers, ROUNDS)
    ratio = seconds["sam"] / seconds["adm"]
    late = dataclasses.replace(TINY, method="sam", sam=SAMOptions(sam_schedule="late"))
    reports = _reports(late)
    perturbed = sum(report.perturbed_loss is not None for report in reports)
    share = perturbed / len(reports)
    waited = sum(r.seconds_waited for r in reports) / sum(r.seconds for r in reports)
    what = f"fashion-mnist-tiny, batch {TINY.global_batch}"
    return [
        (f"{what}: SAM's step over a plain one", f"{ratio:.2f} times", "at most 2.1"),
        (
            f"{what}: late SAM over a whole run",
            f"{1 - share + share * ratio:.2f} times",
            f"at most 1.2; {perturbed} of {len(reports)} steps perturbed",
        ),
        (f"{what}: share of a run spent waiting for data", f"{waited:.2%}", f"step {seconds['adm']:.2f} s"),
    ]


@_on_one_thread
def whole_size() -> list[Row]:
    """Averages and checkpoints at the cifar10 configuration, against a plain step of a few images."""
    # All averages at once, though SWA's turn comes only once a cycle, and late
    averages = AverageOptions(swa_start=0.0, swa_cycle=1)
    state = TrainingState(dataclasses.replace(CIFAR10, global_batch=BATCH, averages=averages), Ranks())
    step, shadows = _stepping(state.stepper), state.shadows
    assert shadows is not None
    steps = itertools.count()
    contenders: dict[str, Callable[[], object]] = {
        "step": step,
        "shadows": lambda: shadows.update(next(steps)),
        "copy": lambda: state.contents("none"),
    }
    seconds = interleaved(contenders, ROUNDS)
    image = seconds["step"] / BATCH
    share = seconds["shadows"] / (CIFAR10.global_batch * image)
    least = seconds["shadows"] / (0.03 * image)
    with tempfile.TemporaryDirectory() as folder:
        contents = state.contents("none")
        written = interleaved({"write": lambda: write_checkpoint(Path(folder), contents)}, 2)["write"]
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.safetensors"))
    whole = CIFAR10.global_batch * image
    return [
        (
            f"cifar10, batch {CIFAR10.global_batch}: all {len(shadows.rules)} averages' share of a plain step",
            f"{share:.2%}",
            f"at most 3%, kept from a batch of {least:.0f} on; {seconds['shadows'] * 1e3:.0f} ms, and "
            f"{image:.2f} s an image (measured at batch {BATCH})",
        ),
        (
            "cifar10: training stops for a checkpoint",
            f"{seconds['copy']:.2f} s, {seconds['copy'] / whole:.3f} of a step",
            f"at most a step, {whole:.0f} s; {seconds['copy'] / seconds['step']:.2f} of one of {BATCH} images",
        ),
        (
            "cifar10: writing it, aside",
            f"{written:.1f} s",
            f"{size / 2**30:.1f} GiB with hashes, synchronised to the disk",
        ),
    ]


PARTS = (sam, whole_size)
