"""Base models that are not what this pipeline trains and paints: refused by their small files, before all else."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from pipeline_lib.core.config import BaseModel, EvaluateConfig, TrainConfig
from pipeline_lib.core.errors import CheckpointError, ConfigError
from pipeline_lib.encoding.stage import open_encoding
from pipeline_lib.generation.prompts import PromptSet
from pipeline_lib.generation.stage import open_painting
from pipeline_lib.models import components, noise
from pipeline_lib.models.aligned import load_pipeline
from pipeline_lib.models.components import load_text_pipeline as load_text
from pipeline_lib.models.supported import check_supported
from pipeline_lib.training.launch.job import model_writer
from tests.pipeline_lib.models import tiny
from tests.pipeline_lib.models.changed import FILES, GONE, changed

BETAS = [0.001 + 0.0001 * i for i in range(100)]
TABLE = {"trained_betas": BETAS, "num_train_timesteps": 100}


@pytest.mark.parametrize("name", tiny.NAMES)
def test_the_tiny_models_are_known(mirror: Path, name: str) -> None:
    assert check_supported(tiny.base(mirror, name)) == 1000


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"_class_name": "EDMEulerScheduler"}, "the scheduler is 'EDMEulerScheduler'"),
        ({"_class_name": "FlowMatchHeunDiscreteScheduler"}, "its noise process is not known"),
        ({"_class_name": "CosineDPMSolverMultistepScheduler"}, "is not known"),
        ({"_class_name": "SchedulerOfMine"}, "is not known"),
        ({"_class_name": "LCMScheduler"}, "is not known"),
        ({"_class_name": ["DDIMScheduler"]}, "is not known"),
        ({"prediction_type": "sample"}, "prediction_type is 'sample'.*'epsilon', 'v_prediction'"),
        ({"prediction_type": "flow_prediction"}, "prediction_type is 'flow_prediction'"),
        ({"prediction_type": None}, "prediction_type is None"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule is 'sigmoid'"),
        ({"beta_schedule": GONE}, "no beta_schedule"),
        ({"beta_start": GONE}, "no beta_start"),
        ({"beta_end": "0.012"}, "beta_end is '0.012'"),
        ({"beta_end": 1.5}, "beta_end is 1.5"),
        ({"beta_start": float("nan")}, "beta_start is nan"),
        ({"beta_start": 0.5}, "above beta_end"),
        ({"beta_start": 0.9, "beta_end": 0.9}, "has no signal"),
        ({"rescale_betas_zero_snr": True}, "epsilon says nothing"),
        ({"rescale_betas_zero_snr": "true"}, "rescale_betas_zero_snr is 'true'"),
        ({"thresholding": True}, "thresholding is True"),
        ({"use_flow_sigmas": True}, "flow matching"),
        ({"use_karras_sigmas": True, "use_beta_sigmas": True}, "exclude each other"),
        ({"timestep_spacing": "quadratic"}, "timestep_spacing is 'quadratic'"),
        ({"timestep_type": "continuous"}, "timestep_type is 'continuous'"),
        ({"variance_type": "learned_range"}, "variance_type is 'learned_range'"),
        ({"shift": 3.0}, "shift: no scheduler"),
        ({"sigma_data": 0.5}, "sigma_data: no scheduler"),
        ({"num_train_timesteps": 1}, "num_train_timesteps is 1"),
        ({"num_train_timesteps": 1000.5}, "no whole number"),
        ({"trained_betas": BETAS}, "trained_betas are no 1000 numbers"),
        ({**TABLE, "trained_betas": [*BETAS[1:], 1.0]}, "trained_betas are no 100 numbers"),
        ({**TABLE, "trained_betas": [BETAS] * 100}, "trained_betas are no 100 numbers"),
        ({**TABLE, "trained_betas": "betas.npy"}, "trained_betas are no 100 numbers"),
        ({"predict_epsilon": False}, "predict_epsilon is False"),
    ],
)
def test_a_noise_process_that_is_not_known_is_refused(
    mirror: Path, tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    base = changed(mirror, "epsilon", tmp_path, "scheduler", **fields)
    for look in (check_supported, components.load_schedule):
        with pytest.raises(ConfigError, match=rf"(?s)scheduler_config.json: .*{words}"):
            look(base)


@pytest.mark.parametrize(
    ("name", "part", "fields", "words"),
    [
        ("epsilon", "unet", {"in_channels": 9}, "takes 9 channels and gives 4"),
        ("epsilon", "unet", {"in_channels": 5}, "takes 5 channels"),
        ("epsilon", "unet", {"out_channels": 8}, "predicts a variance"),
        ("epsilon", "unet", {"in_channels": 8, "out_channels": 8}, "latents of 8 channels, but its VAE makes 4"),
        ("epsilon", "unet", {"class_embed_type": "timestep"}, "conditioned on classes"),
        ("epsilon", "unet", {"num_class_embeds": 1000}, "conditioned on classes"),
        ("epsilon", "unet", {"time_cond_proj_dim": 256}, "guidance scale"),
        ("epsilon", "unet", {"encoder_hid_dim_type": "image_proj"}, "another encoder"),
        ("epsilon", "unet", {"encoder_hid_dim": 16}, "another encoder"),
        ("epsilon", "unet", {"attention_type": "gated"}, "boxes"),
        ("epsilon", "unet", {"addition_embed_type": "image"}, "addition_embed_type is 'image'"),
        ("epsilon", "unet", {"addition_embed_type": "text_time"}, "known here: None, 'text'"),
        ("epsilon", "unet", {"cross_attention_dim": 24}, "width 24, but its text encoders make 16"),
        ("epsilon", "unet", {"cross_attention_dim": [16, 24]}, "reads texts of width"),
        ("epsilon", "unet", {"_class_name": "UNet2DModel"}, "_class_name is 'UNet2DModel'"),
        ("xl", "unet", {"addition_embed_type": "text"}, "known here: 'text_time'"),
        ("xl", "unet", {"projection_class_embeddings_input_dim": 8 + 20}, "refiner has 5 of them"),
        ("xl", "index", {"requires_aesthetics_score": True}, "aesthetic score"),
        ("xl", "index", {"text_encoder": [None, None]}, "no class for text_encoder"),
        ("xl", "index", {"text_encoder_2": ["transformers", "CLIPTextModel"]}, "text_encoder_2 is a CLIPTextModel"),
        ("xl", "index", {"text_encoder": ["transformers", "CLIPTextModelWithProjection"]}, "text_encoder is a"),
        ("epsilon", "index", {"unet": ["diffusers", "UNet2DModel"]}, "unet is a UNet2DModel"),
        ("epsilon", "index", {"tokenizer": ["transformers", "T5Tokenizer"]}, "tokenizer is a T5Tokenizer"),
        ("epsilon", "index", {"vae": ["diffusers", "AutoencoderTiny"]}, "vae is a AutoencoderTiny"),
        ("epsilon", "index", {"clip_skip": 2}, "clip_skip is 2"),
        ("epsilon", "text_encoder", {"clip_skip": 1}, "clip_skip is 1"),
        ("epsilon", "text_encoder", {"hidden_size": 32}, "make 32"),
        ("epsilon", "tokenizer", {"model_max_length": 77}, "positions for 2 to 12 tokens"),
        ("epsilon", "tokenizer", {"model_max_length": GONE}, "model_max_length is None"),
        ("xl", "tokenizer_2", {"model_max_length": 8}, "several model_max_length: tokenizer 12, tokenizer_2 8"),
        ("epsilon", "vae", {"_class_name": "AsymmetricAutoencoderKL"}, "_class_name"),
        ("epsilon", "vae", {"shift_factor": 0.1159}, "shift_factor is 0.1159"),
        ("xl", "vae", {"latents_mean": [0.1] * 4}, "latents_mean"),
        ("xl", "vae", {"latents_std": [1.5] * 4}, "latents_std"),
        ("xl", "vae", {"scaling_factor": GONE}, "no scaling_factor"),
        ("epsilon", "vae", {"scaling_factor": 0}, "scaling_factor is 0"),
        ("epsilon", "vae", {"latent_channels": 16}, "its VAE makes 16"),
        ("epsilon", "vae", {"in_channels": 4}, "red, green and blue"),
        ("epsilon", "vae", {"force_upcast": "no"}, "force_upcast is 'no'"),
    ],
)
def test_a_part_that_wants_more_than_it_is_given_is_refused(
    mirror: Path, tmp_path: Path, name: str, part: str, fields: dict[str, Any], words: str
) -> None:
    base = changed(mirror, name, tmp_path, part, **fields)
    with pytest.raises((ConfigError, CheckpointError), match=rf"(?s)\.json.*{words}") as error:
        check_supported(base)
    assert "->" in str(error.value) and "tiny" in str(error.value)


def test_the_scheduler_that_the_index_names_is_looked_at_too(mirror: Path, tmp_path: Path) -> None:
    """Which of the two diffusers loads depends on how it is asked."""
    base = changed(mirror, "epsilon", tmp_path, "index", scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"])
    changed(mirror, "epsilon", tmp_path, "scheduler", _class_name=GONE)
    with pytest.raises(ConfigError, match="FlowMatchEuler"):
        check_supported(base)


@pytest.mark.parametrize("part", FILES)
def test_a_file_that_is_no_configuration_is_named(mirror: Path, tmp_path: Path, part: str) -> None:
    base = changed(mirror, "xl", tmp_path, part)
    for content in (b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000):
        Path(base.mirror, base.repo, FILES[part]).write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{FILES[part]}"):
            check_supported(base)


def test_every_stage_looks_before_it_reads_weights(mirror: Path, tmp_path: Path) -> None:
    """The weights are none: whoever read them would say so."""
    base = changed(mirror, "epsilon", tmp_path, "scheduler", prediction_type="sample")
    for file in Path(base.mirror).rglob("*.safetensors"):
        file.write_bytes(b"")
    store = str(tmp_path / "store")
    ingested = tiny.ingest(store)
    train = TrainConfig(method="diffusion-dpo")
    evaluate = EvaluateConfig(prompts="file", resolution=tiny.SIDE)
    for stage in (
        lambda: open_encoding(store, base, tiny.ENCODE, ingested),
        lambda: model_writer(store, base, train, ingested, ingested),
        lambda: open_painting(store, None, base, PromptSet("file", ("a",)), evaluate, "cpu"),
        lambda: load_pipeline(None, base),
    ):
        with pytest.raises(ConfigError, match="prediction_type is 'sample'"):
            stage()


@pytest.mark.parametrize(
    ("part", "fields", "load"),
    [
        ("unet", {"time_cond_proj_dim": 64}, lambda base: components.load_unet(base)),
        ("unet", {"addition_embed_type": "image_hint"}, lambda base: components.load_unet(base)),
        ("vae", {"shift_factor": 0.3}, lambda base: components.load_vae(base, torch.float32)),
        (
            "tokenizer",
            {"model_max_length": 300},
            lambda base: load_text(base, torch.float32, "cpu"),
        ),
        ("scheduler", {"use_flow_sigmas": True}, lambda base: components.load_schedule(base)),
    ],
)
def test_each_part_looks_for_itself_too(
    mirror: Path, tmp_path: Path, part: str, fields: dict[str, Any], load: Callable[[BaseModel], object]
) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        load(changed(mirror, "epsilon", tmp_path, part, **fields))


def test_steps_and_timesteps_that_a_schedule_has_not_are_refused(mirror: Path, tmp_path: Path) -> None:
    base, store = changed(mirror, "epsilon", tmp_path, "scheduler", **TABLE), str(tmp_path / "store")
    assert check_supported(base) == 100
    ingested = tiny.ingest(store)
    with pytest.raises(ConfigError, match="200 sampling steps are more than the 100 timesteps"):
        config = EvaluateConfig(prompts="file", resolution=tiny.SIDE, steps=200)
        open_painting(store, None, base, PromptSet("file", ("a",)), config, "cpu")
    with pytest.raises(ConfigError, match=r"(?s)timestep_range is \[50, 100\].*within 0\.\.99"):
        model_writer(store, base, TrainConfig(method="diffusion-dpo", timestep_range=(50, 100)), ingested, ingested)


def test_a_vae_in_place_of_the_own_one_is_looked_at(mirror: Path, tmp_path: Path) -> None:
    shutil.copytree(mirror / "tiny/xl/vae", tmp_path / "vae")
    base = replace(tiny.base(mirror, "xl"), vae_repo=str(tmp_path / "vae"))
    assert check_supported(base) == 1000
    config = json.loads((tmp_path / "vae/config.json").read_text())
    (tmp_path / "vae/config.json").write_text(json.dumps(config | {"shift_factor": 0.5}))
    for look in (check_supported, lambda base: components.load_vae(base, torch.float32)):
        with pytest.raises(ConfigError, match="shift_factor"):
            look(base)


def test_the_fields_are_those_of_diffusers_schedulers() -> None:
    """A field that a new release adds to one of them may say something about the noise: look, then list it."""
    found = {
        name
        for scheduler in noise.SCHEDULERS
        for name in inspect.signature(getattr(diffusers, scheduler).__init__).parameters
    } - {"self", "args", "kwargs"}
    assert found <= noise.FIELDS
