"""Where stores are, and what can go wrong on the way there."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline_lib.core.disk import space
from pipeline_lib.core.errors import StoreError
from pipeline_lib.core.transport import transport_errors
from pipeline_lib.core.urls import local_path, refuse_elsewhere


@contextlib.contextmanager
def access(uri: str) -> Iterator[None]:
    """Turn the transport's exceptions into StoreError, except that a missing file stays FileNotFoundError.

    What is read from afar goes through the folder of temporary files: where that is full, DiskFullError.
    """
    try:
        with space(Path(tempfile.gettempdir())):
            yield
    except FileNotFoundError:
        raise
    except transport_errors(uri) as error:
        raise StoreError(
            f"Cannot access {uri}: {error}.", "Check free space, permissions, credentials and the endpoint."
        ) from error


def absolute(store: str) -> str:
    """A store URL that means the same from every working directory; raises ConfigError for one that no store is on."""
    refuse_elsewhere(store)
    return store.rstrip("/") if "://" in store else str(local_path(store).resolve())
