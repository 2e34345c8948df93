"""Images of a tiny random Stable Diffusion: noise, sharing, resuming, and honest failures."""

import io
import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from pipeline_lib.core import resident, store
from pipeline_lib.core.config import BaseModel, EvaluateConfig, TrainConfig
from pipeline_lib.core.errors import CheckpointError, EvaluationError
from pipeline_lib.core.store import Dataset
from pipeline_lib.evaluation import evaluate
from pipeline_lib.generation import embeddings as texts_module
from pipeline_lib.generation import stage as generate_module
from pipeline_lib.generation.embeddings import Texts
from pipeline_lib.generation.painter import Painter, initial_noise, load_painter, make_scheduler
from pipeline_lib.generation.prompts import PromptSet
from pipeline_lib.generation.stage import Painting, generate, open_painting, paint_shard, prompts_per_shard
from pipeline_lib.models import FAMILIES
from pipeline_lib.models.aligned import LORA_WEIGHTS
from pipeline_lib.presets import preset
from pipeline_lib.shapes import prompts
from pipeline_lib.training.policy import build_policy, save_policy

CONFIG = EvaluateConfig(
    prompts="file", seeds=(0, 1), scheduler="ddim", steps=2, guidance=3.0, resolution=32, batch_size=4
)
PROMPTS = PromptSet("file", ("a red circle", "a blue square", "a ring"))


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)), np.int16)


def test_noise_depends_on_prompt_and_seed_alone() -> None:
    noise = initial_noise("a red circle", 0, (4, 16, 16))
    assert torch.equal(noise, initial_noise("  a red  circle ", 0, (4, 16, 16)))
    assert not torch.equal(noise, initial_noise("a red circle", 1, (4, 16, 16)))
    assert not torch.equal(noise, initial_noise("a red circles", 0, (4, 16, 16)))
    assert abs(float(noise.mean())) < 0.15 and abs(float(noise.std()) - 1) < 0.1
    # The noise of every stored evaluation: a change makes old and new numbers incomparable.
    assert noise.flatten()[:3].tolist() == pytest.approx(FIRST_NOISE, abs=1e-6)


FIRST_NOISE = [-0.08696587383747101, -0.27535849809646606, 0.7889424562454224]


def painter(base: BaseModel, config: EvaluateConfig, model: Dataset | None = None) -> Painter:
    return load_painter(model, base, config, Texts(FAMILIES.get(base.family)), "cpu")


@pytest.mark.parametrize("scheduler", ["ddim", "dpmsolver++", "euler"])
def test_an_image_is_what_diffusers_alone_paints(base: BaseModel, scheduler: Any) -> None:
    config = EvaluateConfig(prompts="file", scheduler=scheduler, steps=3, guidance=3.0, resolution=32)
    jobs = [(prompt, seed) for prompt in PROMPTS.prompts for seed in (0, 1)]
    ours = painter(base, config).paint(jobs)
    plain = StableDiffusionPipeline.from_pretrained(base.repo)
    plain.scheduler = make_scheduler(scheduler, plain.scheduler.config)
    for png, (prompt, seed) in zip(ours, jobs, strict=True):
        noise = initial_noise(prompt, seed, (4, 16, 16))[None]
        (image,) = plain(prompt, latents=noise, guidance_scale=3.0, num_inference_steps=3, height=32, width=32).images
        assert np.abs(pixels(png) - np.asarray(image, np.int16)).max() <= 1
    assert len(set(ours)) == len(jobs)


SHAPES = preset("shapes").base
XL = replace(SHAPES, family="sdxl", repo="shapes/base-xl")
FEW_STEPS = EvaluateConfig(prompts="file", scheduler="ddim", steps=2, guidance=3.0, resolution=32, seeds=(0, 1))
MANY = PromptSet("many", tuple(prompts("validation")[:11]))


def lora(root: Path) -> Dataset:
    """A model of the built-in world whose LoRA is random."""
    config = TrainConfig(method="diffusion-dpo", lora_rank=2, lora_alpha=2)
    policy = build_policy(SHAPES, config)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in policy.trainable.values():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    save_policy(policy, SHAPES, config, root / "lora")
    writer = store.writer(str(root), "model", 1, {})
    return writer.commit(writer.write_folder("model", root / "lora"))


