"""Parameters sharded by fully_shard: two gloo processes against one that has them whole.

The processes run this file as a script, meet through a file (no port), and save what they have found.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flatness import EMA, SAM, SWA, FriendlySAM, PowerEMA, RandomSAM, RandomWeightPerturbation, Shadows
from flatness.training.weight_averaging import Rule
from tests.ranks import join, run_script

RANKS = 2
STEPS = 4
RHO = 0.3
TIMEOUT = 400
ROUNDING = 1e-11
"""float64; sums over shards and over batches in another order."""
FAR = 1e-4
"""What another radius or no average makes of the weights is further off."""
RULES: dict[str, Rule] = {
    "ema": EMA(0.8),
    "late": EMA(0.8, start=2, warmup=0.5),
    "swa": SWA(start=1),
    "power": PowerEMA(1.5),
}


class Network(nn.Module):
    """Layers of odd sizes, so that shards are unequal and one rank has none of a bias of one; and a buffer."""

    def __init__(self) -> None:
        """The same weights on every rank."""
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(3, 5).double(), nn.Linear(5, 1).double()
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1)."""
        if self.training:
            self.calls.add_(1)
        out: Tensor = self.last(torch.tanh(self.first(x)))
        return out


def data(step: int) -> tuple[Tensor, Tensor]:
    """The whole batch; rank r has rows r, r + RANKS, ..."""
    generator = torch.Generator().manual_seed(step)
    return tuple(torch.randn(8, k, generator=generator, dtype=torch.float64) for k in (3, 1))  # type: ignore[return-value]


def trained(model: nn.Module, part: slice, adaptive: bool = False, rho: float = RHO) -> dict[str, Any]:
    """SAM over the batch's part with averages, weights looked at before, within and after each perturbed pass."""
    from flatness.sharding import gathered, local

    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    sam = SAM(optimizer, rho=rho, adaptive=adaptive, gradients="averaged", model=model)
    shadows = Shadows(model, RULES)
    results: dict[str, Any] = {"within": [], "restored": True}
    for step in range(STEPS):
        x, y = (t[part] for t in data(step))
        if step % 2:
            sam.step(functools.partial(closure, sam, model, x, y))
        else:
            sam.zero_grad()
            with sam.first_pass():
                (model(x) - y).square().mean().backward()
            before = [local(p).clone() for p in model.parameters()]
            with sam.perturbed():
                results["within"].append([gathered(p.detach()).clone() for p in model.parameters()])
                (model(x) - y).square().mean().backward()
            same = (torch.equal(local(p), b) for p, b in zip(model.parameters(), before, strict=True))
            results["restored"] &= all(same)
            sam.step()
        shadows.update(step)
        if step == 1:  # and goes on from the states
            saved = shadows.state_dict()
            shadows = Shadows(model, RULES, first_step=0)
            shadows.load_state_dict(saved)
            sam.load_state_dict(sam.state_dict())
    results["weights"] = [gathered(p.detach()).clone() for p in model.parameters()]
    own = [local(p).clone() for p in model.parameters()]
    for name in RULES:
        with shadows.applied(name, model):
            results[name] = [gathered(p.detach()).clone() for p in model.parameters()]
    results["restored"] &= all(torch.equal(local(p), w) for p, w in zip(model.parameters(), own, strict=True))
    (snapshot,) = shadows.snapshots()
    results["snapshot"] = list(snapshot["weights"].values())
    results["calls"] = float(model.get_buffer("calls"))
    return results


def closure(sam: SAM, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    sam.zero_grad()
    loss = (model(x) - y).square().mean()
    loss.backward()
    return loss


def refusals(model: nn.Module) -> dict[str, str]:
    """What is said of a sharded model."""
    messages = {}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = data(0)

    def adds() -> Tensor:
        loss = (model(x) - y).square().mean()
        loss.backward()
        return loss

    sam = SAM(optimizer, rho=RHO, gradients="averaged")
    shadows = Shadows(model, {"ema": EMA(0.9)})
    adds()
    sam.zero_grad(set_to_none=False)
    sam.step(adds)  # of gradients that were cleared in place
    for name, tried in {
        "local": lambda: SAM(optimizer, model=model),
        "friendly": lambda: FriendlySAM(optimizer, gradients="averaged"),
        "random": lambda: RandomSAM(optimizer, gradients="averaged"),
        "noise": lambda: RandomWeightPerturbation(optimizer),
        "module": lambda: shadows["ema"],
        "accumulated": lambda: sam.step(adds),
    }.items():
        try:
            tried()
        except (ValueError, RuntimeError) as error:
            messages[name] = str(error)
    return messages


def sharded() -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (RANKS,))
    model = Network()
    fully_shard(model.first, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def run_rank(rank: int, folder: Path) -> None:
    join(rank, RANKS, folder)
    part = slice(rank, None, RANKS)
    results: dict[str, Any] = {str(adaptive): trained(sharded(), part, adaptive) for adaptive in (False, True)}
    results["refusals"] = refusals(sharded())
    torch.save(results, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("shards")
    run_script(__file__, folder, RANKS, TIMEOUT)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


def distance(a: list[Tensor], b: list[Tensor]) -> float:
    return max(float((x - y).abs().max()) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("adaptive", [False, True])
def test_two_processes_with_shards_make_the_steps_of_one(ranks: list[dict[str, Any]], adaptive: bool) -> None:
    alone = trained(Network(), slice(None), adaptive)
    other = trained(Network(), slice(None), adaptive, rho=0.0)
    for rank in ranks:
        results = rank[str(adaptive)]
        for ours, theirs in zip(results["within"], alone["within"], strict=True):
            assert distance(ours, theirs) <= ROUNDING
        assert results["restored"]
        assert results["calls"] == alone["calls"] == STEPS  # the perturbed pass's buffers are put back
        for name in ("weights", *RULES, "snapshot"):
            assert distance(results[name], alone[name]) <= ROUNDING, name
        assert distance(results["weights"], other["weights"]) > FAR
        for name in ("ema", "late", "swa"):
            assert distance(results[name], results["weights"]) > FAR, name
        assert distance(results["within"][0], [p.detach() for p in Network().parameters()]) > FAR


def test_what_cannot_be_done_with_shards_is_refused_in_words(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        messages = rank["refusals"]
        assert "gradients is 'local'; allowed for sharded parameters: 'averaged'" in messages["local"]
        for name in ("friendly", "random", "noise"):
            assert "sharded DTensor; allowed: whole parameters, or SAM" in messages[name]
        assert "applied(name, model)" in messages["module"]
        assert "adds to gradients that were there before it" in messages["accumulated"]


if __name__ == "__main__":
    run_rank(int(sys.argv[2]), Path(sys.argv[1]))
