"""How many rows go through a model at once: fixed on CPUs, by free memory and measured footprint on CUDA devices.

A CPU gains nothing from batches larger than its caches, and a fixed size keeps the bits of a score. A CUDA device
first runs PROBE rows twice, once to allocate what stays and once to measure what a row takes, and from then on as many
rows as fit in SHARE of the free memory. Out of memory halves the number, and the work goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from pipeline_lib.core.errors import ScoringError

CPU_ROWS = 16
PROBE = 16
MOST = 256
SHARE = 0.6

Model = Callable[..., Tensor]


class Batches:
    """The batch size of one model, learned while it is used."""

    def __init__(self) -> None:
        self.rows = CPU_ROWS
        self._warm: torch.device | None = None
        self._measured = False

    def run(self, model: Model, take: Callable[[slice], tuple[Any, ...]], rows: int) -> Tensor:
        """`model(*take(part))` for consecutive parts of `range(rows)`, joined; `rows` is at least 1.

        Raises:
            ScoringError: a single row does not fit in the device's memory.
        """
        done: list[Tensor] = []
        start = 0
        while start < rows:
            size = min(self.rows, rows - start)
            try:
                done.append(self._run(model, take(slice(start, start + size)), size))
            except torch.OutOfMemoryError as error:
                self._shrink(size, error)
                torch.cuda.empty_cache()
            else:
                start += size
        return done[0] if len(done) == 1 else torch.cat(done)

    def _run(self, model: Model, inputs: tuple[Any, ...], rows: int) -> Tensor:
        if self._measured or self._warm is None or rows < PROBE:
            result = model(*inputs)
            if result.is_cuda and rows >= PROBE:
                self._warm = result.device
            return result
        device = self._warm
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        result = model(*inputs)
        per_row = max(torch.cuda.max_memory_allocated(device) - before, rows) // rows
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        self.rows = fitting_rows(torch.cuda.mem_get_info(device)[0] + cached, per_row)
        self._measured = True
        return result

    def _shrink(self, size: int, error: Exception) -> None:
        if size == 1:
            raise ScoringError(
                f"One row of a scorer's input does not fit in the device's memory: {error}",
                "Free memory on the device, run fewer scorers at once, or use another device.",
            ) from error
        self.rows = min(self.rows, size // 2)


def fitting_rows(free: int, per_row: int) -> int:
    """Rows of `per_row` bytes that fit in SHARE of `free` bytes: 1 to MOST, a multiple of 8 from 8 on."""
    rows = min(max(int(SHARE * free) // per_row, 1), MOST)
    return rows - rows % 8 if rows >= 8 else rows


_known: WeakKeyDictionary[Model, Batches] = WeakKeyDictionary()
_lock = Lock()


def batches_of(model: Model) -> Batches:
    """The batch size of a model, the same object for the same function as long as that lives."""
    with _lock:
        return _known.setdefault(model, Batches())


def run(model: Model, take: Callable[[slice], tuple[Any, ...]], rows: int) -> Tensor:
    """`Batches.run` with the model's own batch size."""
    return batches_of(model).run(model, take, rows)
