"""Datasets on the hub (`hf://datasets/<org>/<name>[@<revision>][/<split>]`), read by range requests as needed."""

from __future__ import annotations

import re

from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.errors import SourceError
from pipeline_lib.core.hub import hub_errors
from pipeline_lib.data.sources.columns import is_data
from pipeline_lib.data.sources.files import Source, SourceFile, split_source

TIMEOUT = 20.0
"""Seconds to wait for the hub's answer when listing."""

_URL = re.compile(r"^hf://datasets/(?P<repo>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?(/(?P<split>[^/]+))?/?$")


def open_hub(config: IngestConfig) -> Source:
    """One split of a hub dataset, its revision resolved to the commit, so that later pushes change nothing.

    A split in the URL wins over `config.split`. The token comes from the environment (`HF_TOKEN`).
    A revision with a slash is written with %2F (`refs%2Fconvert%2Fparquet`), as in the hub's own URLs.
    """
    match = _URL.match(config.source)
    if not match:
        raise SourceError(
            f"{config.source} is not a hub dataset URL.", "Write hf://datasets/<org>/<name>[@<revision>][/<split>]."
        )
    from huggingface_hub import HfApi

    repo, revision = match["repo"], (match["revision"] or "main").replace("%2F", "/")
    split = match["split"] or config.split
    with hub_errors(f"datasets/{repo}@{revision}"):
        info = HfApi().dataset_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT)
    files = [
        SourceFile(
            name=sibling.rfilename,
            uri=f"hf://datasets/{repo}@{info.sha}/{sibling.rfilename}",
            size=sibling.size or 0,
            version=str(sibling.lfs.sha256 if sibling.lfs else sibling.blob_id),
        )
        for sibling in info.siblings or []
        if is_data(sibling.rfilename)
    ]
    return split_source(f"hf://datasets/{repo}@{info.sha}", split, files)
