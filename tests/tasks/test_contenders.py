"""What the names of a comparison's models mean, on a real MLflow registry in SQLite."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from prefect.logging import disable_run_logger

from pipeline_lib.core import store
from pipeline_lib.core.config import BaseModel, TrainConfig
from pipeline_lib.core.errors import CheckpointError, ConfigError, DatasetUnfinishedError, HubError, PipelineError
from pipeline_lib.core.store import Dataset
from pipeline_lib.models.components import load_unet
from pipeline_lib.presets import preset
from tasks import champion, registry, tracking
from tasks.contenders import Contender, find, find_models
from tests.pipeline_lib.models import loras, tiny

BASE = preset("shapes").base


@dataclass(frozen=True)
class World:
    """A store with the model dataset `trained`, of which `mine` is a version; and `pipe`, a pipeline's folder, which
    is registered as `theirs`."""

    store: str
    trained: Dataset
    pipe: Path


def model(root: Path, stage: str = "model") -> Dataset:
    writer = store.writer(str(root), stage, 1, {})
    return writer.commit([writer.write_bytes("model/base.json", json.dumps(asdict(BASE)).encode())])


def register(name: str, folder: Path, trained: Dataset | None) -> str:
    tags = {champion.MODEL_DIGEST: trained.digest, champion.MODEL_DATASET: trained.path()} if trained else {}
    run = tracking.training_run(name, "key", BASE, TrainConfig(method="diffusion-dpo"))
    return registry.register(name, run, folder, {}, {"of": name, **tags})


@pytest.fixture(scope="module")
def world(server: MlflowClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    where = tmp_path_factory.mktemp("world")
    tiny.write_sd(where / "pipe", added_text=True)
    with disable_run_logger():
        found = World(str(where / "store"), model(where / "store"), where / "pipe")
        register("mine", found.pipe, found.trained)
        register("theirs", found.pipe, None)
        register("lost", found.pipe, model(where / "elsewhere", "models-of-another-store"))
        yield found


NAMES: dict[str, Callable[[World], tuple[str, Contender]]] = {
    "base": lambda w: ("base", Contender("base", BASE)),
    "alias": lambda w: ("models:/mine@candidate", Contender("mine/1", BASE, w.trained.uri, "models:/mine/1")),
    "version": lambda w: ("models:/mine/1", Contender("mine/1", BASE, w.trained.uri, "models:/mine/1")),
    "latest": lambda w: ("models:/mine/latest", Contender("mine/1", BASE, w.trained.uri, "models:/mine/1")),
    "dataset": lambda w: (w.trained.path(), Contender(w.trained.path(), BASE, w.trained.uri)),
    "its folder": lambda w: (w.trained.uri, Contender(w.trained.path(), BASE, w.trained.uri)),
    "its URI": lambda w: (f"file://{w.trained.uri}", Contender(w.trained.path(), BASE, f"file://{w.trained.uri}")),
    "folder": lambda w: (str(w.pipe), Contender("pipe", replace(BASE, repo="pipe", mirror=str(w.pipe.parent)))),
    "hub": lambda w: ("o/n@r", Contender("o/n@r", BaseModel(family="sd", repo="o/n", revision="r"))),
    "hub, newest": lambda w: ("o/n", Contender("o/n", BaseModel(family="sd", repo="o/n"))),
}  # fmt: skip


@pytest.mark.parametrize("kind", NAMES)
def test_names_mean(kind: str, world: World) -> None:
    name, wanted = NAMES[kind](world)
    assert find(world.store, BASE, name) == wanted


def test_a_unet_alone_and_loras_are_put_into_the_base(world: World, tmp_path: Path) -> None:
    """By folder, by file, and by a link whose target has another name, as in the hub's cache."""
    lora = loras.weights(world.pipe)
    plain = loras.pipeline(world.pipe)
    plain.load_lora_weights(loras.peft_names(lora))
    plain.fuse_lora()
    plain.unload_lora_weights()
    plain.unet.save_pretrained(tmp_path / "alone/unet")
    loras.save(loras.kohya(lora), tmp_path / "kohya/last.safetensors")
    linked = tmp_path / "linked"
    loras.save_peft(world.pipe, lora, tmp_path / "peft", lora_alpha=loras.RANK)
    linked.mkdir()
    for number, name in enumerate(("adapter_model.safetensors", "adapter_config.json")):
        (tmp_path / "peft" / name).rename(linked / f"blob-{number}")
        (linked / name).symlink_to(f"blob-{number}")
    base = BaseModel(family="sd", repo="pipe", mirror=str(world.pipe.parent))
    places = ["alone", "alone/unet", "kohya", "kohya/last.safetensors", "linked/adapter_model.safetensors"]
    for place in places:
        found = find(world.store, base, str(tmp_path / place))
        name = Path(place).name
        assert (found.label, found.model, found.base.repo, found.base.family) == (name, None, name, "sd")
        state = load_unet(found.base).state_dict()
        assert all(torch.equal(state[key], tensor) for key, tensor in plain.unet.state_dict().items()), place
    with pytest.raises(CheckpointError, match="does not fit the UNet of shapes/base"):
        find(world.store, BASE, str(tmp_path / "kohya"))
    (tmp_path / "words.txt").write_text("a red circle")
    with pytest.raises(CheckpointError, match="cannot be read as a LoRA"):
        find(world.store, BASE, str(tmp_path / "words.txt"))


@pytest.mark.parametrize("name", ["theirs", "lost"])
def test_a_version_without_its_dataset_is_the_pipeline_that_was_registered(name: str, world: World) -> None:
    found = find(world.store, BASE, f"models:/{name}@candidate")
    assert (found.label, found.model, found.version) == (f"{name}/1", None, f"models:/{name}/1")
    assert found.base.repo == f"{name}/1" and (Path(found.base.mirror) / name / "1" / "unet").is_dir()


ERRORS: list[tuple[str, type[PipelineError], str]] = [
    ("models:/absent@champion", HubError, "absent@champion"),
    ("models:/mine@absent", HubError, "mine@absent"),
    ("models:/mine/9", HubError, "mine/9"),
    ("model/0123", DatasetUnfinishedError, "No finished dataset"),
    ("shapes-base", ConfigError, r"(?s)'shapes-base' names no model.*Write base, models:/"),
    ("/no/such/folder", ConfigError, "names no model"),
]


@pytest.mark.parametrize(("name", "error", "words"), ERRORS)
def test_what_is_no_model_is_refused_with_the_remedy(
    name: str, error: type[PipelineError], words: str, world: World
) -> None:
    with pytest.raises(error, match=words):
        find(world.store, BASE, name)


def test_a_dataset_of_another_stage_is_refused(world: World, tmp_path: Path) -> None:
    writer = store.writer(str(tmp_path), "labels", 1, {})
    labels = writer.commit([writer.write_bytes("report.json", b"{}")])
    with pytest.raises(CheckpointError, match="not a trained model"):
        find(world.store, BASE, labels.uri)


def test_each_model_is_named_once_and_labels_tell_them_apart(world: World, tmp_path: Path) -> None:
    find_all = find_models.fn
    with pytest.raises(ConfigError, match="two or more models; got 1"):
        find_all(world.store, BASE, ["base"])
    with pytest.raises(ConfigError, match="base: named more than once"):
        find_all(world.store, BASE, ["base", "o/n", "base"])
    other = str(shutil.copytree(world.pipe, tmp_path / "pipe"))
    names = ["base", str(world.pipe), other]
    assert [c.label for c in find_all(world.store, BASE, names)] == names
    assert [c.label for c in find_all(world.store, BASE, names[:2])] == ["base", "pipe"]
