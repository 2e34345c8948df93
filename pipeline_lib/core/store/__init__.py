"""Datasets: the one mechanism every stage reads from and writes to.

A dataset is a folder `<store>/<stage>/<key>/` on a disk or on S3, holding shards and, written last, `manifest.json`.
The key is a digest of the question (stage, schema version, config, input digests), so the same question has one
folder: a finished one is reused, an unfinished one continued shard by shard, and no config touches another one's data.
What is read is verified: its bytes are those that the manifest names.
"""

from pipeline_lib.core.store.dataset import Dataset, check, open_dataset, verify
from pipeline_lib.core.store.manifest import KEY_LENGTH, MANIFEST, Shard
from pipeline_lib.core.store.places import absolute, access
from pipeline_lib.core.store.writing import DatasetWriter, writer

__all__ = [
    "KEY_LENGTH",
    "MANIFEST",
    "Dataset",
    "DatasetWriter",
    "Shard",
    "absolute",
    "access",
    "check",
    "open_dataset",
    "verify",
    "writer",
]
