"""What a flow was given and cannot use, named in its first moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.chain.given import check_given
from pipeline_lib.core import store
from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.errors import (
    CheckpointError,
    ConfigError,
    DatasetUnfinishedError,
    HubError,
    ManifestError,
    PipelineError,
    UnknownNameError,
)
from pipeline_lib.data.ingest import ingest
from tests.pipeline_lib.models import tiny
from tests.pipeline_lib.source_files import image_bytes, row, write_source


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


@pytest.mark.parametrize(
    ("name", "content", "parameter", "words"),
    [
        ("p.txt", b"a caf\xe9\n", "prompts", "byte 5 is 0xe9"),
        ("p.csv", b"text\na red circle\n", "prompts", "no column 'Prompt'"),
        ("p.jsonl", b"\n", "prompts", "neither Parquet nor JSON"),
        ("s.csv", b"image_uid,scores\n0,1\n", "file", r"missing column\(s\) score"),
        ("s.json", b"{", "file", "neither Parquet nor JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_at_once(
    tmp_path: Path, name: str, content: bytes, parameter: str, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PipelineError, match=words):
        check_given(**{parameter: str(tmp_path / name)})  # type: ignore[arg-type]


def test_scores_labels_and_latents_of_other_pictures_are_refused(tmp_path: Path) -> None:
    def made(source: str, stage: str, *changes: dict[str, Any]) -> str:
        folder = write_source(tmp_path / source, [row(0, **change) for change in changes])
        pairs = ingest(str(tmp_path / "store"), IngestConfig(source=str(folder)))
        writer = store.writer(str(tmp_path / "store"), stage, 1, {}, [pairs])
        return pairs.uri if stage == "ingest" else writer.commit([writer.write_bytes("report.json", b"{}")]).uri

    pairs, other = made("a", "ingest", {}), {"jpg_0": image_bytes("another")}
    check_given(pairs=pairs, scores={"clip": made("a", "scores-clip", {})}, labels=made("a", "labels", {}))
    for given in (
        {"pairs": pairs, "scores": {"clip": made("b", "scores-clip", other)}},
        {"pairs": pairs, "labels": made("b", "labels", other)},
        {"labels": made("a", "labels", {}), "encoded": made("b", "encoded", other)},
    ):
        with pytest.raises(ConfigError, match=r"do not belong together: 1 of 2 image uids mean other pictures"):
            check_given(**given)  # type: ignore[arg-type]
    check_given(pairs=pairs, heldout=made("b", "ingest", other))
