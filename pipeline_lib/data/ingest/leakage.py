"""Which prompts of this split also occur in the source's other splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from contextlib import suppress

import polars as pl
import pyarrow as pa

from pipeline_lib.core import schemas
from pipeline_lib.core.errors import UnreadableFileError
from pipeline_lib.core.store import DatasetWriter, Shard
from pipeline_lib.data.ingest import rows
from pipeline_lib.data.ingest.rows import OTHER_SPLIT
from pipeline_lib.data.ingest.units import captions
from pipeline_lib.data.ingest.work import read_work
from pipeline_lib.data.sources import Source, SourceFile
from pipeline_lib.data.sources.splits import canonical, same_split, split_of

PATH = "leakage/part-00000.parquet"


def leakage(
    w: DatasetWriter, source: Source, pairs: Sequence[Shard], own: Sequence[SourceFile], split: str
) -> list[Shard]:
    """The table `leakage`, one row per (other split, prompt that is there too); none where there are no other splits.

    Of the other splits only the captions are read; where a column says them, they are in the files `own` of this one.
    In memory are this split's unique prompts, not its pairs.
    Counts: `leaked-prompts:<split>`, and `leaked-pairs:<split>`, this split's pairs with such a prompt.
    """
    mixed = own if any(OTHER_SPLIT in shard.counts for shard in pairs) else ()
    if not source.others and not mixed:
        return []
    if stored := w.existing(PATH):
        return [stored]
    shown: Counter[str] = Counter()
    prompts: dict[str, str] = {}
    for shard in pairs:
        frame = read_work(w, shard.path, ["prompt_id", "prompt"])
        shown.update(frame["prompt_id"].to_list())
        prompts |= dict(frame.unique().iter_rows())
    found: list[tuple[str, str, str, int]] = []
    counts: dict[str, int] = {}
    for other, leaked in sorted(_leaked(source, mixed, split, prompts.keys(), counts).items()):
        found += [(other, prompt_id, prompts[prompt_id], shown[prompt_id]) for prompt_id in sorted(leaked)]
        counts[f"leaked-prompts:{other}"] = len(leaked)
        counts[f"leaked-pairs:{other}"] = sum(shown[prompt_id] for prompt_id in leaked)
    columns = list(zip(*found, strict=True)) or [()] * len(schemas.LEAKAGE)
    table = pa.table([pa.array(list(column)) for column in columns], names=schemas.LEAKAGE.names)
    return [w.write_table(PATH, schemas.conform(table, schemas.LEAKAGE, PATH), counts)]


def _leaked(
    source: Source, mixed: Sequence[SourceFile], split: str, prompts: Set[str], counts: dict[str, int]
) -> dict[str, set[str]]:
    """Other split -> which of `prompts` (ids) it has; files that cannot be read are counted."""
    found: dict[str, set[str]] = {}
    for other, files in source.others.items():
        leaked = found.setdefault(other, set())
        for file in files:
            try:
                for table in captions(file):
                    leaked |= rows.prompt_ids(table, file.name) & prompts
            except UnreadableFileError:
                counts[f"leakage-unread-files:{other}"] = counts.get(f"leakage-unread-files:{other}", 0) + 1
    for file in mixed:
        own = {split, split_of(file.name) or split}
        with suppress(UnreadableFileError):  # its rows are in the quarantine
            for table in captions(file):
                said = pl.Series("split", rows.splits_said(table, file.name) or [split] * len(table), pl.String)
                for other in said.unique().to_list():
                    if not any(same_split(other, name) for name in own):
                        leaked = rows.prompt_ids(table.filter((said == other).to_arrow()), file.name) & prompts
                        found.setdefault(canonical(other), set()).update(leaked)
    return found
