"""Errors of the frozen reference for each pair's fixed draws, computed before the first step and read afterwards.

With `TrainConfig.fixed_draws` a pair meets the same timestep, noise, posterior sample, flip and prompt again, so the
reference's errors on them are constants. They are in one memory-mapped file of 8 bytes per draw, shared by the
processes of a machine, which a run that was interrupted goes on filling.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline_lib.training import checkpoints
from pipeline_lib.training.batches import Batch
from pipeline_lib.training.mapped import new_array


@dataclass(frozen=True)
class ReferenceCache:
    """Errors of images 0 and 1, fp32 [pairs, draws, 2]; NaN where they were not computed yet."""

    errors: np.memmap

    def missing(self, batch: Batch) -> bool:
        """Some error of the batch was not computed yet."""
        return bool(np.isnan(self.errors[batch.rows, batch.draws]).any())

    def read(self, batch: Batch) -> Tensor:
        """Errors [2, n] on the batch's device."""
        found = self.errors[batch.rows, batch.draws]
        return torch.from_numpy(np.ascontiguousarray(found.T)).to(batch.labels.device)

    def write(self, batch: Batch, errors: Tensor) -> None:
        """Keep errors [2, n] of a batch."""
        self.errors[batch.rows, batch.draws] = errors.T.cpu().numpy()


def open_cache(path: Path, pairs: int, draws: int) -> ReferenceCache:
    """The cache at `path`, made empty where there is none; its name must identify the run."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        with checkpoints.writing(path):
            fresh = new_array(scratch, np.float32, (pairs, draws, 2))
        fresh[:] = np.nan
        fresh.flush()
        os.replace(scratch, path)
    return ReferenceCache(np.lib.format.open_memmap(path, mode="r+"))
