"""Two processes under torchrun against one process: this file is the script that torchrun starts."""

import os
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from examples.distributed import main, train
from examples.ring import Batch
from tests.examples.by_hand import FAR, ROUNDING, check_sam, distance, trained
from tests.examples.ring_common import RHO, adamw, check_falls, data, mean_loss, small
from tests.ranks import TORCHRUN, join, run_command, skip_without_gloo

RANKS = 2
MICRO_BATCH = 2  # of the five samples a rank has
TIMEOUT = 180
MODES = ("averaged", "local")


def run_rank(folder: Path) -> None:
    """The example's loop in float64 in both modes, then its main, which makes a process group of its own."""
    rank = int(os.environ["RANK"])
    join(rank, RANKS, folder)  # not by torchrun's own store, which serves one group, that of main
    weights = {}
    for gradients in MODES:
        network = small()
        model = torch.nn.parallel.DistributedDataParallel(network)
        train(model, data(), RHO, MICRO_BATCH, gradients)
        weights[gradients] = network.state_dict()
    torch.save(weights, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()
    main(["--steps", "2", "--batch", "8"])


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, dict[str, Tensor]]], str]:
    """What every rank has found, and what was printed."""
    skip_without_gloo()
    folder = tmp_path_factory.mktemp("ranks")
    printed = run_command([*TORCHRUN, "--nproc-per-node", str(RANKS), __file__, str(folder)], TIMEOUT)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)], printed


def reference(rho: float) -> list[Tensor]:
    """One process, by hand, on the whole batch."""
    model = small()
    return trained(model, adamw(model), mean_loss, data(), rho)


def test_ranks_make_the_step_of_one_process(ranks: tuple[list[dict[str, dict[str, Tensor]]], str]) -> None:
    first, second = (rank["averaged"] for rank in ranks[0])
    assert distance(first.values(), second.values()) == 0
    model = small()
    model.load_state_dict(first)
    check_sam(model, reference, RHO)
    check_falls(model, small(), data())


def test_local_gradients_are_another_method(ranks: tuple[list[dict[str, dict[str, Tensor]]], str]) -> None:
    """One step by hand: each rank climbs the gradient of its own share, and the descents are averaged."""
    first, second = (rank["local"] for rank in ranks[0])
    assert distance(first.values(), second.values()) == 0
    assert distance(first.values(), reference(RHO)) > FAR
    model = small()
    optimizer = adamw(model)
    for batch in data():
        descents = []
        for rank in range(RANKS):
            share = Batch(*(tensor[rank::RANKS] for tensor in batch))
            copy = small()
            copy.load_state_dict(model.state_dict())
            trained(copy, torch.optim.SGD(copy.parameters(), lr=0.0), mean_loss, [share], RHO)
            descents.append([p.grad for p in copy.parameters() if p.grad is not None])
        for p, *parts in zip(model.parameters(), *descents, strict=True):
            p.grad = torch.stack(parts).mean(0)
        optimizer.step()
    assert distance(first.values(), model.parameters()) <= ROUNDING


def test_main_reports_once(ranks: tuple[list[dict[str, dict[str, Tensor]]], str]) -> None:
    assert ranks[1].count("held-out loss") == 2  # without SAM and with it, by rank 0
    assert f"on {RANKS} ranks" in ranks[1]


def test_a_single_process_makes_the_same_steps() -> None:
    model = small()
    train(model, data(), RHO, MICRO_BATCH)
    check_sam(model, reference, RHO)


def test_a_batch_that_ranks_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="--batch is 8; allowed: a multiple of the number of ranks, 3"):
        main(["--batch", "8"])


if __name__ == "__main__":
    run_rank(Path(sys.argv[1]))
