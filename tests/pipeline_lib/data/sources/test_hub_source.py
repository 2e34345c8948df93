"""The hub source through the real hub client, against a server on loopback that speaks the hub's HTTP API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.errors import HubError, PipelineError, SourceError
from pipeline_lib.data.ingest import ingest, plan, start
from tests.pipeline_lib.hub_server import COMMIT, Hub, serve
from tests.pipeline_lib.source_files import row, write_file

REPO = "org/pairs"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server, made the client's endpoint, whose repository holds two splits in files of several row groups."""
    folder = tmp_path / "repo"
    for i in range(2):
        rows = [row(j) for j in range(6 * i, 6 * i + 6)]
        write_file(folder / f"data/train-{i:05d}-of-00002.parquet", rows)
    write_file(folder / "data/validation-00000-of-00001.parquet", [row(99)])
    (folder / "README.md").write_text("pairs")
    with serve(monkeypatch, REPO, folder):
        yield


@pytest.mark.usefixtures("hub")
def test_hub_dataset_equals_the_same_files_on_disk(tmp_path: Path) -> None:
    dataset = ingest(str(tmp_path / "store"), IngestConfig(source=f"hf://datasets/{REPO}@v2"))
    local = ingest(str(tmp_path / "local"), IngestConfig(source=str(Hub.folder)))
    assert dataset.digest == local.digest
    assert dataset.counts == local.counts
    assert dataset.config["source"] == f"hf://datasets/{REPO}@{COMMIT}"
    assert [name for name, _, _ in dataset.config["files"]] == [f"data/train-0000{i}-of-00002.parquet" for i in (0, 1)]
    reads = [wanted for method, path, wanted in Hub.log if "resolve" in path and method == "GET"]
    assert reads and all(wanted.startswith("bytes=") for wanted in reads), "a file was downloaded whole"
    branch = ingest(str(tmp_path / "store"), IngestConfig(source=f"hf://datasets/{REPO}"))
    assert branch.uri == dataset.uri, "a branch and a tag at the same commit are the same question"


@pytest.mark.usefixtures("hub")
def test_split_in_the_url_wins(tmp_path: Path) -> None:
    dataset = ingest(str(tmp_path / "store"), IngestConfig(source=f"hf://datasets/{REPO}@main/validation"))
    assert dataset.scan("pairs").collect()["split"].to_list() == ["validation"]


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (f"hf://datasets/{REPO}@v9", HubError, "org/pairs@v9: the hub has the repository but not this revision"),
        ("hf://datasets/org/other", HubError, "org/other@main does not exist on the hub, or is private"),
        (f"hf://datasets/{REPO}/test", SourceError, "has no files of split 'test'"),
    ],
)
def test_what_the_hub_does_not_have_is_a_typed_error(
    tmp_path: Path, source: str, error: type[PipelineError], message: str
) -> None:
    with pytest.raises(error, match=message):
        ingest(str(tmp_path), IngestConfig(source=source))


@pytest.mark.usefixtures("hub")
def test_hub_that_goes_away_while_reading_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = start(str(tmp_path), IngestConfig(source=f"hf://datasets/{REPO}"))
    monkeypatch.setattr(Hub, "content", lambda self, path: self.json({"error": "gone"}, 404))
    with pytest.raises(SourceError, match=r"Cannot (open|read) hf://datasets/org/pairs@0123456789abcdef"):
        plan(job)
