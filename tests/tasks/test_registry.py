"""MLflow's registry on a real SQLite store: one version per model and evaluation, aliases, tags."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import mlflow
import psutil
import pytest
from mlflow import MlflowClient

from pipeline_lib.core.config import BaseModel, TrainConfig
from tasks import registry, tracking

BASE = BaseModel(family="sd", repo="tiny/base")
CONFIG = TrainConfig(method="diffusion-dpo", steps=3)
TAGS = {"pipeline.model_digest": "d1", "pipeline.evaluation_digest": "e1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline/model_index.json").write_text("{}")
    return tmp_path / "pipeline"


def test_versions_aliases_and_tags(server: MlflowClient, folder: Path, tmp_path: Path) -> None:
    run = tracking.training_run("balanced-test", "model-key", BASE, CONFIG)
    version = registry.register("balanced-test", run, folder, {"eval/win_rate/clip": 0.6}, TAGS)
    assert registry.register("balanced-test", run, folder, {}, TAGS) == version, "the same model is registered once"
    other = registry.register("balanced-test", run, folder, {}, {**TAGS, "pipeline.model_digest": "d2"})
    assert int(other) == int(version) + 1
    assert str(server.get_model_version_by_alias("balanced-test", "candidate").version) == other
    assert registry.aliases("balanced-test") == {"candidate": other} and registry.aliases("unknown") == {}
    uris = {f"models:/balanced-test/{number}" for number in (version, other)}
    assert set(registry.versions("balanced-test")) == uris and registry.versions("unknown") == []
    registry.tag_version("balanced-test", version, {"pipeline.gate": "passed"})
    assert registry.version_tags("balanced-test", version) == {**TAGS, "pipeline.gate": "passed"}
    assert registry.version_tags("balanced-test", "99") == {}
    pulled = mlflow.artifacts.download_artifacts(f"models:/balanced-test/{version}", dst_path=str(tmp_path / "pulled"))
    assert (Path(pulled) / "model_index.json").read_text() == "{}"


def test_what_a_killed_process_had_uploaded_goes(server: MlflowClient, folder: Path) -> None:
    run = tracking.training_run("killed", "killed-key", BASE, CONFIG)
    experiment = server.get_run(run).info.experiment_id
    here, dead = socket.gethostname(), psutil.Process().create_time() - 1
    kept = []
    for registrar in (f"{here} {os.getpid()} {dead:.0f}", f"{here} 4194305 1", f"elsewhere {os.getpid()} 1"):
        tags = {**TAGS, registry.REGISTRAR: registrar}
        kept.append(mlflow.initialize_logged_model("killed", tags=tags, experiment_id=experiment).model_id)
    other = mlflow.initialize_logged_model("killed", tags={"pipeline.model_digest": "d2"}, experiment_id=experiment)
    version = registry.register("killed", run, folder, {}, TAGS)
    ours = registry.logged_model("killed", version)
    found = {model.model_id for model in server.search_logged_models([experiment])}
    assert found == {ours, other.model_id, kept[2]}, "another machine's may be in progress"


def test_a_version_whose_answer_was_lost_keeps_its_files(
    server: MlflowClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server dies after it has made the version; the client asks again and gets a second one."""
    run = tracking.training_run("asked-twice", "asked-twice-key", BASE, CONFIG)
    original = mlflow.register_model

    def twice(*args: Any, **options: Any) -> Any:
        original(*args, **options)
        return original(*args, **options)

    monkeypatch.setattr(mlflow, "register_model", twice)
    assert registry.register("asked-twice", run, folder, {}, TAGS) == "1"
    assert [v.version for v in server.search_model_versions("name = 'asked-twice'")] == [1]
    files = server.search_logged_models([server.get_run(run).info.experiment_id])
    assert [model.model_id for model in files] == [registry.logged_model("asked-twice", "1")]


def test_registered_twice_at_once_it_is_one_version(
    server: MlflowClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tracking.training_run("raced", "raced-key", BASE, CONFIG)
    both, original = Barrier(2, timeout=60), mlflow.register_model

    def together(*args: Any, **options: Any) -> Any:
        both.wait()  # each has seen that there is no such version
        return original(*args, **options)

    monkeypatch.setattr(mlflow, "register_model", together)
    with ThreadPoolExecutor(2) as pool:
        versions = list(pool.map(lambda _: registry.register("raced", run, folder, {}, TAGS), range(2)))
    assert versions == ["1", "1"]
    assert [v.version for v in server.search_model_versions("name = 'raced'")] == [1]
    assert registry.aliases("raced") == {"candidate": "1"}
    experiment = server.get_run(run).info.experiment_id
    assert len(server.search_logged_models([experiment])) == 1


def test_a_version_whose_files_were_deleted_is_registered_again(server: MlflowClient, folder: Path) -> None:
    run = tracking.training_run("emptied", "emptied-key", BASE, CONFIG)
    first = registry.register("emptied", run, folder, {}, TAGS)
    assert registry.find("emptied", TAGS) == first and registry.find("emptied", {**TAGS, "other": "x"}) is None
    server.delete_logged_model(str(registry.logged_model("emptied", first)))
    assert registry.find("emptied", TAGS) is None
    assert registry.register("emptied", run, folder, {}, TAGS) == registry.find("emptied", TAGS) == str(int(first) + 1)


def test_two_versions_of_one_model_have_numbers_of_their_own(server: MlflowClient, folder: Path) -> None:
    run = tracking.training_run("measured", "measured-key", BASE, CONFIG)
    for value in (0.6, 0.4):
        by = tracking.open_run("measured", f"{value}", {"test.evaluation": f"{value}"}, "", {})
        tags = {**TAGS, "pipeline.evaluation_digest": f"{value}"}
        version = registry.register("measured", run, folder, {"eval/win_rate/clip": value}, tags, by)
        model = server.get_logged_model(str(registry.logged_model("measured", version)))
        assert [m.value for m in model.metrics] == [value] and model.source_run_id == run
        assert server.get_run(by).data.metrics == {"eval/win_rate/clip": value}
    assert server.get_run(run).data.metrics == {}
