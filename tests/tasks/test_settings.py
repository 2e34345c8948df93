"""Where state lies, which places a run may be told of, and which failures are tried again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from botocore.exceptions import EndpointConnectionError
from prefect.client.schemas.objects import State
from prefect.states import exception_to_failed_state
from prefect.utilities.asyncutils import run_coro_as_sync

from flows import (
    agreement,
    align,
    compare,
    encode,
    evaluate,
    import_scores,
    ingest,
    label,
    register,
    score,
    self_training,
    sweep,
    train,
)
from pipeline_lib.core.errors import ConfigError, DatasetCorruptError, HubError, StoreError, UnreadableFileError
from tasks import settings

FLOWS: list[Any] = [
    agreement.agreement,
    align.align,
    compare.compare,
    encode.encode,
    evaluate.evaluate,
    import_scores.import_scores,
    ingest.ingest,
    label.label,
    register.register,
    score.score,
    self_training.self_training,
    sweep.sweep,
    *train.TRAINING_FLOWS.values(),
]
PLACES = {"agreement", "base", "encoded", "evaluation", "file", "heldout", "labels", "model", "models", "pairs"}
PLACES |= {"prompts", "reference", "scores", "source", "store", "weights"}
# Names of the same parameters elsewhere: of generators, and of a setting.
NAMES = {("ingest", "models"), ("sweep", "reference")}


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
        (caused_by(DatasetCorruptError("a file is missing", "run its stage"), FileNotFoundError("part-0")), False),
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


def test_no_flow_is_told_to_read_an_address_that_no_store_is_on() -> None:
    """Prefect's server compares what a run is created with with these schemas."""
    asked = set()
    for flow in FLOWS:
        schema = flow.parameters.model_dump()
        for name in PLACES & {name for name in schema["properties"] if (flow.name, name) not in NAMES}:
            only = {"properties": {name: schema["properties"][name]}, "definitions": schema["definitions"]}
            value = "http://127.0.0.1:9/x"
            shapes: list[Any] = [value, [value], {"clip": value}]
            for shape in shapes:
                with pytest.raises(jsonschema.ValidationError):
                    jsonschema.validate({name: shape}, only)
            asked.add(name)
    assert asked == PLACES


@pytest.mark.parametrize("folder", ["file", "file/below", "/proc"])
def test_a_state_folder_that_cannot_be_used_is_told_in_words(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / folder))
    with pytest.raises(ConfigError, match=r"The state folder .* cannot be used[\s\S]*PIPELINE_STATE"):
        settings.state_place("locks")
