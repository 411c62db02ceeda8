"""The models that every instrument is held against, and what an instrument should find, by slow loops of their own.

Nothing here imports an instrument. A reference builds the model anew, changes its weights by hand and runs it; what it
shares with the package are the names of the streams of random numbers and the losses.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from flatness.diffusion.losses import Batch, DiffusionLoss, edm_loss, epsilon_loss, fixed_batches, v_loss
from flatness.weights import derived_seed
from tests.flatness import measures_common as common
from tests.flatness.networks import BARS, MLP, Crowded, DiT, Mixed, Narrow, Strided, Viewed, seeded, unet

IMAGES, SEED = 6, 0


@dataclass(frozen=True)
class Subject:
    """A model with its loss.

    Attributes:
        make: a fresh one, as it is written.
        loss: of this package.
        readout: the name of the layer called last.
        returned: whether its output is what the model returns.
        classes: whether the data has labels.
        side: pixels.
        compiled: "", "wrapped" or "in place".
        batch_size: of all batches but the last; three for compiled ones, which are compiled anew for every size.
        low: whether it has parameters in bfloat16, which training refuses.
        variance: of its sampling process.
    """

    make: Callable[[], nn.Module]
    loss: DiffusionLoss
    readout: str = "last"
    returned: bool = True
    classes: bool = False
    side: int = 4
    compiled: str = ""
    batch_size: int = 4
    low: bool = False
    variance: str = "small"

    def plain(self) -> nn.Module:
        """The model, not compiled, with a gradient at every weight that takes one."""
        model: nn.Module = seeded(self.make)
        for p in model.parameters():
            if p.requires_grad:
                p.grad = torch.full_like(p, 0.25)
        return model

    def model(self) -> nn.Module:
        """The model as it is measured, compiled if it is."""
        model = self.plain()
        if self.compiled == "wrapped":
            return torch.compile(model, backend="aot_eager")  # type: ignore[return-value]
        if self.compiled == "in place":
            model.compile(backend="aot_eager")
        return model

    @functools.cached_property
    def x_0(self) -> Tensor:
        """Six images."""
        draw = torch.Generator().manual_seed(1)
        return torch.randn(IMAGES, 1, self.side, self.side, generator=draw).clamp(-1, 1)

    @property
    def labels(self) -> Tensor | None:
        """Theirs, where the model takes any."""
        return torch.arange(IMAGES) % 3 if self.classes else None

    @functools.cached_property
    def batches(self) -> list[Batch]:
        """The samples with their noise and times."""
        return fixed_batches(self.x_0, self.labels, batch_size=self.batch_size)

    def losses(self, change: Change | None = None, eval_mode: bool = True) -> Tensor:
        """The losses (6,) of a model built anew, in float64, with each weight changed.

        Args:
            change: from the weights, each once, to what is added to each; None changes nothing.
            eval_mode: False leaves it in training mode, with the random numbers that the measures give it.
        """
        return self.losses_of(changed(self.plain(), change).train(not eval_mode))

    def losses_of(self, model: nn.Module) -> Tensor:
        """The losses (6,) of a model as it is, in float64."""
        losses = []
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            for index, batch in enumerate(self.batches):
                torch.manual_seed(derived_seed("loss", SEED, index))
                losses.append(self.loss(model, batch).double())
        return torch.cat(losses)

    def gradient(self, model: nn.Module, double: bool = False) -> list[Tensor]:
        """Of the mean loss over all samples, by `backward`, of every weight, frozen ones too."""
        for p in model.parameters():
            p.requires_grad_(True)
            p.grad = None
        x_0 = self.x_0.double() if double else self.x_0
        for batch in fixed_batches(x_0, self.labels, batch_size=4):
            (self.loss(model.eval(), batch).sum() / IMAGES).backward()
        return [total_gradient(model, w) for w in weights_of(model)]

    def hessian_times(self, vector: Sequence[Tensor], h: float = 1e-5) -> list[Tensor]:
        """The mean loss's Hessian times a vector, in float64: the gradient's difference between w + h v and w - h v."""
        ends = []
        for step in (h, -h):
            model = changed(self.plain().double(), lambda weights, step=step: [step * v for v in vector])  # type: ignore[misc]
            ends.append(self.gradient(model, double=True))
        return [(a - b) / (2 * h) for a, b in zip(*ends, strict=True)]


Change = Callable[[Sequence[Tensor]], Sequence[Tensor]]

DIT = Subject(DiT, epsilon_loss(BARS, labels="y"), "final", False, classes=True, variance="learned")
SUBJECTS: dict[str, Subject] = {
    "mlp": Subject(MLP, epsilon_loss(BARS)),
    "crowded": Subject(Crowded, v_loss(BARS)),
    "strided": Subject(Strided, epsilon_loss(BARS)),
    "viewed": Subject(Viewed, epsilon_loss(BARS)),
    "narrow": Subject(Narrow, edm_loss(), low=True),
    "mixed": Subject(Mixed, epsilon_loss(BARS), low=True),
    "dit": DIT,
    "unet": Subject(unet, epsilon_loss(BARS), "conv_out", side=8),
    "unet, classes": Subject(
        functools.partial(unet, 3), epsilon_loss(BARS, labels="class_labels"), "conv_out", classes=True, side=8
    ),
    "compiled mlp": Subject(MLP, epsilon_loss(BARS), compiled="wrapped", batch_size=3),
    "compiled dit": replace(DIT, compiled="in place", batch_size=3),
}


@dataclass(frozen=True)
class At:
    """A subject, its model as it is measured, and its losses (6,)."""

    subject: Subject
    model: nn.Module
    unmoved: Tensor

    @classmethod
    def of(cls, name: str) -> At:
        """By name."""
        subject = SUBJECTS[name]
        return cls(subject, subject.model(), subject.losses())

    def rise(self, change: Change, eval_mode: bool = True, sign: float = 1.0) -> float:
        """The reference's, with the weights changed, or with the opposite of that."""
        unmoved = self.unmoved if eval_mode else self.subject.losses(eval_mode=False)
        there = self.subject.losses(lambda weights: [sign * move for move in change(weights)], eval_mode)
        return float((there - unmoved).mean())


