"""Base models from MLflow's registry, on a real SQLite store: what is fetched, its name, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from prefect.logging import disable_run_logger
from safetensors.torch import load_file, save_file

from pipeline_lib.core.config import BaseModel, TrainConfig
from pipeline_lib.core.errors import CheckpointError, ConfigError, HubError
from pipeline_lib.core.store import writer
from pipeline_lib.encoding.stage import encode
from pipeline_lib.models.components import folder, load_unet
from pipeline_lib.models.identity import base_identity
from pipeline_lib.training.launch.spec import TrainSpec
from pipeline_lib.training.policy import build_policy, save_policy
from pipeline_lib.training.trainer import train
from tasks import base, champion, registry, tracking
from tasks.register import check_judged
from tests.pipeline_lib.models import tiny

PRESET = BaseModel(family="sd", repo="someone/else", vae_repo="someone/vae")


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mirror")
    tiny.write_sd(folder / "tiny/v", "v_prediction", added_text=True)
    tiny.write_sdxl(folder / "tiny/xl")
    return folder


def run_of(server: MlflowClient) -> str:
    key = f"key-{len(server.search_experiments())}"
    return tracking.training_run("test", key, PRESET, TrainConfig(method="diffusion-dpo"))


def registered(server: MlflowClient, name: str, files: Path, **tags: str) -> str:
    return registry.register(name, run_of(server), files, {}, {"of": str(files), **tags})


def resolve(name: str, preset: BaseModel = PRESET) -> BaseModel:
    with disable_run_logger():
        return base.resolve.fn(preset, name)


def test_alias_latest_and_version_are_one_base_fetched_once_and_keyed_by_content(
    server: MlflowClient, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = mirror / "tiny/v"
    version = registered(server, "plain", files)
    found = resolve("models:/plain@candidate")
    assert (found.family, found.repo, found.vae_repo) == ("sd", f"plain/{version}", None)
    original = base_identity(BaseModel(family="sd", repo="tiny/v", mirror=str(mirror)))
    assert base_identity(found) == original | {"repo": f"plain/{version}"}

    def never(*_: object) -> Path:
        raise AssertionError("fetched again")

    with monkeypatch.context() as patch:
        patch.setattr(registry, "download", never)
        assert resolve("models:/plain/latest") == resolve(f"models:/plain/{version}") == found

    other = registered(server, "plain", files, more="tags")
    assert base.pin.fn("models:/plain@candidate") == f"models:/plain/{other}", "the alias moved"
    assert resolve(f"models:/plain/{version}") == found


def test_files_of_a_run_are_a_base_and_another_one_when_they_change(
    server: MlflowClient, mirror: Path, tmp_path: Path
) -> None:
    run = run_of(server)
    server.log_artifacts(run, str(mirror / "tiny/v"), "pipeline")
    first = resolve(f"runs:/{run}/pipeline")
    assert first.repo == f"{run}/pipeline"
    assert resolve(f"runs:/{run}/pipeline") == first
    changed = tmp_path / "changed"
    shutil.copytree(mirror / "tiny/v", changed)
    scheduler = changed / "scheduler/scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"prediction_type": "epsilon"}))
    server.log_artifacts(run, str(changed), "pipeline")
    second = resolve(f"runs:/{run}/pipeline")
    assert base_identity(second)["weights"] != base_identity(first)["weights"]
    assert folder(first, ["unet"]).is_dir(), "a run that uses the old files keeps them"


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_trained_model_is_a_base_with_its_lora_fused(
    adapter: str, server: MlflowClient, mirror: Path, tmp_path: Path
) -> None:
    """Registered as `register` does it, or only what training wrote, from MLflow or from a folder."""
    config = TrainConfig(method="diffusion-dpo", adapter=adapter, lora_rank=2)  # type: ignore[arg-type]
    start = tiny.base(mirror, "v")
    policy = build_policy(start, config)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in policy.trainable.values():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    save_policy(policy, start, config, tmp_path / "model")
    registered(server, f"only-{adapter}", tmp_path / "model")
    sample, context = torch.randn(2, 4, 4, 4), torch.randn(2, 12, 16)
    with torch.no_grad():
        wanted = policy.unet(sample, 500, context).sample
        for found in (resolve(f"models:/only-{adapter}@candidate"), resolve(str(tmp_path / "model"))):
            torch.testing.assert_close(load_unet(found)(sample, 500, context).sample, wanted, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(load_unet(start)(sample, 500, context).sample, wanted, atol=1e-2)

    # It trains: encoded by its encoders, from its weights.
    store = str(tmp_path / "store")
    ingested = tiny.ingest(store)
    encoded, labels = encode(store, found, tiny.ENCODE, ingested), tiny.label(store, ingested)
    job = TrainSpec(
        model=found,
        train=TrainConfig(method="diffusion-dpo", steps=1, batch_size=2, lora_rank=2),
        encoded=encoded.uri,
        labels=labels.uri,
        run_dir=str(tmp_path / "run"),
    )
    assert train(job) == "done"


def test_what_cannot_be_a_base_is_refused_with_the_remedy(server: MlflowClient, mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(HubError, match=r"(?s)absent@champion.*MLFLOW_TRACKING_URI"):
        resolve("models:/absent@champion")
    with pytest.raises(HubError, match="no version"):
        resolve("models:/absent/latest")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "pytorch_lora_weights.safetensors").write_bytes(b"")
    registered(server, "bare", bare)
    with pytest.raises(CheckpointError, match=r"(?s)no base\.json, which names their base.*fuse_lora"):
        resolve("models:/bare@candidate")
    registered(server, "xl", mirror / "tiny/xl")
    with pytest.raises(ConfigError, match="family='sdxl'"):
        folder(resolve("models:/xl@candidate"), ["unet"])


@pytest.mark.parametrize(
    ("file", "prefix"), [("unet/diffusion_pytorch_model", "ema."), ("text_encoder/model", "cond_stage_model.")]
)
def test_weights_of_other_names_are_refused_before_they_are_loaded(
    server: MlflowClient, mirror: Path, tmp_path: Path, file: str, prefix: str
) -> None:
    """From MLflow and from a folder, as a comparison names them."""
    folder = Path(shutil.copytree(mirror / "tiny/v", tmp_path / "theirs"))
    path = folder / f"{file}.safetensors"
    save_file({prefix + name: tensor for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    registered(server, f"theirs-{prefix[:3]}", folder)
    for name in (f"models:/theirs-{prefix[:3]}@candidate", str(folder)):
        with pytest.raises(CheckpointError, match=rf"{file.partition('/')[0]}/.* unexpected: {prefix}"):
            resolve(name)


def test_names_of_the_hub_and_folders(mirror: Path, tmp_path: Path) -> None:
    assert resolve("org/name@abc") == BaseModel(family="sd", repo="org/name", revision="abc")
    assert resolve("org/name").revision is None
    here = BaseModel(family="sd", repo="v", mirror=str(mirror / "tiny"))
    assert resolve(str(mirror / "tiny/v")) == here
    shutil.copytree(mirror / "tiny/v", tmp_path / "elsewhere/v")
    assert base_identity(resolve(str(tmp_path / "elsewhere/v"))) == base_identity(here), "the place is not the key"
    assert base.base_model("shapes", None).repo == "shapes/base"


def test_a_name_that_was_deleted_and_registered_again_is_another_base(
    server: MlflowClient, mirror: Path, tmp_path: Path
) -> None:
    """Its versions count from 1 again."""
    assert registered(server, "again", mirror / "tiny/v") == "1"
    first = resolve("models:/again/1")
    server.delete_registered_model("again")
    changed = Path(shutil.copytree(mirror / "tiny/v", tmp_path / "changed"))
    scheduler = changed / "scheduler/scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"prediction_type": "epsilon"}))
    assert registered(server, "again", changed) == "1"
    second = resolve("models:/again/1")
    assert second.repo == first.repo == "again/1"
    assert base_identity(second)["weights"] != base_identity(first)["weights"]


def test_a_folder_is_one_for_all_stages_of_a_run(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever each of them works, and whatever the link leads to by then."""
    folder = mirror / "tiny/v"
    (tmp_path / "latest").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(mirror))
    for name in ("latest", "./latest/", str(tmp_path / "latest"), "~/tiny/v", f"{folder}/"):
        assert base.pinned(name) == str(folder)
    for other in (None, "", "org/name", "org/name@main"):
        assert base.pinned(other) == other


