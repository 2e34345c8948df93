"""Batches: pairs in a seeded order, each with its own seeded noise.

Pair p of the run is pair order[p % n] of visit p // n, whichever process handles it. Its timestep, noise, posterior
sample, prompt dropout and flip come from a generator seeded by (seed, pair id, visit). So a run does not depend on
the number of processes, and continues exactly from its position alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline_lib.training.tables import Tables

_GOLDEN_RATIO = (5**0.5 - 1) / 2
_STRATA = 1  # tells this generator's seed from that of the order


@dataclass(frozen=True)
class Batch:
    """n pairs on the training device.

    Attributes:
        clean: latents of images 0, then of images 1, fp32 [2n, C, H, W].
        noise: shared by both images of a pair, fp32 [n, C, H, W].
        timesteps: shared by both, int64 [n].
        embeddings: one per pair, fp32 [n, tokens, width].
        pooled: fp32 [n, width], or None.
        labels: target, is_human, human, g_hat, weight, flipped, fp32 [6, n].
        rows: positions of the pairs in the tables, int64 [n], in host memory.
        draws: which of its draws of timestep, noise, flip and dropout each pair has, int64 [n], in host memory.
    """

    clean: Tensor
    noise: Tensor
    timesteps: Tensor
    embeddings: Tensor
    pooled: Tensor | None
    labels: Tensor
    rows: np.ndarray
    draws: np.ndarray


@dataclass
class Sampler:
    """Draws batches from `tables`.

    Attributes:
        timesteps: t is uniform on this range.
        dropout: probability that a pair gets the empty prompt.
        flip: probability that both images of a pair are mirrored.
        stratified: within a visit, timesteps follow the multiples of the golden ratio modulo 1 from a random start:
            any run of consecutive pairs is spread evenly, however the run is cut into batches.
        fixed_draws: K > 0 repeats a pair's first K draws in turn instead of drawing afresh at every visit.
    """

    tables: Tables
    seed: int
    timesteps: range
    dropout: float = 0.0
    flip: float = 0.0
    stratified: bool = False
    fixed_draws: int = 0
    _visit: int = -1
    _order: np.ndarray | None = None

    def batch(self, start: int, size: int, device: torch.device) -> Batch:
        """Pairs `start` .. `start + size - 1` of the run."""
        tables = self.tables
        shape = tables.moments.shape[2:]
        rows, draws, timesteps = (np.empty(size, np.int64) for _ in range(3))
        noise = np.empty((3, size, *shape), np.float32)
        dropped, mirrored = np.empty(size, bool), np.empty(size, bool)
        for i in range(size):
            visit, place = divmod(start + i, len(tables))
            rows[i] = self._row(visit, place)
            draws[i] = visit % self.fixed_draws if self.fixed_draws else visit
            draw = generator(self.seed, int(tables.keys[rows[i]]), int(draws[i]))
            timesteps[i] = draw.integers(self.timesteps.start, self.timesteps.stop)
            if self.stratified:
                timesteps[i] = self._stratum(visit, place)
            dropped[i] = draw.random() < self.dropout
            noise[:, i] = draw.standard_normal((3, *shape), np.float32)
            mirrored[i] = self.flip > 0 and draw.random() < self.flip
        images = tables.images[rows].T.reshape(-1)
        moments = tables.moments[images, :2].astype(np.float32)
        if mirrored.any():
            both = np.tile(mirrored, 2)
            moments[both] = tables.moments[images[both], 2:]
        clean = (moments[:, 0] + moments[:, 1] * noise[1:].reshape(-1, *shape)) * np.float32(tables.scaling_factor)
        prompts = np.where(dropped, tables.empty_prompt, tables.prompts[rows])
        pooled = None if tables.pooled is None else _tensor(tables.pooled[prompts].astype(np.float32), device)
        return Batch(
            clean=_tensor(clean, device),
            noise=_tensor(noise[0], device),
            timesteps=_tensor(timesteps, device),
            embeddings=_tensor(tables.embeddings[prompts].astype(np.float32), device),
            pooled=pooled,
            labels=_tensor(np.ascontiguousarray(tables.labels[:, rows]), device),
            rows=rows,
            draws=draws,
        )

    def _row(self, visit: int, place: int) -> int:
        if visit != self._visit or self._order is None:
            self._visit, self._order = visit, generator(self.seed, visit).permutation(len(self.tables))
        return int(self._order[place])

    def _stratum(self, visit: int, place: int) -> int:
        start = generator(self.seed, visit, _STRATA).random()
        share = (start + place * _GOLDEN_RATIO) % 1
        return self.timesteps[int(share * len(self.timesteps))]


def generator(*seed: int) -> np.random.Generator:
    """A counter-based generator of its own for each tuple of non-negative integers."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(array).to(device, non_blocking=True)
