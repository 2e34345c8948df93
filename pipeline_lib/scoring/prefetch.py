"""Work done ahead of its consumer, in order and in bounded number."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from queue import SimpleQueue
from threading import Event, Semaphore
from typing import TypeVar

Item = TypeVar("Item")
Ready = TypeVar("Ready")

DEPTH = 2
FIRST = 4


def ahead(
    items: Iterable[Item], work: Callable[[Item], Ready], size: Callable[[], int], threads: int
) -> Generator[list[Ready], None, None]:
    """Lists of `work(item)`, in the order of `items`, at most DEPTH lists ahead of the consumer.

    Args:
        items: read by one thread of its own, so that a slow source does not hold up the consumer either.
        work: called by `threads` threads.
        size: how many consecutive items the next list takes; the last one may be shorter.

    Raises:
        whatever `items` or `work` raised, at the place where its result would have come.
    """
    ready: SimpleQueue[list[Future[Ready]] | BaseException | None] = SimpleQueue()
    room, stopped = Semaphore(DEPTH), Event()

    def read() -> None:
        try:
            for chunk in chunks(items, size):
                room.acquire()
                if stopped.is_set():
                    return
                ready.put([pool.submit(work, item) for item in chunk])
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    pool, reader = ThreadPoolExecutor(threads, "prepare"), ThreadPoolExecutor(1, "read")
    try:
        reader.submit(read)
        while (found := ready.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            results = [future.result() for future in found]
            room.release()
            yield results
    finally:
        stopped.set()
        room.release()
        reader.shutdown()
        pool.shutdown(cancel_futures=True)


def chunks(items: Iterable[Item], size: Callable[[], int]) -> Iterator[list[Item]]:
    """Lists of up to `size()` consecutive items."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size())):
        yield chunk


def growing(size: Callable[[], int]) -> Callable[[], int]:
    """Sizes that double from FIRST up to `size()`: the consumer waits for the first list, and should not wait long."""
    last = 0

    def grow() -> int:
        nonlocal last
        last = min(max(2 * last, FIRST), size())
        return last

    return grow
