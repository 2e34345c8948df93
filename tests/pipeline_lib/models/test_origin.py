"""Trained models, latents, labels and scores are joined with what they were made from, told by digests, or refused."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from pipeline_lib.core.config import BaseModel, EvaluateConfig, TrainConfig
from pipeline_lib.core.errors import CheckpointError, ConfigError, LabelError
from pipeline_lib.core.store import Dataset, writer
from pipeline_lib.encoding.stage import encode
from pipeline_lib.evaluation.implicit import implicit_rewards
from pipeline_lib.generation.prompts import PromptSet
from pipeline_lib.generation.stage import generate
from pipeline_lib.models.aligned import export, load_pipeline
from pipeline_lib.models.identity import base_identity
from pipeline_lib.models.named import base_named, complete
from pipeline_lib.models.origin import base_of, check_base
from pipeline_lib.training.implicit import judge_pairs
from pipeline_lib.training.launch import job
from pipeline_lib.training.launch.spec import TrainSpec
from pipeline_lib.training.policy import build_policy, save_policy
from pipeline_lib.training.trainer import train
from tests.pipeline_lib.models import tiny

CONFIG = TrainConfig(method="diffusion-dpo", steps=1, batch_size=2, lora_rank=2)
JUDGED = EvaluateConfig(prompts="file", steps=1, scheduler="ddim", resolution=8, implicit_draws=1)
PROMPTS = PromptSet("file", ("a red circle",))
WEIGHTS = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
    "text": "text_encoder/model.safetensors",
}


def change(folder: Path, part: str) -> None:
    """Other weights of a part, in place and with the old file's time, as a copy from another disk leaves them."""
    file = folder / WEIGHTS[part]
    before = file.stat()
    tensors = load_file(file)
    save_file({name: tensor * 1.01 for name, tensor in tensors.items()}, file, metadata={"format": "pt"})
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def base(mirror: Path, tmp_path: Path) -> BaseModel:
    """A base in a folder of the test's own."""
    folder = shutil.copytree(mirror / "tiny/v", tmp_path / "bases/mine")
    return base_named(tiny.base(mirror, "v"), str(folder), tmp_path / "scratch")


@pytest.fixture
def pairs(tmp_path: Path) -> Dataset:
    return tiny.ingest(str(tmp_path / "store"))


@pytest.fixture
def model(base: BaseModel, pairs: Dataset, tmp_path: Path) -> Dataset:
    """What training would publish: a LoRA of `base`, its latents and labels among its inputs."""
    store = str(tmp_path / "store")
    encoded, labels = encode(store, base, tiny.ENCODE, pairs, device="cpu"), tiny.label(store, pairs)
    target = job.model_writer(store, base, CONFIG, encoded, labels)
    save_policy(build_policy(base, CONFIG), base, CONFIG, tmp_path / "written")
    return target.commit(target.write_folder("model", tmp_path / "written"))


def place(base: BaseModel) -> Path:
    return Path(base.mirror, base.repo)


def paint(model: Dataset, base: BaseModel, pairs: Dataset, tmp_path: Path) -> object:
    return generate(str(tmp_path / "store"), model, base, PROMPTS, JUDGED, device="cpu")


def reward(model: Dataset, base: BaseModel, pairs: Dataset, tmp_path: Path) -> object:
    return implicit_rewards(str(tmp_path / "store"), model, base, pairs, JUDGED)


def publish(model: Dataset, base: BaseModel, pairs: Dataset, tmp_path: Path) -> object:
    return export(model.local("model"), base, tmp_path / "out")


def load(model: Dataset, base: BaseModel, pairs: Dataset, tmp_path: Path) -> object:
    return load_pipeline(model.local("model"), base)


USES = [paint, reward, publish, load]


def test_a_model_is_used_with_the_weights_it_was_trained_from_wherever_they_lie(
    model: Dataset, base: BaseModel, pairs: Dataset, tmp_path: Path
) -> None:
    moved = shutil.move(place(base), tmp_path / "elsewhere")
    for use in USES:
        use(model, BaseModel(family="sd", repo=str(moved)), pairs, tmp_path)


def test_a_model_is_not_used_with_other_weights_of_the_same_name(
    model: Dataset, base: BaseModel, pairs: Dataset, tmp_path: Path
) -> None:
    paint(model, base, pairs, tmp_path)  # an answer that is there is no excuse
    whole = shutil.copytree(place(base), tmp_path / "whole")
    for part in WEIGHTS:
        change(place(base), part)
        for use in USES:
            with pytest.raises(ConfigError, match=rf"(?s)was trained from mine with the weights.*base={place(base)}"):
                use(model, base, pairs, tmp_path)
        shutil.copyfile(whole / WEIGHTS[part], place(base) / WEIGHTS[part])
        check_base(model, base)
    assert not (tmp_path / "out").exists()


