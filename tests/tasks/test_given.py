"""What a flow was given and cannot use, named in its first moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline_lib import store
from pipeline_lib.errors import (
    CheckpointError,
    ConfigError,
    DatasetUnfinishedError,
    HubError,
    ManifestError,
    PipelineError,
    UnknownNameError,
)
from tasks.given import check_given
from tests.pipeline_lib.models import tiny


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"pairs": "/no/such"}, DatasetUnfinishedError, "pairs: No finished dataset"),
        ({"scores": {"clip": "/no/such"}}, DatasetUnfinishedError, "scores, 'clip': "),
        ({"models": ["/no/such"]}, DatasetUnfinishedError, "models: "),
        ({"labels": "a\0b"}, ConfigError, "NUL"),
        ({"pairs": "~nobody-here/x"}, ConfigError, "home"),
        ({"pairs": "y" * 300}, ConfigError, "is no path"),
        ({"base": "no-such-thing"}, ConfigError, "names no base model"),
        ({"weights": "/no/such"}, HubError, "no mirror"),
        ({"prompts": "shapes-tst"}, UnknownNameError, "shapes-test"),
        ({"prompts": "shapes-test", "num_prompts": 10**6}, ConfigError, "num_prompts"),
        ({"scorers": ["clipp"]}, UnknownNameError, "'clip'"),
        ({"file": "/no/such.parquet"}, ConfigError, "There is no file"),
    ],
)
def test_what_there_is_not_is_named(given: dict[str, Any], error: type[PipelineError], words: str) -> None:
    with pytest.raises(error, match=words):
        check_given(**given)


def test_a_dataset_of_another_stage_is_refused(tmp_path: Path) -> None:
    writer = store.writer(str(tmp_path), "labels", 1, {})
    labels = writer.commit([writer.write_bytes("report.json", b"{}")]).uri
    check_given(labels=labels, pairs=None, base="org/name@main", weights="hub", prompts="heldout")
    with pytest.raises(ConfigError, match=r"(?s)pairs: .* of the stage labels.*stage ingest"):
        check_given(pairs=labels)
    with pytest.raises(ConfigError, match=r"scores-<scorer>"):
        check_given(scores={"clip": labels})


@pytest.mark.parametrize("content", ["", "{", "[]", '{"layers": []}', '{"manifest_version": 2}'])
def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path, content: str) -> None:
    writer = store.writer(str(tmp_path), "labels", 1, {})
    manifest = Path(writer.commit([]).uri, "manifest.json")
    manifest.write_text(content)
    with pytest.raises(ManifestError, match=f"labels: {manifest}"):
        check_given(labels=writer.uri)


def test_every_weight_of_a_folder_is_looked_at(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    tiny.write_sd(folder)
    check_given(base=str(folder))
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-4] + b"\xff\xff\xff\xff")
    with pytest.raises(CheckpointError, match=r"unet/.* holds NaN or infinity"):
        check_given(base=str(folder))
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(CheckpointError, match=r"(?s)unet has its weights as .*\.bin only.*convert the model once"):
        check_given(base=str(folder))
