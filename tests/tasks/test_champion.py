"""Who the rival of a model is, and when it cannot be painted again, on a real MLflow registry in SQLite."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline_lib.core import store
from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.store import Dataset
from pipeline_lib.presets import preset
from tasks import champion, registry
from tasks.champion import Rival, find_rival, open_rival, settle

BASE = preset("shapes").base
LOST = BaseModel(family="sd", repo="no/base", mirror="/nowhere")


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    logger = SimpleNamespace(warning=lambda text, *values: said.append(text % values))
    monkeypatch.setattr(champion, "get_run_logger", lambda: logger)
    return said


def model(root: Path, name: str, base: BaseModel = BASE) -> Dataset:
    writer = store.writer(str(root), "model", 1, {"name": name})
    shards = [writer.write_bytes("model/base.json", json.dumps(asdict(base)).encode())]
    return writer.commit([*shards, writer.write_bytes("model/name", name.encode())])


def version(server: MlflowClient, name: str, trained: Dataset | None) -> str:
    """A registered version, with the tags of a model dataset or, for None, by someone else."""
    if not registry.aliases(name) and not server.search_registered_models(f"name = '{name}'"):
        server.create_registered_model(name)
    tags = {champion.MODEL_DIGEST: trained.digest, champion.MODEL_DATASET: trained.path()} if trained else {}
    return str(server.create_model_version(name, "file:///nowhere", tags=tags).version)


def report(name: str, trained: Dataset, rival: Dataset | None, passed: bool = True) -> dict[str, Any]:
    """The parts of report.json that decide."""
    models: dict[str, Any] = {name: {"weights": [{"digest": trained.digest}]}}
    if rival:
        models["holder"] = {"weights": [{"digest": rival.digest}]}
    gate = {name: {"passed": passed, "sentence": "So it is."}}
    return json.loads(
        json.dumps({"title": "t", "models": models, "champion": "holder" if rival else None, "gate": gate})
    )


def test_the_rival_is_the_champion_or_the_one_it_replaced(server: MlflowClient, tmp_path: Path) -> None:
    first, second = model(tmp_path, "first"), model(tmp_path, "second")
    assert find_rival("a", first.digest) is None, "nothing is registered"
    one = version(server, "a", first)
    assert find_rival("a", second.digest) is None, "there is no champion"
    assert settle("a", one, first.digest, report("a", first, None)).promote
    assert find_rival("a", first.digest) is None, "it became champion against the base"
    assert find_rival("a", second.digest) == Rival(one, first.digest, first.path())

    two = version(server, "a", second)
    assert not settle("a", two, second.digest, report("a", second, None)).promote, "compared with the base only"
    assert not settle("a", two, second.digest, report("a", second, first, passed=False)).promote
    assert registry.aliases("a") == {"champion": one}
    assert settle("a", two, second.digest, report("a", second, first)).promote
    assert registry.aliases("a") == {"champion": two}
    assert registry.version_tags("a", two)[champion.GATE_REASON] == "Promoted. So it is."
    rival = find_rival("a", second.digest)
    assert rival is not None and (rival.version, rival.label) == (one, f"champion (version {one})")
    server.delete_model_version("a", one)
    assert find_rival("a", second.digest) is None, "what it replaced is gone"


def damaged(found: Dataset, name: str) -> Dataset:
    Path(found.uri, name).write_bytes(b"x")
    return found


def test_a_champion_that_cannot_be_painted_is_not_replaced(
    server: MlflowClient, tmp_path: Path, warnings: list[str]
) -> None:
    held, new = model(tmp_path, "held"), model(tmp_path, "new")
    server.create_registered_model("b")
    for holder, says in (
        (None, "no tag of a model dataset"),
        (model(tmp_path, "lost", LOST), "no/base"),
        (model(tmp_path / "elsewhere", "elsewhere"), "No finished dataset"),
        (damaged(model(tmp_path, "damaged"), "model/base.json"), "1 of 2 files"),
        (damaged(model(tmp_path, "unreadable"), "manifest.json"), "is not JSON"),
    ):
        number = version(server, "b", holder)
        registry.set_alias("b", champion.CHAMPION, number)
        rival = find_rival("b", new.digest)
        assert rival is not None and open_rival(rival, str(tmp_path)) is None
        assert says in warnings[-1]
        decision = settle("b", version(server, "b", new), new.digest, report("b", new, None))
        assert not decision.promote and f"champion (version {number}), the present champion" in decision.reason
        assert registry.aliases("b") == {"champion": number}
    registry.set_alias("b", champion.CHAMPION, version(server, "b", held))
    rival = find_rival("b", new.digest)
    assert rival is not None and open_rival(rival, str(tmp_path)) == (held, BASE)


def test_an_evaluation_of_something_else_is_refused(server: MlflowClient, tmp_path: Path) -> None:
    trained, other = model(tmp_path, "trained"), model(tmp_path, "other")
    for name, digest in (("c", other.digest), ("d", trained.digest)):
        with pytest.raises(ConfigError, match="no answer of the gate"):
            settle(name, "1", digest, report("c", trained, None))


def test_a_model_becomes_the_champion_once(server: MlflowClient, tmp_path: Path) -> None:
    first, second = model(tmp_path, "once"), model(tmp_path, "later")
    one, two = version(server, "e", first), version(server, "e", second)
    assert settle("e", one, first.digest, report("e", first, None)).promote
    asked_again = settle("e", one, first.digest, report("e", first, None))
    assert not asked_again.promote and asked_again.reason == "Promoted. So it is."
    server.delete_registered_model_alias("e", champion.CHAMPION)
    decision = settle("e", one, first.digest, report("e", first, None))
    assert not decision.promote and f"as version {one}, and the alias was taken from it" in decision.reason
    assert registry.aliases("e") == {}
    kept = registry.version_tags("e", one)
    assert (kept[champion.GATE], kept[champion.GATE_REASON]) == ("passed", "Promoted. So it is.")

    assert settle("e", two, second.digest, report("e", second, None)).promote, "another model"
    server.set_registered_model_alias("e", champion.CHAMPION, one)
    assert not settle("e", two, second.digest, report("e", second, first)).promote
    assert registry.aliases("e") == {"champion": one}, "people went back to it"


def test_a_withdrawal_outlives_the_version(server: MlflowClient, tmp_path: Path) -> None:
    held = model(tmp_path, "deleted")
    one = version(server, "f", held)
    settle("f", one, held.digest, report("f", held, None))
    server.delete_model_version("f", one)
    again = version(server, "f", held)
    assert not settle("f", again, held.digest, report("f", held, None)).promote
    assert registry.aliases("f") == {} and registry.version_tags("f", again)[champion.GATE] == "passed"


def test_a_champion_that_people_made_is_not_made_again(server: MlflowClient, tmp_path: Path) -> None:
    chosen, other = model(tmp_path, "chosen"), model(tmp_path, "other one")
    one, two = version(server, "g", chosen), version(server, "g", other)
    server.set_registered_model_alias("g", champion.CHAMPION, one)
    settle("g", two, other.digest, report("g", other, chosen, passed=False))
    server.delete_registered_model_alias("g", champion.CHAMPION)
    assert not settle("g", one, chosen.digest, report("g", chosen, None)).promote


@pytest.mark.parametrize("killed_before", ["tag_version", "set_alias", "tag_model"])
def test_who_was_killed_in_a_promotion_promotes_when_asked_again(
    server: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_before: str
) -> None:
    name, new = f"killed-{killed_before}", model(tmp_path, killed_before)
    one = version(server, name, new)

    def kill(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(registry, killed_before, kill)
        with pytest.raises(KeyboardInterrupt):
            settle(name, one, new.digest, report(name, new, None))
    settle(name, one, new.digest, report(name, new, None))
    assert registry.aliases(name) == {"champion": one}
    assert registry.version_tags(name, one)[champion.GATE_REASON] == "Promoted. So it is."
    server.delete_registered_model_alias(name, champion.CHAMPION)
    settle(name, one, new.digest, report(name, new, None))
    assert registry.aliases(name) == {}
