"""Work done ahead on one background thread: bounded, measured, closed cleanly, its errors raised to the reader."""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

from flatness import arguments

T = TypeVar("T")


class _Shared:
    """What reader and thread share; the thread holds no reference to the reader, so that one can be collected."""

    def __init__(self, depth: int) -> None:
        self.free = threading.Semaphore(depth)
        self.stopped = threading.Event()
        self.done: SimpleQueue[tuple[int, object, BaseException | None]] = SimpleQueue()


def _work(shared: _Shared, make: Callable[[int], object], first: int, last: int | None) -> None:
    steps = itertools.count(first) if last is None else range(first, last)
    try:
        for step in steps:
            shared.free.acquire()
            if shared.stopped.is_set():
                return
            shared.done.put((step, make(step), None))
        error: BaseException = StopIteration()
    except BaseException as raised:
        error = raised
    shared.done.put((-1, None, error))


def _close(shared: _Shared, thread: threading.Thread) -> None:
    shared.stopped.set()
    shared.free.release()
    if thread is not threading.current_thread():  # the collector may run this on the thread itself
        thread.join()


class Prefetcher(Generic[T]):
    """An iterator over (step, make(step)), made up to `depth` steps ahead.

    Use it in a `with` block, or call `close`; one that is simply dropped, or left open when the program ends, closes
    itself. An error in `make` is raised, the same object, when its step is read; after that the iterator has ended.

    Args:
        make: called on the background thread, with the step's number.
        first: the first step.
        last: the step to stop before; None: never.
        depth: how many made and unread results may exist.
        finish: applied to each result on the reader's thread; its time counts as waited.

    Raises:
        ValueError: an argument is not as above.
    """

    seconds_waited: float
    """Time the reader has spent in `next`, in seconds."""

    def __init__(
        self,
        make: Callable[[int], T],
        first: int = 0,
        last: int | None = None,
        depth: int = 2,
        finish: Callable[[T], T] | None = None,
    ) -> None:
        """Start the thread."""
        arguments.function("make", make)
        arguments.count("first", first)
        if last is not None:
            arguments.count("last", last, at_least=first)
        self._shared = _Shared(arguments.count("depth", depth, at_least=1))
        self._finish = finish
        self._ended = False
        self.seconds_waited = 0.0
        thread = threading.Thread(target=_work, args=(self._shared, make, first, last), name="prefetcher", daemon=True)
        thread.start()
        self._closing = weakref.finalize(self, _close, self._shared, thread)

    def __iter__(self) -> Iterator[tuple[int, T]]:
        """The reader itself."""
        return self

    def __next__(self) -> tuple[int, T]:
        """The next step's number and result."""
        if self._ended:
            raise StopIteration
        start = time.perf_counter()
        step, result, error = self._shared.done.get()
        if error is not None:
            self.close()
            raise error
        self._shared.free.release()
        made: T = result  # type: ignore[assignment]
        if self._finish is not None:
            made = self._finish(made)
        self.seconds_waited += time.perf_counter() - start
        return step, made

    def close(self) -> None:
        """End the thread, after the result it is at; what it made and nobody read is dropped. May be called again."""
        self._ended = True
        self._closing()

    def __enter__(self) -> Prefetcher[T]:
        """The reader itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close."""
        self.close()
