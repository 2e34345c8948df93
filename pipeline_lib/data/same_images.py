"""Whether two datasets are about the same pictures: uids alone do not say it, as every generator counts from img_0."""

from __future__ import annotations

from pipeline_lib.core.errors import DatasetUnfinishedError
from pipeline_lib.core.lineage import store_of
from pipeline_lib.core.store import Dataset, open_dataset

INGEST = "ingest"


def other_images(one: Dataset, other: Dataset) -> str:
    """What speaks against using two datasets together; "" where nothing does.

    Both are ingests, or were made from one. It is the same one, or one with the same bytes under every uid that both
    have, such as more rows of the same source. A dataset whose manifest names no ingest is not looked at.
    """
    known = _ingest_of(one), _ingest_of(other)
    if known[0] is None or known[1] is None or known[0][1] == known[1][1]:
        return ""
    images = []
    for path, digest, store in (known[0], known[1]):
        try:
            found = open_dataset(f"{store}/{path}")
        except DatasetUnfinishedError:
            found = None
        if found is None or found.digest != digest:
            return f"{path}, from which one of them was made, is not there any more"
        images.append(found.scan("images").select("image_uid", "sha256"))
    shared = images[0].join(images[1], on="image_uid", suffix="_other").collect()
    if shared.is_empty():
        return f"{known[0][0]} and {known[1][0]} have no image in common"
    if differing := int((shared["sha256"] != shared["sha256_other"]).sum()):
        return f"{differing} of {len(shared)} image uids mean other pictures in {known[0][0]} than in {known[1][0]}"
    return ""


def _ingest_of(dataset: Dataset) -> tuple[str, str, str] | None:
    """Path, digest and store of the ingest that a dataset is, or was made from."""
    store = store_of(dataset)
    if dataset.stage == INGEST:
        return dataset.path(), dataset.digest, store
    for source in dataset.inputs:
        if source["uri"].startswith(f"{INGEST}/"):
            return source["uri"], source["digest"], store
    return None
