"""Ranks without a process group: which device, and what a single process does in place of collectives."""

import pytest
import torch

from experiments.training.distributed import Ranks, chosen_device, joined


def test_without_a_launcher_there_is_one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with joined("cpu") as ranks:
        assert ranks == Ranks(0, 1, torch.device("cpu"))
        assert ranks.first
        assert ranks.told(-2) == -2
        assert ranks.gathered(torch.arange(3)).tolist() == [0, 1, 2]
    assert not torch.distributed.is_initialized()


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
