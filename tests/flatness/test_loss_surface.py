"""The loss on a plane: exact on quadratic losses, directions normalised as said, and mutants."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flatness.measuring.loss_surface import loss_surface
from tests.flatness import measures_common as common
from tests.flatness.measures_common import Quadratic, centres_around, quadratic_loss, symmetric

implementation = import_module("flatness.measuring.loss_surface")  # the package may export the function by this name
FIRST, SECOND = (-1.0, 0.0, 0.5), (0.0, 2.0)


def small(model: Any, loss: Any, batches: Any, **own: Any) -> Any:
    return loss_surface(model, loss, batches, **{"first": (-0.5, 0.0), "second": (0.0, 1.0), **own})


def check_given() -> None:
    """With given directions u and v every point's loss is the loss there, and (0, 0) does not rise at all."""
    model = Quadratic()
    hessian = symmetric()
    batches = centres_around(model)
    draw = torch.Generator().manual_seed(6)
    pair = [[torch.randn(p.shape, generator=draw, dtype=p.dtype) for p in model.parameters()] for _ in range(2)]
    named = dict(zip(("first", "second", "third"), pair[1], strict=True))
    result = loss_surface(
        model, quadratic_loss(hessian), batches, FIRST, SECOND, directions=(pair[0], named), normalization="none"
    )
    u, v = (torch.cat([part.flatten() for part in direction]) for direction in pair)
    assert result.norms == pytest.approx((float(u.norm()), float(v.norm())), rel=1e-12)
    start = model().detach()
    for i, a in enumerate(FIRST):
        for j, b in enumerate(SECOND):
            off = start + a * u + b * v - torch.cat(batches)
            expected = 0.5 * ((off @ hessian) * off).sum(1)
            # float64, numbers near 100
            assert result.losses[i][j].value == pytest.approx(float(expected.mean()), abs=1e-11)
            assert result.rises[i][j].value == pytest.approx(float(expected.mean()) - result.loss.value, abs=1e-11)
            assert result.losses[i][j].data_standard_error == pytest.approx(float(expected.std()) / 7**0.5, abs=1e-11)
            assert result.losses[i][j].draw_standard_error == 0.0
    assert result.rises[1][0].value == result.rises[1][0].data_standard_error == 0.0


def displacements(normalization: str, parameters: Any = None) -> tuple[Quadratic, list[list[Tensor]]]:
    """A model and how far its three tensors are moved at (0, 0), (0, 1), (1, 0), (1, 1)."""
    model = Quadratic()
    start = [p.detach().clone() for p in model.parameters()]
    seen: list[list[Tensor]] = []

    def loss(net: nn.Module, batch: object) -> Tensor:
        seen.append([p.detach() - s for p, s in zip(net.parameters(), start, strict=True)])
        return net().sum()

    loss_surface(model, loss, [None], (0.0, 1.0), (0.0, 1.0), normalization=normalization, parameters=parameters)
    return model, seen[1:]


def check_random() -> None:
    """Random directions: two unlike ones, each with the norms that its normalisation gives, added up at (1, 1)."""
    model, (nothing, v, u, both) = displacements("filter")
    assert all(float(part.abs().max()) == 0.0 for part in nothing)
    for one in (u, v):
        for part, weight in zip(one[:2], (model.first, model.second), strict=True):
            # noise and norms in float32
            assert part.norm(dim=1).tolist() == pytest.approx(weight.detach().norm(dim=1).tolist(), rel=1e-5)
        assert float(one[2].abs().max()) == 0.0
    assert abs(float(torch.cosine_similarity(u[0].flatten(), v[0].flatten(), dim=0))) < 0.99
    for part_u, part_v, part in zip(u, v, both, strict=True):
        assert torch.allclose(part_u + part_v, part, atol=1e-6)
    model, (_, v, u, _) = displacements("layer")
    for part, weight in zip(u, model.parameters(), strict=True):
        assert float(part.norm()) == pytest.approx(float(weight.detach().norm()), rel=1e-5)
    _, (_, v, u, _) = displacements("whole")
    assert float(torch.cat([part.flatten() for part in v]).norm()) == pytest.approx(1.0, rel=1e-5)
    _, (_, v, u, _) = displacements("filter", ["second"])
    assert float(u[0].abs().max()) == 0.0
    assert float(u[1].abs().max()) > 0.0


class Transposed(implementation._Combination):  # type: ignore[name-defined]
    """Mutant: the axes change places."""

    def __init__(self, u: Any, v: Any, a: float, b: float) -> None:
        super().__init__(u, v, b, a)


MUTANTS = {
    "does nothing": (common.still_weights, {"given", "random"}),
    "half as far again": (common.far_weights, {"given", "random"}),
    "moves backwards": (common.backward_weights, {"given"}),
    "rise has the wrong sign": (common.negative_rises, {"given"}),
    "axes change places": (lambda: common.patched(implementation, "_Combination", Transposed), {"given"}),
    "one direction twice": (lambda: common.patched(implementation, "derived_seed", lambda *parts: 0), {"random"}),
    "norms are not the weights'": (
        lambda: common.patched(common.weights, "_norms", lambda tensor, by_filter: torch.ones(())),
        {"random"},
    ),
}
CHECKS = {"given": check_given, "random": check_random}


@pytest.mark.parametrize("check", CHECKS)
def test_points(check: str) -> None:
    CHECKS[check]()


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_fail(mutant: str) -> None:
    make, killers = MUTANTS[mutant]
    for check in killers:
        with make(), pytest.raises(AssertionError):
            CHECKS[check]()


def test_leaves_everything_as_it_was_and_the_check_sees_when_not() -> None:
    common.check_leaves_everything(small)
    common.check_kills_common_mutants(small)


def test_refuses_what_it_cannot_measure() -> None:
    common.check_refuses(small)
    common.check_refuses_parameters(small)
    for wrong, message in (
        ({"first": ()}, "first is empty"),
        ({"first": (float("nan"),)}, "first is nan"),
        ({"second": 3.0}, "second is 3.0"),
        ({"normalization": "row"}, "normalization is 'row'"),
        ({"directions": ([torch.ones(2)],)}, "directions is"),
        ({"directions": ([torch.ones(2)], [torch.ones(2)])}, "has 1 tensors"),
        ({"first": (1e38,), "second": (1e38,)}, "point"),
    ):
        with pytest.raises(ValueError, match=message):
            small(common.Crowded(), common.noisy_loss, common.crowded_batches(), **wrong)


def test_result_is_reproducible_and_complete() -> None:
    common.check_result(small)
    result = small(common.Crowded(), common.noisy_loss, common.crowded_batches())
    assert result.settings["normalization"] == "filter"
    assert result.settings["directions"] == "random"
    assert [len(row) for row in result.losses] == [2, 2]
    assert result.rises[1][0].value == 0.0
