"""Where preference pairs come from: Parquet files in the Pick-a-Pic schema, found through a URL.

`open_source` lists the files of one split and pins their versions; reading rows is the ingest stage's work.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline_lib.config import IngestConfig
from pipeline_lib.registry import Registry
from pipeline_lib.sources.files import Source, SourceFile

Opener = Callable[[IngestConfig], Source]

SOURCES: Registry[Opener] = Registry(
    "source",
    {
        "file": "pipeline_lib.sources.files:open_files",
        "s3": "pipeline_lib.sources.files:open_files",
        "hf": "pipeline_lib.sources.hub:open_hub",
        "shapes": "pipeline_lib.sources.builtin:open_builtin",
    },
)

__all__ = ["SOURCES", "Source", "SourceFile", "open_source"]


def open_source(config: IngestConfig) -> Source:
    """The files of `config.split` at `config.source`; the URL's scheme chooses the opener, a plain path is local.

    Raises:
        SourceError: nothing there, no Parquet, or not the split asked for.
        HubError: the hub cannot be reached, or the repository or revision does not exist.
        UnknownNameError: a URL scheme without an opener.
    """
    scheme = config.source.partition("://")[0] if "://" in config.source else "file"
    return SOURCES.get(scheme)(config)
