"""A store's pins follow MLflow's registry: versions registered without one get it, deleted versions lose theirs."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from deploy.pins import agree
from pipeline_lib.core.garbage import garbage
from pipeline_lib.core.pins import pin
from pipeline_lib.core.store import Dataset, writer
from pipeline_lib.evaluation.stage import STAGE
from tasks.champion import EVALUATION_DIGEST, MODEL_DATASET, MODEL_DIGEST

NAME = "pinned-shapes"


def dataset(store: str, stage: str, number: int, *inputs: Dataset) -> Dataset:
    made = writer(store, stage, 1, {"number": number}, inputs)
    return made.commit([made.write_bytes("file", b"%d" % number)])


def register(server: MlflowClient, source: Path, model: Dataset, judged: Dataset) -> str:
    tags = {MODEL_DATASET: model.path(), MODEL_DIGEST: model.digest, EVALUATION_DIGEST: judged.digest}
    return str(server.create_model_version(NAME, str(source), tags=tags).version)


def test_pins_follow_the_registry(server: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = str(tmp_path / "store")
    models = [dataset(store, "model", number) for number in range(3)]
    judged = [dataset(store, STAGE, number, models[number]) for number in range(3)]
    elsewhere = str(tmp_path / "elsewhere")
    other = dataset(elsewhere, "model", 9)
    server.create_registered_model(NAME)
    versions = [register(server, tmp_path, *pair) for pair in zip(models[:2], judged[:2], strict=True)]
    register(server, tmp_path, other, dataset(elsewhere, STAGE, 9, other))
    kept = pin(NAME, [models[0], judged[0]])

    made, gone = agree(server, store)
    assert [source["uri"] for found in made for source in found.inputs] == [models[1].path(), judged[1].path()]
    assert gone == []
    assert [item.path for item in garbage(store)] == [judged[2].path()], "of the model that was never registered"
    assert agree(server, store) == ([], [])

    server.delete_model_version(NAME, versions[0])
    assert agree(server, store) == ([], kept)
    assert {item.path for item in garbage(store)} == {judged[0].path(), judged[2].path()}


def test_nothing_is_unpinned_while_a_manifest_cannot_be_read(
    server: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = str(tmp_path / "store")
    model = dataset(store, "model", 20)
    judged = dataset(store, STAGE, 20, model)
    kept = pin("unreadable-shapes", [model, judged])  # of no registered version
    manifest = Path(judged.uri, "manifest.json")
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:-20])
    assert agree(server, store) == ([], [])
    assert f"nothing is unpinned: {manifest} is not JSON" in caplog.text
    manifest.write_bytes(whole)
    assert agree(server, store) == ([], kept)
