"""Random choices keyed by id: they depend on the seed and the id, not on row order, shards or library versions."""

from __future__ import annotations

import numpy as np
import polars as pl

_PRIME = np.uint64(0x100000001B3)
_OFFSET = np.uint64(0xCBF29CE484222325)
_CHUNK = 32_768
"""Ids hashed at a time: what is worked on stays in the processor's cache."""


def keys(ids: pl.Series, seed: int, purpose: str) -> np.ndarray:
    """One uint64 per id, uniform: FNV-1a of purpose, seed and the id's bytes, then the finaliser of splitmix64.

    `purpose` makes the choices of different steps independent under the same seed.
    """
    state = _OFFSET
    with np.errstate(over="ignore"):
        for byte in f"{purpose}:{seed}:".encode():
            state = (state ^ np.uint64(byte)) * _PRIME
        chunks = [_keys(ids.slice(at, _CHUNK), state) for at in range(0, len(ids), _CHUNK)]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.uint64)


def _keys(ids: pl.Series, state: np.uint64) -> np.ndarray:
    hashed = np.full(len(ids), state)
    for column in _bytes(ids):
        if column.all():
            hashed ^= column
            hashed *= _PRIME
        else:
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
    count = round(fraction * len(candidates))
    chosen = np.zeros(len(among), bool)
    if count:
        ours = ids if len(candidates) == len(ids) else ids.gather(candidates)
        smallest = np.argpartition(keys(ours, seed, purpose), count - 1)[:count]
        chosen[candidates[smallest]] = True
    return chosen


def stratified_share(
    ids: pl.Series, among: np.ndarray, strata: pl.Series, fraction: float, seed: int, purpose: str
) -> np.ndarray:
    """Like `share`, and spread over the strata: of the n rows of a stratum, fraction * n within one.

    Rows are put into one line, stratum after stratum, in random order within each; every 1/fraction-th is taken.
    """
    candidates = np.flatnonzero(among)
    n, ours = len(candidates), ids.gather(candidates)
    count = round(fraction * n)
    line = np.lexsort((keys(ours, seed, purpose), keys(strata.gather(candidates), seed, f"{purpose}-strata")))
    place = np.arange(n)
    taken = (place + 1) * count // max(n, 1) > place * count // max(n, 1)
    chosen = np.zeros(len(among), bool)
    chosen[candidates[line[taken]]] = True
    return chosen


def _bytes(ids: pl.Series) -> np.ndarray:
    """The ids' UTF-8 bytes, one row per position, uint8 [longest, ids]; zeros after an id's end."""
    lengths = ids.str.len_bytes().to_numpy()
    longest = int(lengths.max()) if len(ids) else 0
    flat = np.frombuffer(ids.str.join("").item().encode(), np.uint8) if len(ids) else np.zeros(0, np.uint8)
    if len(ids) and (lengths == longest).all():
        return np.ascontiguousarray(flat.reshape(len(ids), longest).T)
    padded = np.zeros((len(ids), longest), np.uint8)
    padded[np.arange(longest) < lengths[:, None]] = flat
    return np.ascontiguousarray(padded.T)
