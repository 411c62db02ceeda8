"""Models, losses and checks that the tests of the measures share."""

from __future__ import annotations

import io
import json
import random
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flatness import weights
from flatness.diffusion.losses import Batch
from flatness.measuring import base
from flatness.measuring.base import Estimate, Measurement

Measure = Callable[..., Measurement]
LABELS = torch.zeros(5, dtype=torch.int64)
STANDARD_ERRORS = 5.0
"""How many standard errors a mean may be off: passed by a right implementation in all but 6 of 10^7 seeds."""


def within_standard_errors(estimate: Estimate, expected: float) -> bool:
    """Whether the estimate agrees with what it should be in the mean over draws, the data being fixed."""
    return abs(estimate.value - expected) <= STANDARD_ERRORS * estimate.draw_standard_error


class Quadratic(nn.Module):
    """Three tensors of 12 weights in all, among them a bias-like vector and one stored transposed."""

    def __init__(self, seed: int = 0) -> None:
        """Weights drawn from the seed, in float64."""
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(torch.randn(2, 3, generator=draw, dtype=torch.float64))
        self.second = nn.Parameter(torch.randn(2, 2, generator=draw, dtype=torch.float64).t())
        self.third = nn.Parameter(torch.randn(2, generator=draw, dtype=torch.float64))

    def forward(self) -> Tensor:
        """All weights (12,)."""
        return torch.cat([self.first.flatten(), self.second.flatten(), self.third])


