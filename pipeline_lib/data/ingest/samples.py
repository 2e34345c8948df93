"""A page with some pairs of the dataset, so that a person sees what was ingested. Same dataset, same bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import fsspec
import polars as pl
import pyarrow.parquet as pq

from pipeline_lib.core.store import DatasetWriter, Shard, access
from pipeline_lib.reports import count, render

PATH = "samples.html"
SAMPLES = 24
SHARDS_SHOWN = 6
"""Shards the samples come from, spread evenly over the dataset."""
IMAGES_READ = 64
"""Images read of each of them."""


@dataclass(frozen=True)
class Side:
    """One image of a sample as the page shows it."""

    content: bytes
    model: str | None
    verdict: str
    """"preferred", "tie", or "" for the loser and for unlabelled pairs."""


def samples_page(w: DatasetWriter, split: str, shards: Sequence[Shard]) -> Shard:
    """Write the page; `shards` are all others of the dataset."""
    if stored := w.existing(PATH):
        return stored
    counts: Counter[str] = Counter()
    for shard in shards:
        counts.update(shard.counts)
    rejected = _by_prefix(counts, "rejected:")
    leaked = _by_prefix(counts, "leaked-prompts:")
    page = render(
        __package__,
        "samples.html.j2",
        split=split,
        counts=counts,
        rejected=sum(number for _, number in rejected),
        quarantine=[[reason, count(number)] for reason, number in rejected],
        leakage=[[other, count(number), count(counts[f"leaked-pairs:{other}"])] for other, number in leaked],
        samples=_samples(w, shards),
    )
    return w.write_bytes(PATH, page.encode())


def _by_prefix(counts: Counter[str], prefix: str) -> list[tuple[str, int]]:
    found = [(name.removeprefix(prefix), count) for name, count in counts.items() if name.startswith(prefix)]
    return sorted(found, key=lambda item: (-item[1], item[0]))


def _samples(w: DatasetWriter, shards: Sequence[Shard]) -> list[tuple[str, list[Side]]]:
    """(prompt, two sides) of pairs whose images are both at the head of their unit's shard."""
    stored = {shard.path for shard in shards}
    names = [s.path.removeprefix("pairs/") for s in shards if s.path.startswith("pairs/") and s.rows]
    names = [name for name in names if f"images/{name}" in stored]
    chosen = [names[i * len(names) // SHARDS_SHOWN] for i in range(SHARDS_SHOWN)] if names else []
    chosen = sorted(set(chosen))
    samples: list[tuple[str, list[Side]]] = []
    for i, name in enumerate(chosen):
        images = _head(w, f"images/{name}", IMAGES_READ, ["image_uid", "bytes"])
        content = dict(images.iter_rows())
        pairs = _head(w, f"pairs/{name}", IMAGES_READ, None)
        shown = pairs.filter(pl.col("image_0").is_in(list(content)) & pl.col("image_1").is_in(list(content)))
        # One pair of each prompt before second ones.
        again = pl.int_range(pl.len()).over("prompt_id")
        shown = shown.with_columns(again.alias("again")).sort("again", maintain_order=True)
        left = -(-(SAMPLES - len(samples)) // (len(chosen) - i))
        for row in shown.head(left).iter_rows(named=True):
            label = row["label_0"]
            samples.append(
                (
                    row["prompt"],
                    [
                        _side(content[row["image_0"]], row["model_0"], label),
                        _side(content[row["image_1"]], row["model_1"], None if label is None else 1 - label),
                    ],
                )
            )
    return samples


def _head(w: DatasetWriter, path: str, count: int, columns: list[str] | None) -> pl.DataFrame:
    """The first rows of a table; no more of it is read."""
    with (
        access(w.uri),
        fsspec.open(f"{w.uri}/{path}", "rb").open() as file,
        pq.ParquetFile(file) as parquet,
    ):
        batch = next(parquet.iter_batches(count, columns=columns), None)
        frame = pl.from_arrow(parquet.schema_arrow.empty_table() if batch is None else batch)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _side(content: bytes, model: str | None, label: float | None) -> Side:
    return Side(content, model, "preferred" if label == 1 else "tie" if label == 0.5 else "")
