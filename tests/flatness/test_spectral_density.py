"""Stochastic Lanczos quadrature against spectra known exactly, by both engines, and mutants."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from importlib import import_module, util
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flatness.measuring.curvature import curvature
from flatness.measuring.spectral_density import spectral_density
from tests.flatness import measures_common as common
from tests.flatness.measures_common import Quadratic, centres_around, quadratic_loss, symmetric

implementation = import_module("flatness.measuring.spectral_density")
products = import_module("flatness.measuring.derivatives")
needs_curvlinops = pytest.mark.skipif(util.find_spec("curvlinops") is None, reason="curvlinops is not installed")
ENGINES = ["torch", pytest.param("curvlinops", marks=needs_curvlinops)]
VALUES = torch.tensor([-2.0, -0.5, *[0.0] * 6, 1.0, 1.0, 3.0, 8.0], dtype=torch.float64)
"""Eigenvalues of both signs, repeated ones among them: seven different ones, which seven steps find all."""


def small(model: Any, loss: Any, batches: Any, **own: Any) -> Any:
    return spectral_density(model, loss, batches, **{"probes": 2, "steps": 2, **own})


def bumps(values: Tensor, at: float, width: float) -> float:
    """The exact density with bumps of a width."""
    return float(torch.exp(-0.5 * ((at - values) / width).square()).mean()) / (width * math.sqrt(2 * math.pi))


def check_diagonal(engine: str = "torch") -> None:
    """Of a diagonal Hessian every probe of signs gives each eigenvalue with its exact share."""
    model = Quadratic()
    loss, batches = quadratic_loss(torch.diag(VALUES)), centres_around(model)
    result = spectral_density(model, loss, batches, probes=3, steps=20, engine=engine)
    different = VALUES.unique()
    for nodes, weights in zip(result.nodes, result.weights, strict=True):
        heavy = [(node, weight) for node, weight in zip(nodes, weights, strict=True) if weight > 1e-9]
        assert [node for node, _ in heavy] == pytest.approx(different.tolist(), abs=1e-9)
        shares = [float((value == VALUES).double().mean()) for value in different]
        assert [weight for _, weight in heavy] == pytest.approx(shares, abs=1e-9)
        assert math.fsum(weights) == pytest.approx(1.0, abs=1e-12)
    assert (result.smallest, result.largest) == pytest.approx((-2.0, 8.0), abs=1e-9)
    assert result.dimension == 12
    for estimate, expected in (
        (result.trace, VALUES.sum()), (result.negative, -2.5), (result.squares, VALUES.square().sum()),
    ):  # fmt: skip
        assert estimate.value == pytest.approx(float(expected), abs=1e-8)
        assert estimate.draw_standard_error == pytest.approx(0.0, abs=1e-8)
        assert math.isnan(estimate.data_standard_error)
    for at, density in zip((-2.0, 0.0, 5.0), result.density((-2.0, 0.0, 5.0), width=0.5), strict=True):
        assert density.value == pytest.approx(bumps(VALUES, at, 0.5), abs=1e-8)


def check_rotated(engine: str = "torch", probes: int = 40) -> None:
    """Of any Hessian the mean over probes agrees with the spectrum within standard errors, which are not zero."""
    model, hessian = Quadratic(), symmetric()
    values = torch.linalg.eigvalsh(hessian)
    loss, batches = quadratic_loss(hessian), centres_around(model)
    result = spectral_density(model, loss, batches, probes=probes, steps=12, engine=engine)
    places = (float(values[0]), 0.0, float(values[-1]))
    for at, density in zip(places, result.density(places, width=0.3), strict=True):
        assert common.within_standard_errors(density, bumps(values, at, 0.3))
        assert 0 < density.draw_standard_error < 0.6 * density.value
    assert common.within_standard_errors(result.squares, float(values.square().sum()))
    assert common.within_standard_errors(result.negative, float(values.clamp(max=0).sum()))
    # Hutchinson's estimate with the same probes, in another order of sums
    same = curvature(model, loss, batches, probes=probes, max_steps=0, engine=engine)
    assert result.trace.value == pytest.approx(same.trace.value, abs=1e-9)
    assert result.trace.draw_standard_error == pytest.approx(same.trace.draw_standard_error, abs=1e-9)


def wrong_product(change: Callable[[list[Tensor]], list[Tensor]]) -> Any:
    """Mutant: products altered."""
    original = products.torch_product

    def make(weights: Any, losses: Any) -> Any:
        product = original(weights, losses)
        return lambda vector: change(product(vector))

    return common.patched(products, "torch_product", make)


MUTANTS = {
    "does nothing": lambda: wrong_product(lambda image: [torch.zeros_like(part) for part in image]),
    "wrong sign": lambda: wrong_product(lambda image: [-part for part in image]),
    "sum over samples": lambda: wrong_product(lambda image: [7 * part for part in image]),
    "one step": lambda: common.patched(
        implementation, "lanczos_steps", lambda product, start, most: products.lanczos_steps(product, start, 1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
def test_exact_spectra(engine: str) -> None:
    check_diagonal(engine)
    check_rotated(engine, probes=40 if engine == "torch" else 8)  # whose products take ten times as long


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_fail(mutant: str) -> None:
    with MUTANTS[mutant](), pytest.raises(AssertionError):
        check_diagonal()


def test_one_probe_for_all_has_no_error_and_is_found_out() -> None:
    with common.patched(products, "derived_seed", lambda *parts: 0), pytest.raises(AssertionError):
        check_rotated()


def test_many_steps_without_stored_vectors_keep_the_quadrature() -> None:
    """Rounding repeats eigenvalues; their copies share the weight, so that sums stay."""
    torch.manual_seed(0)
    values = torch.cat([torch.rand(200) * 0.01, torch.tensor([1.0, 5.0, 30.0])])
    model = nn.ParameterDict({"w": nn.Parameter(torch.zeros(203))})
    rotation = torch.linalg.qr(torch.randn(203, 203, dtype=torch.float64)).Q
    hessian = (rotation @ torch.diag(values.double()) @ rotation.T).float()

    def loss(net: Any, batch: object) -> Tensor:
        return (0.5 * net["w"] @ hessian @ net["w"]).reshape(1)

    result = spectral_density(model, loss, [None], probes=4, steps=60)
    assert any(sum(abs(node - 30.0) < 1e-3 for node in row) > 1 for row in result.nodes)  # repeated, in float32
    exact = curvature(model, loss, [None], probes=4, max_steps=0)
    assert result.trace.value == pytest.approx(exact.trace.value, rel=1e-4)
    assert result.largest == pytest.approx(30.0, rel=1e-5)


def test_the_grid_covers_the_nodes_and_a_spectrum_of_one_point_has_a_width() -> None:
    model = Quadratic()
    result = spectral_density(model, quadratic_loss(torch.diag(VALUES)), centres_around(model), probes=2, steps=20)
    grid = result.grid(50)
    assert len(grid) == 50
    assert grid[0] < result.smallest < result.largest < grid[-1]
    mass = (grid[-1] - grid[0]) / 49 * sum(d.value for d in result.density(grid, width=0.5))
    assert mass == pytest.approx(1.0, abs=0.2)  # the margin of the default width cuts the wide bumps' tails
    flat = spectral_density(model, lambda m, b: m().sum().reshape(1), [None], probes=2, steps=3)
    assert flat.smallest == flat.largest == 0.0
    assert flat.default_width() == 1.0
    for call, message in (
        (lambda: result.grid(1), "points is 1"), (lambda: result.grid(width=0.0), "width is 0.0"),
        (lambda: result.density((0.0,), width=-1.0), r"width is -1\.0"),
        (lambda: result.density((math.nan,)), "at is nan"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()


def test_leaves_everything_as_it_was_and_the_check_sees_when_not() -> None:
    common.check_leaves_everything(small)
    common.check_kills_common_mutants(small, moves=False)


def test_refuses_what_it_cannot_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    common.check_refuses(small)
    common.check_refuses_parameters(small)
    for wrong, message in (
        ({"probes": 0}, "probes is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"engine": "jax"}, "engine is 'jax'"),
    ):
        with pytest.raises(ValueError, match=message):
            small(common.Crowded(), common.noisy_loss, common.crowded_batches(), **wrong)
    monkeypatch.setitem(sys.modules, "curvlinops", None)
    with pytest.raises(ImportError, match=r"pip install flatness\[curvature\]"):
        small(Quadratic(), quadratic_loss(symmetric()), centres_around(Quadratic()), engine="curvlinops")


def test_result_is_reproducible_and_complete() -> None:
    common.check_result(small)
