"""One thread for torch on the CPU: sums are split over threads, so the number of threads decides how they round.

Where bytes are kept, one thread computes them, and a machine with other cores gives the same ones. Several cores are
used by several workers at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch

_counting = Lock()
_inside: list[int] = []
"""For every thread within `one_thread`, the number of threads that the process had before the first of them."""


@contextmanager
def one_thread(device: str) -> Iterator[None]:
    """On the device "cpu" torch computes with the calling thread alone; on others nothing changes. Do not nest it."""
    if torch.device(device).type != "cpu":
        yield
        return
    with _counting:
        _inside.append(_inside[0] if _inside else torch.get_num_threads())
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _counting:
            torch.set_num_threads(_inside.pop())
