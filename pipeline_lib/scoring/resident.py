"""Scorers that stay in memory between the shards that one process scores: loaded once, shared by its threads.

One set per device, the last one asked for: another set takes its place, so that memory does not grow.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

from pipeline_lib.digest import canonical_json
from pipeline_lib.errors import ConfigError
from pipeline_lib.hub import HUB
from pipeline_lib.scoring import engine
from pipeline_lib.scoring.base import Scorer
from pipeline_lib.scoring.stage import Work

_loading = Lock()
_resident: dict[str, tuple[str, list[Scorer]]] = {}
_counting = Lock()
_users: Counter[str] = Counter()


def devices() -> list[str]:
    """Where this process can score, as torch names them: every visible CUDA device, or the CPU."""
    import torch

    return [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"]


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


def resident_scorers(work: Sequence[Work], mirror: str = HUB, device: str = "cpu") -> list[Scorer]:
    """The scorers of `work` on `device`, loaded on the first call; other threads wait for it.

    Raises:
        ConfigError: this machine finds other weights than the one that planned the work, or another precision, and
            its scores would not belong into the same tables.
        HubError, CheckpointError: as `engine.load_scorers`.
    """
    wanted = canonical_json([[item.scorer, item.identity, mirror] for item in work])
    with _loading:
        if device in _resident and _resident[device][0] == wanted:
            return _resident[device][1]
        _drop(device)  # before loading: two sets may not fit
        names = [item.scorer for item in work]
        found = engine.identities(names, mirror, device)
        if other := [item.scorer for item in work if found[item.scorer] != item.identity]:
            raise ConfigError(
                f"Weights or precision on this machine ({device}) are not those of the run: {', '.join(other)}.",
                "Give every machine the same weights and the same kind of device.",
            )
        _resident[device] = (wanted, engine.load_scorers(names, mirror, device))
        return _resident[device][1]


def release() -> None:
    """Drop every resident scorer: what runs next in this process, or on its GPUs, may need the memory."""
    with _loading:
        for device in list(_resident):
            _drop(device)


def _drop(device: str) -> None:
    if _resident.pop(device, None) is not None:
        gc.collect()
        if device != "cpu":
            import torch

            torch.cuda.empty_cache()
