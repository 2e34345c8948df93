"""JSON of others: whatever lies there, the error is typed and names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.errors import CheckpointError, ConfigError, PipelineError, StoreError
from pipeline_lib.core.json_files import LIMIT, json_value, parse_json, read_json
from pipeline_lib.evaluation.comparable import latents
from pipeline_lib.models.aligned import read_base
from pipeline_lib.models.components import folder, load_schedule, own_json
from pipeline_lib.shapes import HUB
from pipeline_lib.training import checkpoints
from pipeline_lib.training.launch.join import announced
from pipeline_lib.training.launch.spec import read_spec
from pipeline_lib.training.metrics import truncate

CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "blanks": b"\n\n",
    "zeros": bytes(512),
    "cut": b'{"_class_name": "StableDiffusion',
    "page": b"<!DOCTYPE html><title>404</title>",
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
    "latin-1": '{"a": "\xe9"}'.encode("latin-1"),
    "two": b"{} {}",
    "nested": b"[" * 200_000,
    "digits": b'{"a": ' + b"9" * 10_000 + b"}",
    "array": b"[1, 2]",
    "text": b'"a"',
    "number": b"3",
    "null": b"null",
    "large": b" " * (LIMIT + 1),
}


@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_no_object_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "model_index.json"
    path.write_bytes(CONTENTS[content])
    with pytest.raises(StoreError, match=r"model_index\.json") as refused:
        read_json(path, StoreError, "Fetch it again.")
    assert refused.value.remedy == "Fetch it again." and len(str(refused.value)) < 600


def test_a_file_that_is_not_there_or_is_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(CheckpointError, match=str(path)):
            read_json(path, CheckpointError, "Fetch it again.")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_in_the_encodings_of_its_standards_is_read(encoding: str) -> None:
    assert parse_json('{"a": "é☃"}'.encode(encoding), "x.json", ConfigError, "") == {"a": "é☃"}
    assert json_value('["é"]'.encode(encoding), "x.json", ConfigError, "") == ["é"]


def copied_base(root: Path) -> BaseModel:
    """The built-in base, of which files may be replaced."""
    shutil.copytree(HUB / "shapes/base", root / "shapes/base", ignore=shutil.ignore_patterns("*.safetensors"))
    for name in ("unet", "vae", "text_encoder"):
        for file in (HUB / "shapes/base" / name).glob("*.safetensors"):
            (root / "shapes/base" / name / file.name).symlink_to(file)
    return BaseModel(family="sd", repo="shapes/base", mirror=str(root))


READERS: dict[str, tuple[str, Callable[[BaseModel, Path], object]]] = {
    "index": ("model_index.json", lambda base, root: folder(base, ["unet"])),
    "own_json": ("model_index.json", lambda base, root: own_json(base, "model_index.json")),
    "scheduler": ("scheduler/scheduler_config.json", lambda base, root: load_schedule(base)),
    "unet": ("unet/config.json", lambda base, root: latents(base)),
    "vae": ("vae/config.json", lambda base, root: latents(base)),
    "base.json": ("base.json", lambda base, root: read_base(root)),
    "spec": ("spec.json", lambda base, root: read_spec(root / "spec.json")),
}


@pytest.mark.parametrize("content", ["empty", "cut", "page", "array", "null", "nested", "other"])
@pytest.mark.parametrize("reader", READERS)
def test_whoever_reads_one_refuses_it(tmp_path: Path, reader: str, content: str) -> None:
    base, (name, read) = copied_base(tmp_path), READERS[reader]
    root = tmp_path / "shapes/base"
    (root / name).unlink(missing_ok=True)
    (root / name).write_bytes(CONTENTS.get(content, b'{"family": 3, "train": []}'))
    if (reader, content) == ("own_json", "other"):
        assert read(base, root) == {"family": 3, "train": []}
        return
    with pytest.raises(PipelineError) as refused:
        read(base, root)
    assert name.rpartition("/")[2] in str(refused.value) or content == "other"


def test_base_json_is_read(tmp_path: Path) -> None:
    base = BaseModel(family="sdxl", repo="a/b")
    (tmp_path / "base.json").write_text(json.dumps(asdict(base)))
    assert read_base(tmp_path) == base


@pytest.mark.parametrize("content", CONTENTS)
def test_a_checkpoint_with_such_a_state_is_passed_over(tmp_path: Path, content: str) -> None:
    checkpoints.save(tmp_path, checkpoints.Checkpoint(1, "run", {}))
    newest = checkpoints.save(tmp_path, checkpoints.Checkpoint(2, "run", {}))
    (newest / "state.json").write_bytes(CONTENTS[content])
    found = checkpoints.latest(tmp_path, "run")
    assert found and found.step == 1


def test_a_state_without_digest_is_read_and_a_later_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = checkpoints.save(tmp_path, checkpoints.Checkpoint(1, "run", {}, {"refreshes": 2})) / "state.json"
    said: dict[str, Any] = json.loads(path.read_text())
    path.write_text(json.dumps({name: said[name] for name in ("step", "run", "scalars", "files")}))
    found = checkpoints.latest(tmp_path, "run")
    assert found and found.scalars == {"refreshes": 2}
    for changes in ({"version": 2}, {"digest": ""}, {"digest": None}, {"step": 2}):
        path.write_text(json.dumps({**said, **changes}))
        assert checkpoints.latest(tmp_path, "run") is None and str(path) in caplog.text
        caplog.clear()


@pytest.mark.parametrize("content", CONTENTS)
def test_machines_that_wait_for_a_training_join_nothing_else(tmp_path: Path, content: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/launch.json").write_bytes(CONTENTS[content])
    assert announced(tmp_path) == []
    (tmp_path / "run/launch.json").write_text('{"id": "a"}')
    assert announced(tmp_path) == []
    (tmp_path / "run/launch.json").write_text('{"id": "a", "processes": 2}')
    assert [(launch.id, launch.processes) for launch in announced(tmp_path)] == [("a", 2)]


def test_metrics_end_where_a_line_is_none(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for broken in ("null", "[1]", '{"loss": 1}', '{"step": "x"}', '{"st'):
        path.write_text(f'{{"step": 1}}\n{broken}\n{{"step": 2}}\n')
        truncate(path, 2)
        assert path.read_text() == '{"step": 1}\n'
