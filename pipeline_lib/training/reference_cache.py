"""Errors of the frozen reference for each pair's fixed draws, computed when a draw first comes up and read afterwards.

With `TrainConfig.fixed_draws` a pair meets the same timestep, noise, posterior sample, flip and prompt again, so the
reference's errors on them are constants. They are in one memory-mapped file of 8 bytes per draw, shared by the
processes of a machine; a number that is not there yet is computed again, never guessed.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline_lib.training.batches import Batch


@dataclass(frozen=True)
class ReferenceCache:
    """Errors of images 0 and 1, fp32 [pairs, draws, 2]; NaN where they were not computed yet."""

    errors: np.memmap

    def read(self, batch: Batch) -> Tensor | None:
        """Errors [2, n] on the batch's device, or None when any is missing."""
        found = self.errors[batch.rows, batch.draws]
        if np.isnan(found).any():
            return None
        return torch.from_numpy(np.ascontiguousarray(found.T)).to(batch.labels.device)

    def complete(self) -> bool:
        """No error is missing, so the reference will not be run again."""
        return not np.isnan(self.errors).any()

    def write(self, batch: Batch, errors: Tensor) -> None:
        """Keep errors [2, n] of a batch."""
        self.errors[batch.rows, batch.draws] = errors.T.cpu().numpy()


def open_cache(path: Path, pairs: int, draws: int) -> ReferenceCache:
    """The cache at `path`, made empty where there is none; its name must identify the run."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        fresh = np.lib.format.open_memmap(scratch, mode="w+", dtype=np.float32, shape=(pairs, draws, 2))
        fresh[:] = np.nan
        fresh.flush()
        os.replace(scratch, path)
    return ReferenceCache(np.lib.format.open_memmap(path, mode="r+"))
