"""Which prompts of this split also occur in the source's other splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from pipeline_lib import schemas
from pipeline_lib.errors import UnreadableFileError
from pipeline_lib.ingest import rows
from pipeline_lib.ingest.units import captions
from pipeline_lib.ingest.work import read_work
from pipeline_lib.sources import Source
from pipeline_lib.store import DatasetWriter, Shard

PATH = "leakage/part-00000.parquet"


def leakage(w: DatasetWriter, source: Source, pairs: Sequence[Shard]) -> list[Shard]:
    """The table `leakage`, one row per (other split, prompt that is there too); none where there are no other splits.

    Of the other splits only the captions are read. In memory are this split's unique prompts, not its pairs.
    Counts: `leaked-prompts:<split>`, and `leaked-pairs:<split>`, this split's pairs with such a prompt.
    """
    if not source.others:
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
    for split, files in sorted(source.others.items()):
        leaked: set[str] = set()
        for file in files:
            try:
                for table in captions(file):
                    leaked |= rows.prompt_ids(table, file.name) & prompts.keys()
            except UnreadableFileError:
                counts[f"leakage-unread-files:{split}"] = counts.get(f"leakage-unread-files:{split}", 0) + 1
        found += [(split, prompt_id, prompts[prompt_id], shown[prompt_id]) for prompt_id in sorted(leaked)]
        counts[f"leaked-prompts:{split}"] = len(leaked)
        counts[f"leaked-pairs:{split}"] = sum(shown[prompt_id] for prompt_id in leaked)
    columns = list(zip(*found, strict=True)) or [()] * len(schemas.LEAKAGE)
    table = pa.table([pa.array(list(column)) for column in columns], names=schemas.LEAKAGE.names)
    return [w.write_table(PATH, schemas.conform(table, schemas.LEAKAGE, PATH), counts)]