@pytest.mark.parametrize("name", ["base", "lora", "sdxl"])
def test_an_image_does_not_depend_on_its_batch_its_place_or_the_workers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, model = (XL if name == "sdxl" else SHAPES), (lora(tmp_path) if name == "lora" else None)

    def open_as(run: str, count: int, shuffled: bool, **changes: Any) -> Painting:
        texts = list(MANY.prompts)
        if shuffled:
            random.Random(7).shuffle(texts)
        prompt_set = PromptSet("some", tuple(texts[:count]))
        return open_painting(str(tmp_path / run), model, base, prompt_set, replace(FEW_STEPS, **changes), "cpu")

    def paint(painting: Painting, workers: int = 1) -> dict[tuple[str, int], bytes]:
        resident.release()
        with ThreadPoolExecutor(workers) as pool:
            shards = list(pool.map(lambda index: paint_shard(painting, index), range(len(painting.shards()))))
        found = painting.writer.commit(shards).scan().collect()
        return dict(zip(found.select("prompt", "seed").iter_rows(), found["image"], strict=True))

    whole = open_as("whole", 11, False)
    expected = paint(whole)
    assert len(set(expected.values())) == len(expected) == 22
    others = {
        "one": (open_as("one", 5, True, batch_size=1), 1),
        "three": (open_as("three", 9, False, batch_size=3, seeds=(1,)), 1),
        "eight": (open_as("eight", 11, True, batch_size=8), 2),
    }
    monkeypatch.setattr(generate_module, "SHARD_IMAGES", (8, 8))
    for run, (painting, workers) in others.items():
        painted = paint(painting, workers)
        assert len(painting.shards()) > 1
        assert painted.items() <= expected.items(), run
    assert open_as("whole", 11, False, batch_size=3).writer.key == whole.writer.key
    # More threads split sums elsewhere; one computes an image, whatever the process has.
    monkeypatch.setattr(generate_module, "SHARD_IMAGES", (64, 64))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert paint(open_as("threads", 8, True)).items() <= expected.items()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_prompt_is_encoded_once_for_all_models(
    base: BaseModel, trained: Callable[[str, int], Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    original = Texts._encode

    def counted(self: Texts, pipeline: Any, prompts: list[str]) -> Any:
        encoded.extend(prompts)
        return original(self, pipeline, prompts)

    monkeypatch.setattr(Texts, "_encode", counted)
    resident.release()
    for model in (None, trained(str(tmp_path), 2), trained(str(tmp_path), 3)):
        generate(str(tmp_path), model, base, PROMPTS, CONFIG)
    assert sorted(encoded) == sorted(["", *PROMPTS.prompts])


def test_embeddings_that_were_dropped_are_the_same_when_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = load_painter(None, XL, FEW_STEPS, Texts(FAMILIES.get("sdxl")), "cpu").pipeline
    texts = Texts(FAMILIES.get("sdxl"))
    first = texts.of(pipeline, ["", *MANY.prompts])
    monkeypatch.setattr(texts_module, "MOST_BYTES", 1)
    assert texts.of(pipeline, MANY.prompts[:1]).keys() == {MANY.prompts[0]} and not texts._known
    for prompt in reversed(MANY.prompts):
        for one, other in zip(first[prompt], texts.of(pipeline, [prompt])[prompt], strict=True):
            assert torch.equal(one, other)


def test_the_scheduler_keeps_the_schedule_the_base_was_trained_with() -> None:
    from diffusers import DDPMScheduler

    trained = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction").config
    for name in ("ddim", "dpmsolver++", "euler"):
        config = make_scheduler(name, trained).config
        assert (config.beta_schedule, config.prediction_type) == ("squaredcos_cap_v2", "v_prediction")
    assert make_scheduler("ddim", trained).config.clip_sample is False


def test_dataset_holds_every_prompt_and_seed(base: BaseModel, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    images = generate(
        str(tmp_path), None, base, PROMPTS, CONFIG, progress=lambda done, total: seen.append((done, total))
    )
    table = images.scan().collect()
    assert table.select("prompt", "seed").rows() == [(p, s) for p in PROMPTS.prompts for s in (0, 1)]
    assert pixels(table["image"][0]).shape == (32, 32, 3)
    assert seen == [(6, 6)]


def test_other_weights_give_other_images_from_the_same_noise(
    base: BaseModel, trained: Callable[[str, int], Dataset], tmp_path: Path
) -> None:
    model = trained(str(tmp_path), 2)
    ours, theirs = (generate(str(tmp_path), m, base, PROMPTS, CONFIG).scan().collect() for m in (model, None))
    assert ours.drop("image").equals(theirs.drop("image"))
    assert all(one != other for one, other in zip(ours["image"], theirs["image"], strict=True))


def test_the_same_weights_give_the_same_images(
    base: BaseModel, trained: Callable[[str, int], Dataset], tmp_path: Path
) -> None:
    model = trained(str(tmp_path), 1)
    ours, theirs = (generate(str(tmp_path), m, base, PROMPTS, CONFIG) for m in (model, None))
    assert ours.key != theirs.key
    assert ours.digest == theirs.digest


def test_the_key_follows_the_settings_that_change_pixels(base: BaseModel, tmp_path: Path) -> None:
    def key(device: str = "cpu", **changes: Any) -> str:
        config = EvaluateConfig(**{**CONFIG.__dict__, **changes})
        return open_painting(str(tmp_path), None, base, PROMPTS, config, device).writer.key

    assert len({key(), key(steps=3), key(guidance=1.0), key(scheduler="euler"), key(seeds=(0,))}) == 5
    assert key() == key(prompts="another name for the same prompts")
    assert key() == key(batch_size=5), "on the CPU it decides nothing"
    assert len({key(), key("cuda"), key("cuda", batch_size=5)}) == 3


def test_broken_pixels_are_an_error(base: BaseModel) -> None:
    broken = painter(base, CONFIG)
    with torch.no_grad():
        broken.pipeline.vae.decoder.conv_out.bias.fill_(float("nan"))
    with pytest.raises(EvaluationError, match="non-finite pixels for 1 of 1"):
        broken.paint([("a red circle", 0)])


def test_a_dataset_that_is_no_model_is_refused(base: BaseModel, tmp_path: Path) -> None:
    writer = store.writer(str(tmp_path), "labels", 1, {})
    other = writer.commit([writer.write_bytes("notes.txt", b"not a model")])
    with pytest.raises(CheckpointError, match=r"base\.json"):
        generate(str(tmp_path), other, base, PROMPTS, CONFIG)


def test_a_lora_that_fits_in_part_is_refused_before_the_base_is_painted(tmp_path: Path) -> None:
    folder = Path(lora(tmp_path / "whole").local("model"))
    weights = load_file(folder / LORA_WEIGHTS)
    for name, changed in {
        "unet.mid_block.none.lora_A.weight": {"unet.mid_block.none.lora_A.weight": torch.zeros(2, 2)},
        "without its other half": {name: t for name, t in weights.items() if name != min(weights)},
        "not finite": {name: t * float("nan") for name, t in weights.items()},
    }.items():
        root = tmp_path / name.split(".")[-1].replace(" ", "-")
        shutil.copytree(folder, root / "damaged")
        whole = {} if "without" in name else weights
        save_file(whole | changed, root / "damaged" / LORA_WEIGHTS)
        writer = store.writer(str(root), "model", 1, {})
        model = writer.commit(writer.write_folder("model", root / "damaged"))
        config = replace(FEW_STEPS, prompts="shapes-validation", num_prompts=2)
        with pytest.raises(CheckpointError, match=name):
            evaluate(str(root), {"base": None, "model": model}, SHAPES, config, ["clip"], preset("shapes").weights)
        assert not (root / "images").exists()


def test_a_shard_is_a_bearable_loss() -> None:
    def images(name: Any, **changes: Any) -> int:
        config = replace(preset(name).evaluate, **changes)
        return prompts_per_shard(config) * len(config.seeds)

    assert [images(name) for name in ("shapes", "sd15", "sd21", "sdxl")] == [64, 64, 28, 16]
    assert images("shapes", seeds=(0, 1, 2)) == 63, "a prompt's images stay together"
    assert images("sdxl", seeds=tuple(range(20))) == 20
