"""The background thread: order, bound, errors, measured waiting, and that it always ends."""

import gc
import itertools
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from experiments.data import batches
from experiments.data.batches import Prefetcher

LONG = 30.0
"""Seconds after which a thread that should have done something is taken for stuck."""


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetcher"]


def square(step: int) -> int:
    return step * step


def test_results_come_in_order_and_the_iterator_ends() -> None:
    assert list(Prefetcher(square, 3, 6)) == [(3, 9), (4, 16), (5, 25)]
    assert list(Prefetcher(square, 3, 3)) == []
    assert not threads()


def test_they_are_made_on_another_thread_and_finished_on_the_reader_s() -> None:
    with Prefetcher(lambda step: threading.get_ident(), finish=lambda made: made * 2) as reader:
        step, made = next(reader)
    assert step == 0
    assert made != 2 * threading.get_ident()


def test_no_more_than_depth_are_made_ahead() -> None:
    made: list[int] = []
    enough = threading.Event()

    def make(step: int) -> int:
        made.append(step)
        if len(made) == 3:
            enough.set()
        return step

    with Prefetcher(make, depth=3) as reader:
        assert enough.wait(LONG)
        assert not threading.Event().wait(0.05)  # time in which a thread without a bound would make thousands
        assert made == [0, 1, 2]
        assert next(reader) == (0, 0)
    assert len(made) <= 4


def test_an_error_is_raised_when_its_step_is_read() -> None:
    error = RuntimeError("broken image")

    def make(step: int) -> int:
        if step == 2:
            raise error
        return step

    reader = Prefetcher(make)
    assert [next(reader), next(reader)] == [(0, 0), (1, 1)]
    with pytest.raises(RuntimeError, match="broken image") as raised:
        next(reader)
    assert raised.value is error
    assert not threads()
    assert list(reader) == []


def close(reader: Prefetcher[int]) -> None:
    reader.close()
    reader.close()


def leave_by_an_error(reader: Prefetcher[int]) -> None:
    with pytest.raises(KeyError), reader:
        raise KeyError


@pytest.mark.parametrize("leave", [close, leave_by_an_error])
@pytest.mark.parametrize("reads", [0, 1])
def test_closing_ends_the_thread(leave: Callable[[Prefetcher[int]], None], reads: int) -> None:
    reader = Prefetcher(square)
    for _ in range(reads):
        next(reader)
    leave(reader)
    assert not threads()
    assert list(reader) == []


def test_a_reader_that_is_dropped_ends_its_thread() -> None:
    reader = Prefetcher(square)
    next(reader)
    assert threads()
    del reader
    gc.collect()
    assert not threads()


def test_waiting_is_measured_around_each_read(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()  # each look at the clock finds it a second later
    monkeypatch.setattr(batches, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    with Prefetcher(square, last=5) as reader:
        assert reader.seconds_waited == 0
        list(reader)
        assert reader.seconds_waited == 5


def test_arguments_are_checked() -> None:
    for name, wrong in (("depth", 0), ("first", -1), ("last", -1), ("make", None)):
        with pytest.raises(ValueError, match=f"{name} is"):
            Prefetcher(**({"make": square} | {name: wrong}))  # type: ignore[arg-type]
    assert not threads()
