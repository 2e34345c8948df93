"""A few images out of a dataset of millions, for pages that show them."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline_lib.core.store import Dataset, access


def read_images(ingested: Dataset, uids: Collection[str]) -> dict[str, bytes]:
    """Encoded bytes by uid, of those that the table "images" of an ingest dataset has.

    Reads the column of uids and then only the row groups that hold a wanted image: a shard's bytes can be gigabytes.
    They are not verified: what is trained on is read in another way.

    Raises:
        DatasetCorruptError: a shard is missing or cannot be read.
    """
    found: dict[str, bytes] = {}
    for shard in ingested.tables("images"):
        if len(found) == len(uids):
            break
        with access(ingested.uri):
            try:
                found |= _images(ingested, shard.path, uids)
            except (pa.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
                if isinstance(error, OSError) and error.errno is not None:  # the file system's, not Parquet's
                    raise
                raise ingested.corrupt([shard.path]) from error
    return found


def _images(ingested: Dataset, path: str, uids: Collection[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with ingested.peek(path) as file, pq.ParquetFile(file) as parquet:
        for group in range(parquet.num_row_groups):
            names = parquet.read_row_group(group, ["image_uid"]).column(0).to_pylist()
            places = [place for place, name in enumerate(names) if name in uids]
            if places:
                content = parquet.read_row_group(group, ["bytes"]).column(0)
                found |= {names[place]: content[place].as_py() for place in places}
    return found
