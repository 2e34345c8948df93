"""Where preference pairs come from: Parquet files in the Pick-a-Pic schema, found through a URL.

`open_source` lists the files of one split and pins their versions; reading rows is the ingest stage's work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.registry import Registry
from pipeline_lib.core.urls import refuse_login
from pipeline_lib.data.sources.files import Source, SourceFile

if TYPE_CHECKING:
    import polars as pl

Opener = Callable[[IngestConfig], Source]

SOURCES: Registry[Opener] = Registry(
    "source",
    {
        "file": "pipeline_lib.data.sources.listing:open_files",
        "s3": "pipeline_lib.data.sources.listing:open_files",
        "hf": "pipeline_lib.data.sources.hub:open_hub",
        "shapes": "pipeline_lib.data.sources.builtin:open_builtin",
    },
    group="readers",
)

TRUTHS: Registry[Callable[[], pl.DataFrame]] = Registry("truth", {"shapes": "pipeline_lib.data.sources.builtin:truth"})
"""Schemes of sources that know how good their images are -> table of image_uid, prompt_id, utility (float32)."""

__all__ = ["SOURCES", "Source", "SourceFile", "known_truth", "open_source"]


def open_source(config: IngestConfig) -> Source:
    """The files of `config.split` at `config.source`; the URL's scheme chooses the opener, a plain path is local.

    Raises:
        ConfigError: a login in the URL.
        SourceError: nothing there, no Parquet, or not the split asked for.
        HubError: the hub cannot be reached, or the repository or revision does not exist.
        UnknownNameError: a URL scheme without an opener.
    """
    return SOURCES.get(_scheme(refuse_login(config.source)))(config)


def known_truth(url: str) -> pl.DataFrame | None:
    """How good every image of a source truly is for its prompt, where the source knows: a table of `TRUTHS`."""
    scheme = _scheme(url)
    return TRUTHS.get(scheme)() if scheme in TRUTHS else None


def _scheme(url: str) -> str:
    return url.partition("://")[0] if "://" in url else "file"
