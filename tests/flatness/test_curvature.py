"""Top eigenvalue and trace against Hessians known in closed form or computed whole, by both engines, and mutants."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from importlib import import_module, util
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from flatness.measuring.curvature import curvature
from tests.flatness import measures_common as common
from tests.flatness.measures_common import Quadratic, centres_around, quadratic_loss, symmetric

implementation = import_module("flatness.measuring.curvature")  # the package may export the function by this name
products = import_module("flatness.measuring.derivatives")
needs_curvlinops = pytest.mark.skipif(util.find_spec("curvlinops") is None, reason="curvlinops is not installed")
ENGINES = ["torch", pytest.param("curvlinops", marks=needs_curvlinops)]


def small(model: Any, loss: Any, batches: Any, **own: Any) -> Any:
    return curvature(model, loss, batches, **{"probes": 2, "max_steps": 2, **own})


def check_quadratic(engine: str = "torch") -> None:
    """The largest eigenvalue, not the largest magnitude; the trace within standard errors, exact if H is diagonal."""
    model = Quadratic()
    batches = centres_around(model)
    for shift in (0.0, -3.0):  # with the shift, the eigenvalue of largest magnitude is negative
        hessian = symmetric() + shift * torch.eye(12, dtype=torch.float64)
        result = curvature(model, quadratic_loss(hessian), batches, tolerance=1e-9, probes=100, engine=engine)
        eigenvalues = torch.linalg.eigvalsh(hessian)
        assert result.converged
        assert result.residual <= 1e-9 * abs(result.top_eigenvalue)
        # the error of a Ritz value is at most its residual
        assert abs(result.top_eigenvalue - float(eigenvalues[-1])) <= result.residual + 1e-13
        assert result.lanczos_steps <= 12
        assert common.within_standard_errors(result.trace, float(hessian.trace()))
        # the variance of one probe with random signs is twice the squared off-diagonal entries
        spread = math.sqrt(2 * float((hessian - torch.diag(hessian.diag())).square().sum()) / 100)
        assert result.trace.draw_standard_error == pytest.approx(spread, rel=0.3)
    diagonal = torch.linspace(-1.0, 2.0, 12, dtype=torch.float64)
    result = curvature(model, quadratic_loss(torch.diag(diagonal)), batches, probes=3, engine=engine)
    assert result.trace.value == pytest.approx(6.0, abs=1e-12)  # sums of 12 numbers below 2, in float64
    assert result.trace.draw_standard_error == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(result.trace.data_standard_error)


def check_network() -> None:
    """A network as diffusion models have them, with random numbers in its loss, against its whole Hessian."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(), nn.Dropout(0.5), nn.Conv1d(4, 1, 3)
    ).double()
    batches = list(torch.randn(5, 2, 6, dtype=torch.float64).split((3, 2)))
    noise = []

    def loss(net: nn.Module, x: Tensor) -> Tensor:
        drawn = torch.randn(len(x), 1, 2, dtype=torch.float64)
        noise.append(drawn)
        return (net(x) - drawn).square().mean((1, 2))

    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]
    result = curvature(model, loss, batches, tolerance=1e-8, probes=400)
    model.eval()

    def total(flat: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in shapes])
        weights = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        losses = [
            (functional_call(model, weights, (x,)) - target).square().mean((1, 2))
            for x, target in zip(batches, noise, strict=False)
        ]
        return torch.cat(losses).mean()

    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    hessian = torch.autograd.functional.hessian(total, flat)
    assert isinstance(hessian, Tensor)
    assert result.top_eigenvalue == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-7)
    assert common.within_standard_errors(result.trace, float(hessian.trace()))
    assert result.trace.draw_standard_error < float(hessian.trace()) / 5


def wrong_product(change: Callable[[list[Tensor], list[Tensor]], list[Tensor]]) -> Any:
    """Mutant: products altered."""
    original = products.torch_product

    def make(weights: Any, losses: Any) -> Any:
        product = original(weights, losses)
        return lambda vector: change(vector, product(vector))

    return common.patched(products, "torch_product", make)


MUTANTS = {
    "does nothing": lambda: wrong_product(lambda v, image: [torch.zeros_like(part) for part in image]),
    "the identity": lambda: wrong_product(lambda v, image: [part.clone() for part in v]),
    "wrong sign": lambda: wrong_product(lambda v, image: [-part for part in image]),
    "sum over samples": lambda: wrong_product(lambda v, image: [7 * part for part in image]),
    "one block only": lambda: wrong_product(lambda v, image: [image[0], *map(torch.zeros_like, image[1:])]),
    "one probe for all": lambda: common.patched(products, "derived_seed", lambda *parts: 0),
    "stops after a step": lambda: common.patched(
        implementation, "_largest", lambda product, start, steps, tolerance, report: (1.0, 0.0, 1)
    ),
}


