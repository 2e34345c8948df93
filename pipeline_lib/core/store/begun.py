"""Which code began a dataset: `.code.json` in the folder of one that is not finished, written before its first shard.

Shards that are there are kept, whatever code comes to continue them. Then the log says so, and the manifest records
the code that began: by the next run's, the dataset was made by other code.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Mapping

from fsspec.core import url_to_fs

from pipeline_lib import __version__
from pipeline_lib.core import code
from pipeline_lib.core.store.places import access
from pipeline_lib.core.transport import transport_errors

BEGUN = ".code.json"

logger = logging.getLogger(__name__)

_noted: set[str] = set()
"""URIs of datasets whose beginning this process has looked at."""


def begin(uri: str, path: str, ours: Mapping[str, str], write: Callable[[bytes], object], shards: bool) -> None:
    """Note by which code a dataset begins, or say that other code began it; once per process and dataset.

    Args:
        path: `stage/key`.
        ours: the modules here; where a stage names none, nothing is noted.
        write: publishes BEGUN.
        shards: there are some already, so that a missing note means unknown code.
    """
    if not ours or uri in _noted:
        return
    _noted.add(uri)
    began = read(uri)
    if began is None:
        began = {} if shards else {code.RELEASE: __version__, **ours}
        write(json.dumps(dict(began)).encode())
    if code.differing(began, ours):
        logger.warning(
            "%s was begun by other code (%s). It is continued; force=true begins it again by this code.",
            path,
            code.told(began, ours),
        )


def read(uri: str) -> dict[str, str] | None:
    """The modules that began a dataset: none that are known where the note is no JSON, None where there is no note."""
    fs, root = url_to_fs(uri)
    try:
        with access(uri):
            return dict(json.loads(fs.cat_file(f"{root}/{BEGUN}")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return {}


def end(uri: str) -> None:
    """Take the note away, as far as possible: the manifest has what it says."""
    _noted.discard(uri)
    fs, root = url_to_fs(uri)
    with contextlib.suppress(*transport_errors(uri)):
        fs.rm_file(f"{root}/{BEGUN}")