@contextmanager
def left_alone(at: At) -> Iterator[None]:
    """The model is after the block as it was, bit for bit."""
    before = state_of(at.model)
    yield
    assert common.same(before, state_of(at.model))


def weights_of(model: nn.Module) -> list[Tensor]:
    """Each place in memory once, in the order of the names."""
    by_memory: dict[int, Tensor] = {}
    for p in model.parameters():
        by_memory.setdefault(p.data_ptr(), p)
    return list(by_memory.values())


def total_gradient(model: nn.Module, weight: Tensor) -> Tensor:
    """Of a weight, of which another parameter may be the transposed view."""
    total = torch.zeros_like(weight)
    for p in model.parameters():
        if p.data_ptr() == weight.data_ptr() and p.grad is not None:
            total += p.grad if p.stride() == weight.stride() else p.grad.t()
    return total


@torch.no_grad()
def changed(model: nn.Module, change: Change | None) -> nn.Module:
    """The model with what the change says added to its weights, in float64, rounded once."""
    weights = weights_of(model)
    moves = [] if change is None else change([w.detach().clone() for w in weights])
    for w, move in zip(weights, moves, strict=change is not None):
        w.copy_((w.double() + move.double()).to(w.dtype))
    return model


def noise(weights: Sequence[Tensor], seed: int, scale: str = "absolute") -> list[Tensor]:
    """Normal numbers, in the unit of the scale, in float64."""
    draw = torch.Generator().manual_seed(derived_seed("noise", seed))
    parts = []
    for w in weights:
        z = torch.randn(w.shape, generator=draw).double()
        rows = w.double().flatten(1) if scale == "filter" and w.dim() > 1 else w.double().reshape(1, -1)
        unit = rows.square().mean(1).sqrt().view(-1, *[1] * (w.dim() - 1))
        parts.append(z if scale == "absolute" else z * unit)
    return parts


def norm(tensors: Sequence[Tensor]) -> float:
    """Over all together, in float64."""
    return float(torch.cat([t.double().flatten() for t in tensors]).norm())


def tolerance(loss: float, rise: float) -> float:
    """Of a rise: float32 losses err by some 1e-7 of themselves; noise rounded to float32 by that share of the rise."""
    return 1e-6 * abs(loss) + 1e-4 * abs(rise)


def check_rise(rise: float, unmoved: Tensor, expected: float, mirrored: float) -> None:
    """A rise is what it should be, and not zero or that of the weights moved the other way."""
    limit = tolerance(float(unmoved.mean()), expected)
    assert abs(rise - expected) <= limit, (rise, expected)
    assert abs(expected) > 5 * limit  # doing nothing would be noticed
    assert abs(expected - mirrored) > 5 * limit  # and the other direction


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything that a measure must leave as it is, bit for bit, buffers' strides too."""
    buffers = [(name, b.stride()) for name, b in model.named_buffers()]
    return common.state_of(model) | {"strides of buffers": buffers}
