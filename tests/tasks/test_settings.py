"""Where state lies, and which failures are tried again."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError
from prefect.client.schemas.objects import State
from prefect.states import exception_to_failed_state
from prefect.utilities.asyncutils import run_coro_as_sync

from pipeline_lib.errors import ConfigError, HubError, StoreError, UnreadableFileError
from tasks import settings


def test_store_is_the_parameter_then_the_variable_then_the_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path))
    monkeypatch.delenv("PIPELINE_STORE", raising=False)
    assert settings.store_url(None) == str(tmp_path / "store")
    monkeypatch.setenv("PIPELINE_STORE", "s3://bucket/prefix/")
    assert settings.store_url(None) == "s3://bucket/prefix"
    assert settings.store_url(str(tmp_path / "mine")) == str(tmp_path / "mine")


def caused_by(error: Exception, cause: Exception | None) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (OSError("connection reset"), True),
        (caused_by(StoreError("cannot write", "free space"), OSError("no space")), True),
        (caused_by(StoreError("cannot read", "endpoint"), EndpointConnectionError(endpoint_url="http://x")), True),
        (caused_by(UnreadableFileError("damaged", "replace"), OSError("page")), False),
        (StoreError("no such table", "use one"), False),
        (caused_by(HubError("unreachable", "check"), OSError("down")), False),
        (ConfigError("bad value", "change it"), False),
        (ValueError("a bug"), False),
    ],
)
def test_only_io_is_retried(error: Exception, retried: bool) -> None:
    failed: State[object] | None = run_coro_as_sync(exception_to_failed_state(error))
    assert failed is not None
    condition = settings.IO_TASK["retry_condition_fn"]
    assert condition(None, None, failed) is retried
