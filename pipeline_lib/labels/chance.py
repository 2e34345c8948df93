"""Random choices keyed by id: they depend on the seed and the id, not on row order, shards or library versions."""

from __future__ import annotations

import numpy as np
import polars as pl

_PRIME = np.uint64(0x100000001B3)
_OFFSET = np.uint64(0xCBF29CE484222325)


def keys(ids: pl.Series, seed: int, purpose: str) -> np.ndarray:
    """One uint64 per id, uniform: FNV-1a of purpose, seed and the id's bytes, then the finaliser of splitmix64.

    `purpose` makes the choices of different steps independent under the same seed.
    """
    raw = np.asarray(ids.to_list(), dtype=np.bytes_)
    columns = raw.view(np.uint8).reshape(len(raw), -1) if len(raw) else np.zeros((0, 0), np.uint8)
    state = _OFFSET
    with np.errstate(over="ignore"):
        for byte in f"{purpose}:{seed}:".encode():
            state = (state ^ np.uint64(byte)) * _PRIME
        hashed = np.full(len(columns), state)
        for column in columns.T:
            hashed = np.where(column, (hashed ^ column) * _PRIME, hashed)  # zeros only pad shorter ids
        hashed += np.uint64(0x9E3779B97F4A7C15)
        hashed = (hashed ^ (hashed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        hashed = (hashed ^ (hashed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return hashed ^ (hashed >> np.uint64(31))


def share(ids: pl.Series, among: np.ndarray, fraction: float, seed: int, purpose: str) -> np.ndarray:
    """A random subset of exactly round(fraction * n) of the n rows in `among` (bool); bool of the same length.

    Of two fractions under one seed the smaller subset is part of the larger.
    """
    candidates = np.flatnonzero(among)
    order = np.argsort(keys(ids, seed, purpose)[candidates], kind="stable")
    chosen = np.zeros(len(among), bool)
    chosen[candidates[order[: round(fraction * len(candidates))]]] = True
    return chosen
