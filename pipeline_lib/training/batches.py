"""Batches: pairs in a seeded order, each with its own seeded noise.

Pair p of the run is pair order[p % n] of visit p // n, whichever process handles it. Its timestep, noise, posterior
sample and prompt dropout come from a generator seeded by (seed, pair id, visit). So a run does not depend on the
number of processes, and continues exactly from its position alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline_lib.training.tables import Tables


@dataclass(frozen=True)
class Batch:
    """n pairs on the training device.

    Attributes:
        clean: latents of images 0, then of images 1, fp32 [2n, C, H, W].
        noise: shared by both images of a pair, fp32 [n, C, H, W].
        timesteps: shared by both, int64 [n].
        embeddings: one per pair, fp32 [n, tokens, width].
        pooled: fp32 [n, width], or None.
        labels: target, is_human, human, g_hat, weight, fp32 [5, n].
    """

    clean: Tensor
    noise: Tensor
    timesteps: Tensor
    embeddings: Tensor
    pooled: Tensor | None
    labels: Tensor


@dataclass
class Sampler:
    """Draws batches from `tables`.

    Attributes:
        timesteps: number of timesteps T; t is uniform on 0..T-1.
        dropout: probability that a pair gets the empty prompt.
    """

    tables: Tables
    seed: int
    timesteps: int
    dropout: float
    _visit: int = -1
    _order: np.ndarray | None = None

    def batch(self, start: int, size: int, device: torch.device) -> Batch:
        """Pairs `start` .. `start + size - 1` of the run."""
        tables = self.tables
        shape = tables.moments.shape[2:]
        pairs = np.empty(size, np.int64)
        timesteps = np.empty(size, np.int64)
        noise = np.empty((3, size, *shape), np.float32)
        dropped = np.empty(size, bool)
        for i in range(size):
            visit, place = divmod(start + i, len(tables))
            pairs[i] = self._pair(visit, place)
            draw = generator(self.seed, int(tables.keys[pairs[i]]), visit)
            timesteps[i] = draw.integers(self.timesteps)
            dropped[i] = draw.random() < self.dropout
            noise[:, i] = draw.standard_normal((3, *shape), np.float32)
        moments = tables.moments[tables.images[pairs].T.reshape(-1)].astype(np.float32)
        clean = (moments[:, 0] + moments[:, 1] * noise[1:].reshape(-1, *shape)) * np.float32(tables.scaling_factor)
        prompts = np.where(dropped, tables.empty_prompt, tables.prompts[pairs])
        pooled = None if tables.pooled is None else _tensor(tables.pooled[prompts].astype(np.float32), device)
        return Batch(
            clean=_tensor(clean, device),
            noise=_tensor(noise[0], device),
            timesteps=_tensor(timesteps, device),
            embeddings=_tensor(tables.embeddings[prompts].astype(np.float32), device),
            pooled=pooled,
            labels=_tensor(np.ascontiguousarray(tables.labels[:, pairs]), device),
        )

    def _pair(self, visit: int, place: int) -> int:
        if visit != self._visit or self._order is None:
            self._visit, self._order = visit, generator(self.seed, visit).permutation(len(self.tables))
        return int(self._order[place])


def generator(*seed: int) -> np.random.Generator:
    """A counter-based generator of its own for each tuple of non-negative integers."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(array).to(device, non_blocking=True)
