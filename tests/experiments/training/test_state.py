"""Where a checkpoint's copy is made."""

import pytest
import torch

from experiments.training import state
from experiments.training.state import MARGIN, has_room

TOTAL = 1000


def give_memory(monkeypatch: pytest.MonkeyPatch, free: int, held: int, peak: int) -> None:
    """A CUDA device of 1000 bytes, as torch tells of it between steps."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, TOTAL))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: held)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: peak)


@pytest.mark.parametrize(
    ("free", "held", "peak", "room"),
    [
        (900, 100, 100, 900),
        (100, 900, 850, 100),  # between steps most of what is held is free, and is needed again
        (700, 300, 900, 100),  # what a step needed has been given back to the device
        (150, 600, 600, 150),  # other processes' memory is not ours
    ],
)
def test_room_is_what_whole_steps_leave(
    monkeypatch: pytest.MonkeyPatch, free: int, held: int, peak: int, room: int
) -> None:
    give_memory(monkeypatch, free, held, peak)
    margin = MARGIN * TOTAL
    device = torch.device("cuda")
    assert has_room(device, int(room - margin))
    assert not has_room(device, int(room - margin) + 1)


def test_where_there_is_no_room_the_copy_is_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    of = {"a": {"w": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last), "n": torch.tensor(3)}}
    sizes: list[int] = []
    to_cpu: list[torch.Tensor] = []
    keep = state._to_cpu

    def noted(tensor: torch.Tensor) -> torch.Tensor:
        to_cpu.append(tensor)
        return keep(tensor)

    monkeypatch.setattr(state, "_to_cpu", noted)
    for room in (True, False):

        def answered(_: torch.device, size: int, room: bool = room) -> bool:
            sizes.append(size)
            return room

        monkeypatch.setattr(state, "has_room", answered)
        copied = state._copied(of, torch.device("cpu"))["a"]
        assert len(to_cpu) == (0 if room else 2)
        for name, tensor in of["a"].items():
            assert torch.equal(copied[name], tensor)
            assert copied[name].stride() == tensor.stride()
            assert copied[name].data_ptr() != tensor.data_ptr()
    assert sizes == [120 * 4 + 8] * 2


def test_room_that_was_not_there_after_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("another process was quicker")

    monkeypatch.setattr(torch.Tensor, "clone", full)
    w = torch.ones(3)
    assert torch.equal(state._copied({"a": {"w": w}}, torch.device("cpu"))["a"]["w"], w)


def test_the_cpus_own_memory_is_not_asked_about() -> None:
    assert has_room(torch.device("cpu"), 2**60)
