"""Work ahead of the consumer: order, bound, errors in their place, an end that waits for nothing needless."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pipeline_lib.scoring.prefetch import DEPTH, FIRST, ahead, growing


def test_order_and_sizes_that_change() -> None:
    sizes = iter([2, 3, 4, 4, 4])
    batches = list(ahead(range(10), lambda i: i * i, lambda: next(sizes), 3))
    assert batches == [[0, 1], [4, 9, 16], [25, 36, 49, 64], [81]]
    assert list(ahead([], str, lambda: 4, 1)) == []


def test_reads_at_most_a_few_lists_ahead() -> None:
    read: list[int] = []
    waiting = threading.Event()

    def source() -> Iterator[int]:
        for i in range(100):
            read.append(i)
            if i == 2 * (DEPTH + 1):  # the list that finds no room, and its successor is not begun
                waiting.set()
            yield i

    batches = ahead(source(), str, lambda: 2, 2)
    next(batches)
    assert waiting.wait(10)
    assert len(read) <= 2 * (DEPTH + 2)
    batches.close()
    assert len(read) <= 2 * (DEPTH + 3)


def test_errors_come_where_their_result_would_have_come() -> None:
    def work(i: int) -> int:
        if i == 3:
            raise ValueError("three")
        return i

    batches = ahead(range(8), work, lambda: 2, 2)
    assert next(batches) == [0, 1]
    with pytest.raises(ValueError, match="three"):
        next(batches)

    def source() -> Iterator[int]:
        yield 0
        raise OSError("gone")

    batches = ahead(source(), str, lambda: 1, 1)
    assert next(batches) == ["0"]
    with pytest.raises(OSError, match="gone"):
        next(batches)


def test_lists_grow_to_the_size_that_holds_at_the_time() -> None:
    at_once = 16
    size = growing(lambda: at_once)
    assert [size() for _ in range(4)] == [FIRST, 2 * FIRST, 16, 16]
    at_once = 40
    assert [size(), size()] == [32, 40]
    at_once = 3
    assert size() == 3