def test_a_model_that_states_no_digest_has_what_lies_under_its_name(base: BaseModel, tmp_path: Path) -> None:
    save_policy(build_policy(base, CONFIG), base, CONFIG, tmp_path / "written")
    w = writer(str(tmp_path / "store"), "model", 1, {})
    model = w.commit(w.write_folder("model", tmp_path / "written"))
    copied = BaseModel(family="sd", repo=str(shutil.copytree(place(base), tmp_path / "copied")))
    check_base(model, copied)
    change(Path(copied.repo), "unet")
    with pytest.raises(ConfigError, match="was trained from mine"):
        check_base(model, copied)
    for content, words in ((b"", "is empty"), (b"[]", "array"), (b'{"repo": 1}', "names no base")):
        other = writer(str(tmp_path / "store"), "model", 1, {"content": content.decode()})
        with pytest.raises(CheckpointError, match=words):
            base_of(other.commit([other.write_bytes("model/base.json", content)]))


@pytest.mark.parametrize("part", ["vae", "text"])
def test_latents_by_other_encoders_are_not_trained_on(
    part: str, base: BaseModel, pairs: Dataset, tmp_path: Path
) -> None:
    """By the parent before anything is opened, and by the trainer."""
    store = str(tmp_path / "store")
    encoded, labels = encode(store, base, tiny.ENCODE, pairs, device="cpu"), tiny.label(store, pairs)
    other = Path(shutil.copytree(place(base), tmp_path / "other/mine"))
    change(other, part)
    named = base_named(base, str(other), tmp_path / "scratch")
    assert named.repo == base.repo
    with pytest.raises(ConfigError, match=r"encoders are not those of mine as they are now(?s:.*)run the flow encode"):
        job.train(store, named, CONFIG, encoded, labels, tmp_path / "runs")
    spec = TrainSpec(
        model=named, train=CONFIG, encoded=encoded.uri, labels=labels.uri, run_dir=str(tmp_path / "runs/one")
    )
    with pytest.raises(ConfigError, match="encoders are not those"):
        train(spec)


def test_a_base_with_the_same_encoders_trains_on_the_same_latents(
    base: BaseModel, pairs: Dataset, tmp_path: Path
) -> None:
    """As an aligned model does: its name is another, its encoders are its base's."""
    store = str(tmp_path / "store")
    encoded, labels = encode(store, base, tiny.ENCODE, pairs, device="cpu"), tiny.label(store, pairs)
    aligned = Path(shutil.copytree(place(base), tmp_path / "aligned"))
    change(aligned, "unet")
    spec = TrainSpec(
        model=BaseModel(family="sd", repo=str(aligned)),
        train=CONFIG,
        encoded=encoded.uri,
        labels=labels.uri,
        run_dir=str(tmp_path / "run"),
    )
    assert train(spec) == "done"


def test_a_base_that_changes_until_the_trainer_reads_it_is_refused(
    base: BaseModel, pairs: Dataset, tmp_path: Path
) -> None:
    """Also by a run that was interrupted: its checkpoint belongs to the weights it began with."""
    store = str(tmp_path / "store")
    encoded, labels = encode(store, base, tiny.ENCODE, pairs, device="cpu"), tiny.label(store, pairs)
    spec = TrainSpec(
        model=base,
        weights=base_identity(base)["weights"],
        train=replace(CONFIG, steps=3, checkpoint_every=1),
        encoded=encoded.uri,
        labels=labels.uri,
        run_dir=str(tmp_path / "run"),
    )
    asked = iter([False, True, True, True])
    assert train(spec, lambda: next(asked)) == "interrupted"
    change(place(base), "unet")
    with pytest.raises(ConfigError, match="are not those of the run"):
        train(spec)
    with pytest.raises(CheckpointError, match="belongs to another run"):
        train(replace(spec, weights=None))


def test_what_training_wrote_is_a_base_only_with_its_own_base(model: Dataset, base: BaseModel, tmp_path: Path) -> None:
    """Each content has a folder of its own, made once: what a run has read does not change under its hands."""
    written = model.local("model")
    first = base_named(base, str(written), tmp_path / "scratch")
    made = place(first).stat().st_ino
    assert base_named(base, str(written), tmp_path / "scratch") == first
    assert place(first).stat().st_ino == made
    copy = shutil.copytree(written, tmp_path / "alone/model")  # no longer in the store
    lora = copy / "pytorch_lora_weights.safetensors"
    save_file({name: tensor + 0.1 for name, tensor in load_file(lora).items()}, lora)
    second = base_named(base, str(copy), tmp_path / "scratch")
    assert second.repo == first.repo and second != first
    assert base_identity(second)["weights"] != base_identity(first)["weights"]
    change(place(base), "unet")
    with pytest.raises(ConfigError, match="was trained from mine"):
        complete(written, tmp_path / "scratch")
    assert base_identity(first)["weights"], "what was made stays"


def test_latents_of_other_pictures_with_the_same_ids_are_not_judged(
    model: Dataset, base: BaseModel, pairs: Dataset, tmp_path: Path
) -> None:
    store = str(tmp_path / "store")
    encoded = encode(store, base, tiny.ENCODE, tiny.ingest(store, side=16), device="cpu")
    with pytest.raises(LabelError, match="are not of the pairs"):
        judge_pairs(store, [model], encoded, pairs)


def test_a_base_json_names_the_base_that_the_model_says(model: Dataset, base: BaseModel) -> None:
    assert base_of(model) == base
    assert json.loads(Path(model.uri, "model/base.json").read_text())["repo"] == "mine"
    assert model.config["base"]["weights"] == base_identity(base)["weights"]