@pytest.mark.parametrize("engine", ENGINES)
def test_quadratic(engine: str) -> None:
    check_quadratic(engine)


def test_network() -> None:
    check_network()


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_fail(mutant: str) -> None:
    with MUTANTS[mutant](), pytest.raises(AssertionError):
        check_quadratic()


@needs_curvlinops
def test_engines_agree_on_a_network() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 2)).double()
    batches = [batch.double() for batch in common.crowded_batches()]
    names = ["0.weight", "3.bias"]
    results = [
        curvature(model, common.noisy_loss, batches, engine=engine, probes=3, parameters=names, tolerance=1e-9)
        for engine in ("torch", "curvlinops")
    ]
    # the same sums in another order, in float64
    assert results[0].trace.value == pytest.approx(results[1].trace.value, rel=1e-12)
    assert results[0].top_eigenvalue == pytest.approx(results[1].top_eigenvalue, rel=1e-12)


def test_frozen_and_shared_weights_and_attention_have_curvature() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 12).double().requires_grad_(False)

    def attention(net: nn.Module, x: Tensor) -> Tensor:
        q, k, v = net(x).unsqueeze(1).chunk(3, -1)
        return nn.functional.scaled_dot_product_attention(q, k, v).square().mean((1, 2, 3))

    batches = [torch.randn(2, 5, 4, dtype=torch.float64)]
    result = curvature(layer, attention, batches, probes=2)
    assert result.converged
    assert result.top_eigenvalue > 0
    assert not layer.weight.requires_grad


def test_a_loss_without_curvature_has_none() -> None:
    for loss in (lambda m, b: m().sum(), lambda m, b: torch.ones(3), lambda m, b: m().detach().square().sum()):
        result = curvature(Quadratic(), loss, [None], probes=2)
        assert result.top_eigenvalue == result.residual == result.trace.value == 0.0
        assert result.converged


def test_buffers_are_the_same_for_every_product() -> None:
    own: Any = {"loss": common.noisy_loss, "batches": common.crowded_batches()}
    assert small(common.Crowded(), **own, probes=0).top_eigenvalue == small(common.Crowded(), **own).top_eigenvalue


def test_stops_once_the_tolerance_is_met() -> None:
    model = Quadratic()
    loss, batches = quadratic_loss(symmetric(definite=True)), centres_around(model)
    loose, tight = (curvature(model, loss, batches, probes=0, tolerance=tolerance) for tolerance in (0.1, 1e-6))
    assert loose.lanczos_steps < tight.lanczos_steps
    assert 1e-6 * tight.top_eigenvalue < loose.residual <= 0.1 * loose.top_eigenvalue


def test_either_half_can_be_skipped() -> None:
    model = Quadratic()
    loss = quadratic_loss(symmetric())
    no_trace = curvature(model, loss, centres_around(model), probes=0)
    assert math.isnan(no_trace.trace.value)
    assert no_trace.converged
    no_top = curvature(model, loss, centres_around(model), probes=2, max_steps=0)
    assert math.isnan(no_top.top_eigenvalue)
    assert not no_top.converged
    early = curvature(model, loss, centres_around(model), probes=0, max_steps=2, tolerance=1e-9)
    assert not early.converged
    eigenvalues = torch.linalg.eigvalsh(symmetric())
    assert float((eigenvalues - early.top_eigenvalue).abs().min()) <= early.residual


def ritz(hessian: Tensor, start: Tensor, steps: int) -> tuple[float, float]:
    """The largest Ritz value of a Krylov space and |H x - theta x| of its vector x, from the space written out."""
    columns = [start]
    for _ in range(steps - 1):
        columns.append(hessian @ columns[-1])
        columns[-1] = columns[-1] / columns[-1].norm()
    basis = torch.linalg.qr(torch.stack(columns, 1)).Q
    values, vectors = torch.linalg.eigh(basis.T @ hessian @ basis)
    x = basis @ vectors[:, -1]
    return float(values[-1]), float((hessian @ x - values[-1] * x).norm())


def lanczos(hessian: Tensor, start: Tensor, steps: int, tolerance: float) -> tuple[float, float, int]:
    return implementation._largest(
        lambda vector: [hessian @ vector[0]], [start], steps, tolerance, lambda step: None
    )  # fmt: skip


