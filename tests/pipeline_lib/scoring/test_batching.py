"""Batch sizes: parts joined in order, halved when memory runs out, chosen from what a row takes."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.core.errors import ScoringError
from pipeline_lib.scoring.batching import CPU_ROWS, MOST, Batches, batches_of, fitting_rows, run


def test_parts_are_joined_in_order() -> None:
    seen: list[int] = []

    def model(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return rows * 2

    rows = torch.arange(CPU_ROWS * 2 + 5)
    assert torch.equal(run(model, lambda part: (rows[part],), len(rows)), rows * 2)
    assert seen == [CPU_ROWS, CPU_ROWS, 5]
    assert batches_of(model) is batches_of(model)


def test_out_of_memory_halves_and_goes_on() -> None:
    tried: list[int] = []

    def model(rows: torch.Tensor) -> torch.Tensor:
        tried.append(len(rows))
        if len(rows) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return rows + 1

    batches = Batches()
    rows = torch.arange(11)
    assert torch.equal(batches.run(model, lambda part: (rows[part],), len(rows)), rows + 1)
    assert tried == [11, 5, 2, 2, 2, 2, 2, 1]
    assert batches.rows == 2
    assert torch.equal(batches.run(model, lambda part: (rows[part],), 3), rows[:3] + 1)
    assert tried[8:] == [2, 1], "what was learned stays"


def test_a_row_that_does_not_fit_is_an_error() -> None:
    def model(rows: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ScoringError, match="One row"):
        Batches().run(model, lambda part: (torch.zeros(1),), 1)


@pytest.mark.parametrize(
    ("free", "per_row", "rows"),
    [(80 << 30, 200 << 20, 240), (80 << 30, 1, MOST), (1 << 30, 100 << 20, 6), (1 << 30, 8 << 30, 1), (0, 1, 1)],
)
def test_rows_that_fit(free: int, per_row: int, rows: int) -> None:
    assert fitting_rows(free, per_row) == rows


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_footprint_is_measured_on_cuda() -> None:
    def model(rows: torch.Tensor) -> torch.Tensor:
        return rows.repeat(1, 1 << 20).sum(1)

    batches = Batches()
    rows = torch.ones(1024, 8, device="cuda")
    assert batches.run(model, lambda part: (rows[part],), len(rows)).shape == (1024,)
    assert batches.rows == MOST or batches.rows % 8 == 0
    assert batches.rows != CPU_ROWS
