"""Ancestors of a dataset: all of them, each once; what is gone or changed is left out."""

import shutil
from pathlib import Path

from pipeline_lib.core.lineage import lineage, store_of
from pipeline_lib.core.store import Dataset, open_dataset, writer
from pipeline_lib.evaluation.background import background


def made(store: Path, stage: str, *inputs: Dataset, page: str | None = None, **config: object) -> Dataset:
    w = writer(str(store), stage, 1, config, inputs)
    return w.commit([w.write_bytes(page or "file", f"{stage} {config}".encode())])


def test_every_ancestor_once_and_results_first(tmp_path: Path) -> None:
    source = made(tmp_path, "ingest")
    scores, encoded = made(tmp_path, "scores", source), made(tmp_path, "encoded", source)
    model = made(tmp_path, "model", encoded, made(tmp_path, "labels", source, scores))
    found = lineage([open_dataset(model.uri), source])
    assert [dataset.stage for dataset in found] == ["model", "ingest", "encoded", "labels", "scores"]
    assert store_of(model) == str(tmp_path)


def test_what_is_gone_or_changed_is_left_out(tmp_path: Path) -> None:
    first, second = made(tmp_path, "ingest", limit=1), made(tmp_path, "ingest", limit=2)
    model = made(tmp_path, "model", first, second)
    shutil.rmtree(first.uri)
    assert lineage([model]) == [model, second]
    shutil.copytree(second.uri, first.uri)  # another dataset under its name
    assert lineage([model]) == [model, second]


def test_pages_are_linked_in_the_same_store_only(tmp_path: Path) -> None:
    here = made(tmp_path / "here", "ingest", page="samples.html")
    found = background(str(tmp_path / "here"), [here, made(tmp_path / "there", "ingest", page="samples.html", seed=1)])
    assert [entry["page"] for entry in found["lineage"]] == [f"{here.path()}/samples.html", None]
    assert found["labels"] == []