def symmetric(seed: int = 1, definite: bool = False) -> Tensor:
    """A symmetric 12 x 12 matrix with eigenvalues of both signs, or of one."""
    root = torch.randn(12, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.T / 12 if definite else (root + root.T) / 2


def quadratic_loss(hessian: Tensor) -> Callable[[nn.Module, Tensor], Tensor]:
    """(w - c)^T H (w - c) / 2 for each centre c of a batch (n, 12)."""

    def loss(model: nn.Module, centres: Tensor) -> Tensor:
        off = model() - centres
        return 0.5 * ((off @ hessian) * off).sum(1)

    return loss


def centres_around(model: nn.Module, spread: float = 0.3, sizes: tuple[int, ...] = (4, 3)) -> list[Tensor]:
    """Batches of centres whose overall mean is the weights, so that the mean loss has its stationary point there."""
    draw = torch.randn(sum(sizes), 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return list((model().detach() + spread * (draw - draw.mean(0))).split(sizes))


class Crowded(nn.Module):
    """Everything that a measure could disturb: batch norm, dropout, shared and frozen weights, bfloat16, buffers."""

    def __init__(self) -> None:
        """A model with mixed modes and gradients already there."""
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.drop = nn.Dropout(0.5)
        self.shared = nn.Linear(3, 3, bias=False)
        self.shared.weight = self.inner.weight
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.narrow = nn.Parameter(torch.randn(3).bfloat16())
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("cache", None)
        self.last = nn.Linear(3, 2)
        self.last.weight.data = torch.randn(3, 2).t()
        nn.init.constant_(self.norm.bias, 0.1)
        self.norm.train()
        self.frozen.eval()
        for parameter in self.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.randn_like(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (n, 2)."""
        self.calls.add_(1)
        self.cache = torch.ones(2)
        self.register_buffer("late", torch.ones(3))
        hidden = self.shared(self.drop(self.norm(self.inner(x)))).tanh() + self.narrow.float()
        return self.last(self.frozen(hidden)) + 0.01 * self.calls


def crowded_batches() -> list[Tensor]:
    """Two batches of inputs (n, 3)."""
    return list(torch.randn(9, 3, generator=torch.Generator().manual_seed(3)).split((5, 4)))


def noisy_loss(model: nn.Module, x: Tensor) -> Tensor:
    """Squared error (n,) against noise from each of the three global generators."""
    target = torch.randn(len(x), 2) + float(np.random.rand()) + random.random()  # noqa: NPY002
    return (model(x) - target).square().mean(1)


def bits(tensor: Tensor) -> Tensor:
    """The tensor's bits as integers, so that -0 and 0 differ and NaN equals itself."""
    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.detach().contiguous().view(kinds[tensor.dtype.itemsize]) if tensor.is_floating_point() else tensor


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything that a measure must leave as it is."""
    numpy_state: Any = np.random.get_state()  # noqa: NPY002
    return {
        "weights": [(id(p), bits(p).clone(), p.stride(), p.requires_grad) for p in model.parameters()],
        "gradients": [(id(p.grad), None if p.grad is None else bits(p.grad).clone()) for p in model.parameters()],
        "buffers": [
            (name, id(b), None if b is None else bits(b).clone())
            for module in model.modules()
            for name, b in module._buffers.items()
        ],
        "modes": [module.training for module in model.modules()],
        "random": [torch.get_rng_state(), torch.from_numpy(numpy_state[1].astype(np.int64)), random.getstate()],
    }


def same(left: Any, right: Any) -> bool:
    """Equality that looks into tensors."""
    if isinstance(left, Tensor):
        return isinstance(right, Tensor) and torch.equal(left, right)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


def check_leaves_everything(measure: Measure, calls: int = 4) -> None:
    """A measure leaves the model and all generators as they were: when it succeeds and wherever the loss fails.

    Calls is how often the measure calls the loss on the two batches, at least.
    """
    for eval_mode in (True, False):
        model = Crowded()
        before = state_of(model)
        measure(model, noisy_loss, crowded_batches(), eval_mode=eval_mode)
        assert same(before, state_of(model))
    for error in ("raise", "nan", "none"):
        for last_good_call in range(calls):
            model = Crowded()
            before = state_of(model)
            with pytest.raises((ValueError, ArithmeticError)):
                measure(model, Failing(error, last_good_call), crowded_batches())
            assert same(before, state_of(model)), (error, last_good_call)


class Failing:
    """A loss that fails in the middle, after it has drawn random numbers and touched the gradients' graph."""

    def __init__(self, how: str, last_good_call: int) -> None:
        """Fail in the way named after so many good calls."""
        self.how = how
        self.left = last_good_call

    def __call__(self, model: nn.Module, x: Tensor) -> Any:
        """The noisy loss, or the failure."""
        values = noisy_loss(model, x)
        self.left -= 1
        if self.left >= 0:
            return values
        if self.how == "raise":
            raise ArithmeticError("the loss has failed")
        return values * float("nan") if self.how == "nan" else None


def check_refuses(measure: Measure) -> None:
    """What is wrong with a model, a loss or the data is said in a ValueError that names it; weights stay."""
    model = Crowded()
    before = state_of(model)
    data = crowded_batches()
    cases: list[tuple[str, Callable[[], object]]] = [
        ("loss is 3", lambda: measure(model, 3, data)),
        ("loss returned for batch 0 is None", lambda: measure(model, lambda m, x: None, data)),
        ("loss returned for batch 0 is a tensor of shape", lambda: measure(model, lambda m, x: m(x), data)),
        ("loss returned for batch 0 is a tensor", lambda: measure(model, lambda m, x: torch.ones(2).int(), data)),
        ("loss returned for batch 0 is a tensor", lambda: measure(model, lambda m, x: torch.ones(0), data)),
        ("loss is nan for sample 0", lambda: measure(model, lambda m, x: m(x).mean(1) * float("nan"), data)),
        ("loss is inf for sample 0", lambda: measure(model, lambda m, x: m(x).mean(1).abs() / 0, data)),
        ("batches is empty", lambda: measure(model, noisy_loss, [])),
        ("batches is a tensor", lambda: measure(model, noisy_loss, data[0])),
        (
            r"batches is a tuple of torch.float32 \(5, 3\), .*allowed: a list of batches: \[\(x, y\)\]",
            lambda: measure(model, noisy_loss, tuple(data)),
        ),
        ("batches is a Batch of .*, NoneType, ", lambda: measure(model, noisy_loss, Batch(data[0]))),
        ("batches is a list of torch.float32 .*, torch.int64", lambda: measure(model, noisy_loss, [data[0], LABELS])),
        ("batches is a list of torch.float32 .*, dict", lambda: measure(model, noisy_loss, [data[0], {"y": LABELS}])),
        ("batches is 3", lambda: measure(model, noisy_loss, 3)),
        ("without parameters", lambda: measure(nn.ReLU(), noisy_loss, data)),
        ("model is", lambda: measure(noisy_loss, noisy_loss, data)),
        ("seed is -1", lambda: measure(model, noisy_loss, data, seed=-1)),
        ("what loss returned", lambda: measure(model, lambda net, x: noisy_loss(net, x).to_sparse(), data)),
        ("what loss returned", lambda: measure(model, lambda net, x: noisy_loss(net, x).to("meta"), data)),
        ("eval_mode is 1", lambda: measure(model, noisy_loss, data, eval_mode=1)),
        ("progress is 'yes'", lambda: measure(model, noisy_loss, data, progress="yes")),
    ]
    for message, call in cases:
        with pytest.raises(ValueError, match=message):
            call()
        assert same(before, state_of(model)), message


def check_refuses_parameters(measure: Measure) -> None:
    """The choice of parameters is checked; weights stay."""
    model = Crowded()
    before = state_of(model)
    for parameters, message in (
        (["nowhere"], "nowhere"),
        ("all", "parameters is 'all'"),
        ([], "no parameter"),
        (3, "3"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(model, noisy_loss, crowded_batches(), parameters=parameters)
    model.register_parameter("turned", nn.Parameter(torch.ones(2, dtype=torch.complex64)))
    with pytest.raises(ValueError, match="turned"):
        measure(model, noisy_loss, crowded_batches())
    del model.turned
    assert same(before, state_of(model))


def check_result(measure: Measure) -> None:
    """The result is a function of its arguments, says what it was computed with, and can be written as JSON."""
    results = [measure(Crowded(), noisy_loss, batches) for batches in (crowded_batches(), iter(crowded_batches()))]
    first, second = (json.dumps(result.to_dict(), allow_nan=False) for result in results)
    assert first == second
    settings = results[0].settings
    assert settings["samples"] == 9
    assert settings["batches"] == 2
    assert settings["seed"] == 0
    assert settings["eval_mode"] is True
    assert settings["devices"] == ["cpu"]
    assert settings["weights"] > 0
    assert settings["parameters"]
    assert settings["dtypes"]
    with pytest.raises(AttributeError):
        results[0].loss = results[0].loss  # type: ignore[misc]
    label = check_progress(measure)
    # Both name the measure; the code's names and the words on the terminal differ in hyphens and spelling
    assert label[:5].replace("-", "_").replace(" ", "_") == settings["measure"][: len(label[:5])]


def check_progress(measure: Measure) -> str:
    """Steps are counted upwards from 1 to a total that stays; a line says the same, where there are two or more.

    Returns:
        What that line begins with, "" where there is none.
    """
    steps: list[tuple[int, int]] = []
    measure(Crowded(), noisy_loss, crowded_batches(), progress=lambda *step: steps.append(step))
    done = [step for step, _ in steps]
    (total,) = {total for _, total in steps}
    assert done == sorted(done)
    assert (done[0] >= 1, done[-1]) == (True, total)
    written = io.StringIO()
    with redirect_stderr(written):
        measure(Crowded(), noisy_loss, crowded_batches(), progress=True)
    assert written.getvalue().endswith(f": {total}/{total}, 0:00:00 left\n" if total > 1 else "")
    assert bool(written.getvalue()) == (total > 1)
    return written.getvalue().lstrip("\r").split(":")[0]


@contextmanager
def patched(where: object, name: str, value: object) -> Iterator[None]:
    """A part of the implementation replaced inside the block."""
    with mock.patch.object(where, name, value):
        yield


def forgetful_weights() -> Any:
    """Mutant: weights are not put back."""
    return patched(weights.SavedWeights, "put_back", lambda self: None)


def forgetful_buffers() -> Any:
    """Mutant: buffers are not put back."""
    return patched(base.SavedBuffers, "put_back", lambda self: None)


def forgetful_generators() -> Any:
    """Mutant: the global generators are not put back."""
    return patched(base, "preserved_generators", lambda devices: nullcontext())


def forgetful_modes() -> Any:
    """Mutant: submodules stay in evaluation mode."""
    original = base.undisturbed

    @contextmanager
    def mutant(model: nn.Module, eval_mode: bool) -> Iterator[Any]:
        with original(model, eval_mode) as buffers:
            yield buffers
        model.eval()

    return patched(base, "undisturbed", mutant)


def still_weights() -> Any:
    """Mutant: weights are not moved."""
    return patched(weights, "moved_tensor", lambda saved, along, scale: saved)


def backward_weights() -> Any:
    """Mutant: weights are moved the other way."""
    return patched(weights, "moved_tensor", lambda saved, along, scale: saved - scale * along)


def far_weights() -> Any:
    """Mutant: weights are moved half as far again."""
    return patched(weights, "moved_tensor", lambda saved, along, scale: saved + 1.5 * scale * along)


def negative_rises() -> Any:
    """Mutant: the loss less the perturbed loss."""
    add = base.PairedRises.add
    return patched(base.PairedRises, "add", lambda self, losses: add(self, 2 * self.unmoved - losses))


def check_kills_common_mutants(measure: Measure, moves: bool = True, calls: int = 4) -> None:
    """The first check fails for implementations that do not put back what they change."""
    mutants = [forgetful_buffers(), forgetful_generators()]
    mutants += [forgetful_weights(), forgetful_modes()] if moves else []
    for mutant in mutants:
        with mutant, pytest.raises(AssertionError):
            check_leaves_everything(measure, calls)


class LiveBytes(TorchDispatchMode):
    """The most bytes held at once by tensors made inside the block."""

    def __init__(self, model: nn.Module | None = None) -> None:
        """The model's own weights do not count."""
        super().__init__()
        weights = () if model is None else model.parameters()
        self.known = {p.untyped_storage()._cdata for p in weights}
        self.held = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note what was made."""
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            storage = tensor.untyped_storage() if isinstance(tensor, Tensor) else None
            if storage is not None and storage._cdata not in self.known and func.namespace == "aten":
                self.known.add(storage._cdata)
                self.held += storage.nbytes()
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        self.most = max(self.most, self.held)
        return result

    def _freed(self, place: int, size: int) -> None:
        self.known.discard(place)
        self.held -= size
