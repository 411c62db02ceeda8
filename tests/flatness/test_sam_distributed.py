"""SAM under DistributedDataParallel: two gloo processes on the CPU against one process that does their sums.

The processes run this file as a script, meet through a file (no port), and save what they have found.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.ranks import join, run_script

RANKS = 2
STEPS = 5
EVERY = 2
RHO = 0.3
TIMEOUT = 120
ROUNDING = 1e-11
"""float64; averaging over ranks and over a batch differ in the order of sums, some 1e-15 a step."""
LOCAL_AND_AVERAGED_DIFFER = 1e-4


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def data(step: int) -> tuple[Tensor, Tensor]:
    """The whole batch; rank r has rows r, r + RANKS, ..."""
    generator = torch.Generator().manual_seed(step)
    return tuple(torch.randn(8, k, generator=generator, dtype=torch.float64) for k in (3, 2))  # type: ignore[return-value]


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return ((model(x) - y) ** 2).mean()


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


# What each process runs.


def scenario_closure(rank: int, gradients: str) -> dict[str, Any]:
    from flatness.training.sam import SAM

    model = nn.parallel.DistributedDataParallel(network())
    sam = SAM(optimizer_of(model), rho=RHO, gradients=gradients, model=model)
    for step in range(STEPS):
        x, y = (t[rank::RANKS] for t in data(step))

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            sam.zero_grad()
            loss = loss_of(model, x, y)
            loss.backward()
            return loss

        sam.step(closure)
    return {"weights": [p.detach() for p in model.parameters()]}


def scenario_accumulation(rank: int) -> dict[str, Any]:
    """Local, every second step, in two phases of two parts each, the first part under the loop's own no_sync."""
    from flatness.training.perturbed_optimizer import EveryK
    from flatness.training.sam import SAM

    model = nn.parallel.DistributedDataParallel(network())
    sam = SAM(optimizer_of(model), rho=RHO, gradients="local", model=model, schedule=EveryK(EVERY))
    for step in range(STEPS):
        x, y = (t[rank::RANKS] for t in data(step))

        def accumulate(x: Tensor = x, y: Tensor = y) -> None:
            with model.no_sync():
                (loss_of(model, x[:2], y[:2]) / 2).backward()
            (loss_of(model, x[2:], y[2:]) / 2).backward()

        sam.zero_grad()
        with sam.first_pass():
            accumulate()
        if sam.due:
            with sam.perturbed():
                accumulate()
        sam.step()
    return {"weights": [p.detach() for p in model.parameters()]}


def kin(model: nn.Module, module: nn.Module) -> dict[str, Any]:
    """Other flatteners of the module, as DDP has it, with averaged gradients: their noise is the same on all ranks."""
    from flatness import FriendlySAM, RandomSAM, RandomWeightPerturbation

    optimizer = optimizer_of(model)
    return {
        "RandomSAM": lambda: RandomSAM(optimizer, RHO, 0.1, 3, gradients="averaged", model=module),
        "FriendlySAM": lambda: FriendlySAM(optimizer, RHO, gradients="averaged", model=module),
        "RandomWeightPerturbation": lambda: RandomWeightPerturbation(optimizer, RHO, 3),
    }


def scenario_kin(rank: int, ranks: int = RANKS) -> dict[str, Any]:
    results = {}
    for name in kin(network(), network()):
        model: nn.Module = network()
        model = nn.parallel.DistributedDataParallel(model) if ranks > 1 else model
        flattener = kin(model, model)[name]()
        for step in range(STEPS):
            x, y = (t[rank::ranks] for t in data(step))

            def closure(x: Tensor = x, y: Tensor = y, model: nn.Module = model, flattener: Any = flattener) -> Tensor:
                flattener.zero_grad()
                loss = loss_of(model, x, y)
                loss.backward()
                return loss

            flattener.step(closure)
        results[name] = [p.detach() for p in model.parameters()]
    return results


