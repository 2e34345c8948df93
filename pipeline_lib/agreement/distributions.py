"""How a scorer's scores are spread."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline_lib.core.store import Dataset

BINS = 40


def distribution(scores: Dataset) -> dict[str, Any]:
    """{count, mean, deviation, low, median, high, edges, bins} of the finite scores of a dataset.

    `bins[i]` of them lie between `edges[i]` and `edges[i + 1]`, of equal width from the lowest to the highest score.
    Only `count`, 0, where there are none (a dataset may hold preferences between images instead).
    """
    if not scores.tables():
        return {"count": 0}
    column = scores.scan().select("score").collect()["score"].to_numpy().astype(np.float64)
    values = column[np.isfinite(column)]
    if not len(values):
        return {"count": 0}
    bins, edges = np.histogram(values, bins=BINS)
    return {
        "count": len(values),
        "mean": float(values.mean()),
        "deviation": float(values.std()),
        "low": float(values.min()),
        "median": float(np.median(values)),
        "high": float(values.max()),
        "edges": [float(edge) for edge in edges],
        "bins": [int(amount) for amount in bins],
    }
