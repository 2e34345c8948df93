"""Models that stay in memory between the shards that one process works on: loaded once, shared by its threads.

One per device, the last one asked for: another takes its place, so that memory does not grow.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

from pipeline_lib.core.gpus import has_cuda

T = TypeVar("T")

_loading = Lock()
_resident: dict[str, tuple[str, Any]] = {}
_counting = Lock()
_users: Counter[str] = Counter()


def devices() -> list[str]:
    """Where this process can run models, as torch names them: every visible CUDA device, or the CPU."""
    if not has_cuda():
        return ["cpu"]
    import torch

    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]


@contextmanager
def device_slot() -> Iterator[str]:
    """The device with the fewest users among this process's threads, counted as used within the context."""
    with _counting:
        chosen = min(devices(), key=lambda device: _users[device])
        _users[chosen] += 1
    try:
        yield chosen
    finally:
        with _counting:
            _users[chosen] -= 1


def resident(place: str, wanted: str, load: Callable[[], T]) -> T:
    """What `load` returned when `wanted` was last asked for in `place` (a device); other threads wait for it."""
    with _loading:
        if place in _resident and _resident[place][0] == wanted:
            found: T = _resident[place][1]
            return found
        if _resident.pop(place, None) is not None:
            _free()  # before loading: two may not fit
        loaded = load()
        _resident[place] = (wanted, loaded)
        return loaded


def release() -> None:
    """Drop every resident model: what runs next in this process, or on its GPUs, may need the memory."""
    with _loading:
        if _resident:
            _resident.clear()
            _free()


def _free() -> None:
    """Give back the memory of dropped models, some of which refer to themselves."""
    gc.collect()
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
