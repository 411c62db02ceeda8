"""Ranks without a process group: which device, and what a single process does in place of collectives."""

import threading
from collections.abc import Callable

import pytest
import torch

from experiments.training import distributed
from experiments.training.distributed import Ranks, chosen_device, joined


def test_without_a_launcher_there_is_one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with joined("cpu") as ranks:
        assert ranks == Ranks(0, 1, torch.device("cpu"))
        assert ranks.first
        assert ranks.of_rank_0(-2) == -2
        assert ranks.gathered(torch.arange(3)).tolist() == [0, 1, 2]
    assert not torch.distributed.is_initialized()


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How a group of two is left, which is not joined in truth."""
    messages: list[str] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    group = iter([False, True])
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: next(group))
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: messages.append("with the others"))
    abort = "_abort_process_group"
    monkeypatch.setattr(torch.distributed.distributed_c10d, abort, lambda: messages.append("alone"), raising=False)
    return messages


def test_ranks_leave_together_at_the_end(left: list[str]) -> None:
    with joined("cpu") as ranks:
        assert ranks == Ranks(1, 2)
    assert left == ["with the others"]


def test_gloo_is_given_a_moment_before_the_group_is_left(left: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: left.append(f"after {seconds} s"))
    with joined("cpu"):
        assert left == []
    assert left == ["after 0.1 s", "with the others"]


def fails_within() -> None:
    with joined("cpu"):
        raise KeyError


def test_after_an_error_none_waits_for_the_others(left: list[str]) -> None:
    with pytest.raises(KeyError):
        fails_within()
    assert left == ["alone"]


def breaks() -> None:
    raise RuntimeError("no NCCL")


def hangs() -> None:
    threading.Event().wait()


@pytest.mark.parametrize("abort", [breaks, hangs, None])
def test_an_error_is_told_whatever_leaving_makes_of_it(
    left: list[str], monkeypatch: pytest.MonkeyPatch, abort: Callable[[], None] | None
) -> None:
    monkeypatch.setattr(distributed, "ABANDONED", 0.1)
    of_torch = torch.distributed.distributed_c10d
    if abort is None:
        monkeypatch.delattr(of_torch, "_abort_process_group")
    else:
        monkeypatch.setattr(of_torch, "_abort_process_group", abort)
    with pytest.raises(KeyError):
        fails_within()
    assert left == []


def test_a_rank_beyond_the_world_is_refused() -> None:
    with pytest.raises(ValueError, match="rank is 2; allowed: a whole number below world, 2"):
        Ranks(2, 2)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert chosen_device("auto", 3) == torch.device("cpu")
    with pytest.raises(ValueError, match="device is 'cuda'; allowed: 'cpu' or 'auto'"):
        chosen_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert chosen_device("auto", 1) == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="LOCAL_RANK is 2; allowed: below 2"):
        chosen_device("cuda", 2)
