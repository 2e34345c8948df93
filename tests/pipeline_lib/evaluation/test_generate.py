"""Images of a tiny random Stable Diffusion: noise, sharing, resuming, and honest failures."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline_lib import store
from pipeline_lib.config import BaseModel, EvaluateConfig
from pipeline_lib.errors import CheckpointError, EvaluationError
from pipeline_lib.evaluation import generate as generation
from pipeline_lib.evaluation.generate import (
    generate,
    generate_images,
    image_writer,
    initial_noise,
    make_scheduler,
    prepare_pipeline,
)
from pipeline_lib.evaluation.prompts import PromptSet
from pipeline_lib.store import Dataset

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


@pytest.mark.parametrize("scheduler", ["ddim", "dpmsolver++", "euler"])
def test_an_image_does_not_depend_on_its_batch(base: BaseModel, scheduler: Any) -> None:
    config = EvaluateConfig(prompts="file", scheduler=scheduler, steps=3, guidance=3.0, resolution=32)
    pipeline = prepare_pipeline(None, base, config)
    jobs = [(prompt, seed) for prompt in PROMPTS.prompts for seed in (0, 1)]
    together = generate_images(pipeline, jobs, config)
    alone = [generate_images(pipeline, [job], config)[0] for job in reversed(jobs)][::-1]
    for one, other in zip(together, alone, strict=True):
        assert np.abs(pixels(one) - pixels(other)).max() <= 1
    assert len(set(together)) == len(jobs)


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


def test_an_interrupted_run_keeps_finished_shards(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "PROMPTS_PER_SHARD", 1)
    whole = generate(str(tmp_path / "whole"), None, base, PROMPTS, CONFIG)

    painted: list[int] = []
    original = generation.generate_shard

    def interruptible(writer: Any, pipeline: Any, prompts: Any, config: Any, index: int) -> Any:
        if len(painted) == 1:
            painted.append(-1)
            raise KeyboardInterrupt
        painted.append(index)
        return original(writer, pipeline, prompts, config, index)

    monkeypatch.setattr(generation, "generate_shard", interruptible)
    with pytest.raises(KeyboardInterrupt):
        generate(str(tmp_path / "cut"), None, base, PROMPTS, CONFIG)
    assert generate(str(tmp_path / "cut"), None, base, PROMPTS, CONFIG).digest == whole.digest
    assert painted == [0, -1, 1, 2]
    generate(str(tmp_path / "cut"), None, base, PROMPTS, CONFIG)
    assert painted == [0, -1, 1, 2]


def test_the_key_follows_the_settings_that_change_pixels(base: BaseModel, tmp_path: Path) -> None:
    def key(**changes: Any) -> str:
        config = EvaluateConfig(**{**CONFIG.__dict__, **changes})
        return image_writer(str(tmp_path), None, base, PROMPTS, config).key

    assert len({key(), key(steps=3), key(guidance=1.0), key(scheduler="euler"), key(seeds=(0,))}) == 5
    assert key() == key(prompts="another name for the same prompts")


def test_broken_pixels_are_an_error(base: BaseModel) -> None:
    pipeline = prepare_pipeline(None, base, CONFIG)
    with torch.no_grad():
        pipeline.vae.decoder.conv_out.bias.fill_(float("nan"))
    with pytest.raises(EvaluationError, match="non-finite"):
        generate_images(pipeline, [("a red circle", 0)], CONFIG)


def test_a_dataset_that_is_no_model_is_refused(base: BaseModel, tmp_path: Path) -> None:
    writer = store.writer(str(tmp_path), "labels", 1, {})
    other = writer.commit([writer.write_bytes("notes.txt", b"not a model")])
    with pytest.raises(CheckpointError, match=r"base\.json"):
        generate(str(tmp_path), other, base, PROMPTS, CONFIG)
