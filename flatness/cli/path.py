"""`flatness path A B`: the loss along the straight line between two checkpoints of one network, and its barrier."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from flatness.cli.document import common_entry
from flatness.cli.errors import CommandError
from flatness.cli.options import PathOptions
from flatness.cli.recording import RecordedLoss, Watch, precision
from flatness.cli.report import number
from flatness.cli.runner import Common, placed, with_times
from flatness.cli.statistics import Part, Uncertain, by_sample, student_quantile
from flatness.cli.subject import Subject
from flatness.diffusion.losses import DiffusionLoss
from flatness.measuring.base import plain, stored
from flatness.measuring.loss_path import LossPath, loss_path
from flatness.modules import plain_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

    from flatness.cli.data import Data


@dataclasses.dataclass(frozen=True)
class Path:
    """What was measured along the line.

    Attributes:
        labels: of both ends.
        about: where both came from.
        result: the package's own.
        losses: of single samples at each fraction, (fractions, N).
        excess: the same less what lies between both ends' losses.
        seconds: that it took.
    """

    labels: tuple[str, str]
    about: tuple[dict[str, Any], dict[str, Any]]
    result: LossPath
    losses: Tensor
    excess: Tensor
    seconds: float

    def rows(self) -> list[tuple[float, Uncertain, Uncertain]]:
        """Of each fraction: itself, the loss, and the excess."""
        lines = []
        for index, t in enumerate(self.result.fractions):
            pair = (Uncertain.of_parts([Part(values[index : index + 1])]) for values in (self.losses, self.excess))
            lines.append((t, *pair))
        return lines  # type: ignore[return-value]

    @property
    def barrier(self) -> Uncertain:
        """The largest excess between both ends, 0 where there is none."""
        height, samples = self.result.barrier, self.losses.shape[1]
        half = student_quantile(samples - 1) * height.data_standard_error
        return Uncertain(height.value, 0.0, height.data_standard_error, height.data_standard_error, half)


def check_ends(subjects: Sequence[Subject]) -> None:
    """Raise for two networks that no line joins, or that were not trained alike.

    Raises:
        CommandError: their weights differ in name or shape, or their losses.
    """
    first, second = subjects
    shapes = [
        {plain_name(name): tuple(p.shape) for name, p in one.model.named_parameters(remove_duplicate=False)}
        for one in subjects
    ]
    if shapes[0] != shapes[1]:
        names = [name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name)]
        shown = ", ".join(
            f"{name}: {' and '.join(str(there.get(name, 'missing')) for there in shapes)}" for name in names[:3]
        )
        more = f", and {len(names) - 3} more" if len(names) > 3 else ""
        raise CommandError(
            f"{first.label} and {second.label} are not two sets of weights of one network ({shown}{more})"
        )
    losses = [one.loss for one in subjects]
    known = [loss.settings() if isinstance(loss, DiffusionLoss) else None for loss in losses]
    if known[0] != known[1]:
        differing = [key for key in {**(known[0] or {}), **(known[1] or {})} if (known[0] or {}).get(key) !=
                     (known[1] or {}).get(key)]  # fmt: skip
        raise CommandError(
            f"{first.label} and {second.label} have different losses ({', '.join(differing)}); allowed: two "
            "checkpoints that were trained alike"
        )


def differing_buffers(subjects: Sequence[Subject]) -> list[str]:
    """Names of the buffers that both ends do not share."""
    first, second = ({plain_name(name): b for name, b in one.model.named_buffers()} for one in subjects)
    return [name for name, b in first.items() if name not in second or not torch.equal(b, second[name])]


def path_of(subjects: Sequence[Subject], common: Common, options: PathOptions, watch: Watch) -> Path:
    """Measure along the line.

    Raises:
        CommandError: as `flatness.cli.runner.measured`, or a loss along the line is not finite.
    """
    first, second = (with_times(subject, options.times) for subject in subjects)
    fractions = [index / (options.points - 1) for index in range(options.points)]
    watch.begins(f"{first.label} to {second.label}", (len(fractions) + 2) * len(common.x_0))
    watch.measure("loss along the line")
    begin = time.perf_counter()
    try:
        with placed(first, common, watch.advance) as setting, precision(options.precision, common.device):
            loss = RecordedLoss(first.loss, len(setting.batches), watch.advance)
            result = loss_path(
                setting.model, second.model, loss, setting.batches, fractions, seed=options.seed, progress=False
            )
    except ValueError as error:
        raise CommandError(f"{first.label} to {second.label}: {error}") from error
    finally:
        watch.ends()
    losses = loss.matrix(len(fractions) + 2)
    t = torch.tensor(fractions, dtype=torch.float64)[:, None]
    excess = losses[2:] - ((1.0 - t) * losses[0] + t * losses[1])
    about = (first.about, second.about)
    seconds = round(time.perf_counter() - begin, 3)
    return Path((first.label, second.label), about, result, losses[2:], excess, seconds)


def path_document(path: Path, common: Common, data: Data, options: PathOptions) -> Any:
    """Everything for the JSON file, in its types."""
    points = [
        {"fraction": t, "loss": dataclasses.asdict(level), "excess": dataclasses.asdict(excess),
         "by_sample": by_sample(Part(path.losses[index : index + 1]))}
        for index, (t, level, excess) in enumerate(path.rows())
    ]  # fmt: skip
    own: dict[str, Any] = {
        "settings": dataclasses.asdict(options),
        "ends": dict(zip(path.labels, path.about, strict=True)),
        "points": points,
        "barrier": dataclasses.asdict(path.barrier),
        "result": stored(path.result),
        "seconds": path.seconds,
    }
    return plain(common_entry(common, data) | own)


def path_table(path: Path) -> Table:
    """The loss and the excess at each fraction."""
    from rich.table import Table

    table = Table(title=f"from {path.labels[0]} (0) to {path.labels[1]} (1)", title_justify="left")
    for heading in ("fraction", "loss", "± 95%", "above the line between the ends", "± 95%"):
        table.add_column(heading, justify="right", no_wrap=True)
    for t, level, excess in path.rows():
        cells = (level.value, level.half_width, excess.value, excess.half_width)
        table.add_row(f"{t:.3g}", *(number(value, 2 if index % 2 else 4) for index, value in enumerate(cells)))
    return table


def path_notes(path: Path, common: Common, options: PathOptions) -> list[str]:
    """What a reader of the table has to know, a line each."""
    barrier, at = path.barrier, path.result.barrier_at
    of_barrier = "no barrier: no point lies above the line between both ends' losses"
    if at is not None:
        of_barrier = (
            f"barrier {number(barrier.value)} ± {number(barrier.half_width, 2)} (95%) at {at:.3g} of the way; the "
            "place was sought on the same images, which makes it too large by about its error"
        )
        if not barrier.value > barrier.half_width:
            of_barrier += ": not told from none"
    return [
        of_barrier,
        f"{len(common.x_0)} images, seed {options.seed}, {options.precision} on {common.device}; distance of the "
        f"weights {number(path.result.distance)}. ± is over images (Student).",
    ]


def path_figure(path: Path) -> bytes:
    """The loss along the line, as a PNG file."""
    from flatness.cli.plots import drawn_panels

    def panel(axes: Axes) -> None:
        rows = path.rows()
        x, y = [t for t, _, _ in rows], [level.value for _, level, _ in rows]
        axes.errorbar(x, y, [level.half_width for _, level, _ in rows], fmt="o-", markersize=3, capsize=2)
        axes.plot([x[0], x[-1]], [y[0], y[-1]], color="0.7", linewidth=0.8, zorder=0)
        axes.set_xlabel(f"from {path.labels[0]} (0) to {path.labels[1]} (1)")
        axes.set_ylabel("loss (95%)")

    def above(axes: Axes) -> None:
        rows = path.rows()
        half = [excess.half_width for _, _, excess in rows]
        axes.errorbar([t for t, _, _ in rows], [e.value for _, _, e in rows], half, fmt="o-", markersize=3, capsize=2)
        axes.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
        axes.set_xlabel("fraction of the way")
        axes.set_ylabel("loss above the line between the ends (95%)")

    return drawn_panels([panel, above])
