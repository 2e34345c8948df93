"""One thread for torch, while anybody needs it, and on the CPU only."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch

from pipeline_lib.core.threads import one_thread


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_one_while_inside_and_as_before_afterwards() -> None:
    with one_thread("cpu"):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    with pytest.raises(KeyError), one_thread("cpu"):
        raise KeyError
    assert torch.get_num_threads() == 3


def test_other_devices_leave_it() -> None:
    with one_thread("cuda:1"):
        assert torch.get_num_threads() == 3


def test_threads_that_overlap_do_not_undo_each_other() -> None:
    meet = Barrier(2, timeout=20)

    def work(first: bool) -> list[int]:
        seen = []
        if not first:
            meet.wait()  # the other is inside
        with one_thread("cpu"):
            seen.append(torch.get_num_threads())
            if first:
                meet.wait()
            meet.wait()  # both are
            if first:
                meet.wait()  # the other has left
            seen.append(torch.get_num_threads())
        if not first:
            meet.wait()
        return seen

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, [True, False])) == [[1, 1], [1, 1]]
    assert torch.get_num_threads() == 3