def check_lanczos() -> None:
    """Value, residual and number of steps, step by step, against the Krylov space itself."""
    hessian = symmetric()
    start = torch.randn(12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    shares = {}
    for steps in range(1, 8):
        top, residual, made = lanczos(hessian, start, steps, 1e-12)
        assert made == steps
        expected, rest = ritz(hessian, start, steps)
        # Powers of H grow alike, which costs the written space up to seven of sixteen digits at seven steps
        assert top == pytest.approx(expected, rel=1e-8)
        assert residual == pytest.approx(rest, rel=1e-6)
        shares[steps] = rest / abs(expected)
    # It stops at the first step whose residual is within the tolerance: just within, and not
    first = [k for k in range(2, 8) if shares[k] < min(shares[early] for early in range(1, k))]
    assert len(first) >= 2
    for steps in first:
        assert lanczos(hessian, start, 12, 1.001 * shares[steps])[2] == steps
        assert lanczos(hessian, start, 12, 0.999 * shares[steps])[2] > steps
    # In a space that H maps to itself it has all after as many steps as that has dimensions
    invariant = torch.linalg.eigh(hessian).eigenvectors[:, [2, 7, 9]].sum(1)
    top, residual, made = lanczos(hessian, invariant, 12, 1e-300)
    assert made == 3
    assert top == pytest.approx(float(torch.linalg.eigvalsh(hessian)[9]), rel=1e-12)
    assert residual < 1e-12


def changed_lanczos(change: Callable[[float, float, int], tuple[float, float, int]]) -> Any:
    """Mutant: other results of the recurrence."""
    right = implementation._largest
    return common.patched(implementation, "_largest", lambda *given: change(*right(*given)))


LANCZOS_MUTANTS: dict[str, Callable[[], Any]] = {
    "a residual twice as large": lambda: changed_lanczos(lambda top, residual, steps: (top, 2 * residual, steps)),
    "no residual": lambda: changed_lanczos(lambda top, residual, steps: (top, 0.0, steps)),
    "a step too many": lambda: changed_lanczos(lambda top, residual, steps: (top, residual, steps + 1)),
    "a matrix of its diagonal": lambda: common.patched(
        implementation, "tridiagonal", lambda diagonal, beside: torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    ),
    "never there": lambda: common.patched(
        implementation, "_largest",
        functools.partial(lambda right, *given: right(*given[:3], 0.0, given[4]), implementation._largest),
    ),
}  # fmt: skip


def test_lanczos_step_by_step() -> None:
    check_lanczos()


@pytest.mark.parametrize("mutant", LANCZOS_MUTANTS)
def test_mutants_of_lanczos_fail(mutant: str) -> None:
    with LANCZOS_MUTANTS[mutant](), pytest.raises(AssertionError):
        check_lanczos()


@pytest.mark.parametrize("engine", ENGINES)
def test_leaves_everything_as_it_was_and_the_check_sees_when_not(engine: str) -> None:
    def measure(*positional: Any, **own: Any) -> Any:
        return small(*positional, engine=engine, **own)

    if engine == "torch":
        common.check_leaves_everything(measure)
        common.check_kills_common_mutants(measure, moves=False)
    else:  # its transforms refuse batch normalisation's and the buffers' writes, so in evaluation mode and bare
        model = Quadratic()
        before = common.state_of(model)
        measure(model, quadratic_loss(symmetric()), centres_around(model))
        assert common.same(before, common.state_of(model))


def test_refuses_what_it_cannot_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    common.check_refuses(small)
    common.check_refuses_parameters(small)
    for wrong, message in (
        ({"probes": -1}, "probes is -1"),
        ({"max_steps": -1}, "max_steps is -1"),
        ({"tolerance": 0.0}, "tolerance is 0.0"),
        ({"engine": "jax"}, "engine is 'jax'"),
    ):
        with pytest.raises(ValueError, match=message):
            small(common.Crowded(), common.noisy_loss, common.crowded_batches(), **wrong)
    zero = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(zero.weight)
    with pytest.raises(ValueError, match="Hessian-vector product of loss is not finite"):
        small(zero, lambda m, x: m(x).abs().sqrt().sum(), [torch.zeros(1, 1)])
    monkeypatch.setitem(sys.modules, "curvlinops", None)
    with pytest.raises(ImportError, match=r"pip install flatness\[curvature\]"):
        small(Quadratic(), quadratic_loss(symmetric()), centres_around(Quadratic()), engine="curvlinops")


def test_result_is_reproducible_and_complete() -> None:
    common.check_result(small)
    settings = small(common.Crowded(), common.noisy_loss, common.crowded_batches()).settings
    assert settings["probes"] == 2
    assert settings["engine"] == "torch"