def test_a_model_goes_on_only_with_the_base_it_was_trained_from(
    server: MlflowClient, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the flows evaluate and register look before they do anything, and the registry's versions are opened."""
    own = Path(shutil.copytree(mirror / "tiny/v", tmp_path / "own"))
    trained = resolve(str(own))
    monkeypatch.setattr(base, "resolve", base.resolve.fn)  # a task outside of a flow would start a server
    config = TrainConfig(method="diffusion-dpo", lora_rank=2)
    save_policy(build_policy(trained, config), trained, config, tmp_path / "written")
    w = writer(str(tmp_path / "store"), "model", 1, {"base": base_identity(trained)})
    model = w.commit(w.write_folder("model", tmp_path / "written"))
    with disable_run_logger():
        base.check_trained_on.fn("shapes", str(own), model.uri)
        with pytest.raises(ConfigError, match=rf"(?s)trained from own .*those of the base shapes/base.*base={own}"):
            base.check_trained_on.fn("shapes", None, model.uri)
    assert champion.base_of(model) == trained
    report = {"title": "own against base", "base": base_identity(trained)}
    check_judged(model, report)
    with pytest.raises(ConfigError, match=r"(?s)painted on shapes/base .* was trained on a base with .*Run evaluate"):
        check_judged(model, report | {"base": base_identity(base.base_model("shapes", None))})
    scheduler = own / "scheduler/scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"prediction_type": "epsilon"}))
    with pytest.raises(ConfigError, match="put them back, or train again"):
        champion.base_of(model)
