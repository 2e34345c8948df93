"""A page with some pairs of the dataset, so that a person sees what was ingested. Same dataset, same bytes."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import fsspec
import polars as pl
import pyarrow.parquet as pq
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from pipeline_lib.images import decode
from pipeline_lib.store import DatasetWriter, Shard, access

PATH = "samples.html"
SAMPLES = 24
SHARDS_SHOWN = 6
"""Shards the samples come from, spread evenly over the dataset."""
IMAGES_READ = 64
"""Images read of each of them."""
THUMBNAIL = 256
PIXELATED_BELOW = 128

_PACKAGE = Path(__file__).parent
TEMPLATES = (_PACKAGE / "templates", _PACKAGE.parent / "evaluation" / "templates")  # the second has the style sheet


@dataclass(frozen=True)
class Side:
    """One image of a sample as the page shows it."""

    uri: str
    model: str | None
    verdict: str
    """"preferred", "tie", or "" for the loser and for unlabelled pairs."""
    pixelated: bool


def samples_page(w: DatasetWriter, split: str, shards: Sequence[Shard]) -> Shard:
    """Write the page; `shards` are all others of the dataset."""
    if stored := w.existing(PATH):
        return stored
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    counts: Counter[str] = Counter()
    for shard in shards:
        counts.update(shard.counts)
    page = environment.get_template("samples.html.j2").render(
        split=split,
        counts=counts,
        rejected=_by_prefix(counts, "rejected:"),
        leaked={
            split: (count, counts[f"leaked-pairs:{split}"]) for split, count in _by_prefix(counts, "leaked-prompts:")
        },
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
    image = decode(content)
    small = max(image.size) < PIXELATED_BELOW
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS, reducing_gap=1.0)
    out = io.BytesIO()
    kind = "png" if small else "jpeg"
    image.save(out, kind.upper(), quality=82)
    verdict = "preferred" if label == 1 else "tie" if label == 0.5 else ""
    return Side(f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}", model, verdict, small)