def scenario_not_finite(rank: int) -> dict[str, Any]:
    """At step 2 rank 1 alone has a gradient at w that is not finite: the step is void on both."""
    from flatness.training.sam import SAM

    results: dict[str, Any] = {}
    for policy in ("skip", "raise"):
        model = nn.parallel.DistributedDataParallel(network())
        sam = SAM(optimizer_of(model), rho=RHO, model=model, on_nonfinite=policy)
        for step in range(4):
            x, y = (t[rank::RANKS] for t in data(step))
            before = [p.detach().clone() for p in model.parameters()]
            sam.zero_grad()
            with sam.first_pass():
                (loss_of(model, x, y) * (math.nan if (step, rank) == (2, 1) else 1)).backward()
            with sam.perturbed():
                loss_of(model, x, y).backward()
            try:
                sam.step()
            except FloatingPointError:
                results["raised at"] = step
                break
            if step == 2:
                unmoved = (torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
                results["weights kept"] = all(unmoved)
        results[policy] = (sam.steps, sam.skipped)
        results[policy + " weights"] = [p.detach() for p in model.parameters()]
    return results


def scenario_refusals(rank: int) -> dict[str, Any]:
    from flatness.training.sam import SAM

    model = nn.parallel.DistributedDataParallel(network())
    x, y = data(rank)
    messages = {}
    try:
        SAM(optimizer_of(model))
    except ValueError as error:
        messages["no model"] = str(error)
    sam = SAM(optimizer_of(model), model=model)
    loss_of(model, x, y).backward()
    try:
        with sam.perturbed():
            pass
    except RuntimeError as error:
        messages["averaged by mistake"] = str(error)
    return messages


SCENARIOS: dict[str, Callable[[int], dict[str, Any]]] = {
    "averaged": lambda rank: scenario_closure(rank, "averaged"),
    "local": lambda rank: scenario_closure(rank, "local"),
    "accumulation": scenario_accumulation,
    "kin": scenario_kin,
    "not finite": scenario_not_finite,
    "refusals": scenario_refusals,
}


def run_rank(rank: int, folder: Path) -> None:
    join(rank, RANKS, folder)
    torch.save({name: scenario(rank) for name, scenario in SCENARIOS.items()}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


# What the test compares it with.


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("ranks")
    run_script(__file__, folder, RANKS, TIMEOUT)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


def reference(gradients: str, every: int) -> list[Tensor]:
    """Algorithm 1 in one process: with local gradients, the mean of the ranks' gradients at their own w_hat.

    Steps between every `every`-th are plain.
    """
    model = network()
    parameters = list(model.parameters())
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        x, y = data(step)
        parts = [(x, y)] if gradients == "averaged" else [(x[r::RANKS], y[r::RANKS]) for r in range(RANKS)]
        descents = []
        for x_part, y_part in parts:
            g = torch.autograd.grad(loss_of(model, x_part, y_part), parameters)
            norm = torch.cat([t.flatten() for t in g]).norm()
            w = [p.detach().clone() for p in parameters]
            with torch.no_grad():
                for p, t in zip(parameters, g, strict=True):
                    p.add_((RHO if step % every == 0 else 0) * t / norm)
            descents.append(torch.autograd.grad(loss_of(model, x_part, y_part), parameters))
            with torch.no_grad():
                for p, t in zip(parameters, w, strict=True):
                    p.copy_(t)
        for p, *gradients_of_p in zip(parameters, *descents, strict=True):
            p.grad = torch.stack(gradients_of_p).mean(0)
        optimizer.step()
    return [p.detach() for p in parameters]


def distance(a: list[Tensor], b: list[Tensor]) -> float:
    return max(float((x - y).abs().max()) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    ("scenario", "gradients", "every"),
    [("averaged", "averaged", 1), ("local", "local", 1), ("accumulation", "local", EVERY)],
)
def test_ranks_make_the_step_of_one_process(
    ranks: list[dict[str, dict[str, Any]]], scenario: str, gradients: str, every: int
) -> None:
    weights = [rank[scenario]["weights"] for rank in ranks]
    assert distance(weights[0], weights[1]) == 0
    assert distance(weights[0], reference(gradients, every)) <= ROUNDING
    other = {"local": "averaged", "averaged": "local"}[gradients]
    assert distance(weights[0], reference(other, every)) > LOCAL_AND_AVERAGED_DIFFER


@pytest.mark.parametrize("name", list(kin(network(), network())))
def test_kin_of_sam_make_the_step_of_one_process(ranks: list[dict[str, dict[str, Any]]], name: str) -> None:
    weights = [rank["kin"][name] for rank in ranks]
    alone = scenario_kin(0, ranks=1)
    assert distance(weights[0], weights[1]) == 0
    assert distance(weights[0], alone[name]) <= ROUNDING
    assert all(distance(weights[0], alone[other]) > LOCAL_AND_AVERAGED_DIFFER for other in alone if other != name)


def test_a_step_that_is_void_on_one_rank_is_void_on_all(ranks: list[dict[str, dict[str, Any]]]) -> None:
    for rank in ranks:
        results = rank["not finite"]
        assert (results["skip"], results["weights kept"]) == ((4, 1), True)
        assert (results["raise"], results["raised at"]) == ((2, 0), 2)
    for policy in ("skip", "raise"):
        a, b = (rank["not finite"][f"{policy} weights"] for rank in ranks)
        assert distance(a, b) == 0
        assert all(bool(torch.isfinite(t).all()) for t in a)


def test_gradients_that_are_not_what_was_said_are_refused(ranks: list[dict[str, dict[str, Any]]]) -> None:
    for rank in ranks:
        assert "model is None; allowed with gradients='local' and 2 ranks" in rank["refusals"]["no model"]
        assert "first_pass" in rank["refusals"]["averaged by mistake"]


if __name__ == "__main__":
    run_rank(int(sys.argv[2]), Path(sys.argv[1]))
