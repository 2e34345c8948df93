"""Noise processes and latents that are not SD's own, and yet understood: as plain diffusers alone has them."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from pipeline_lib.core.config import BaseModel, EncodeConfig, EvaluateConfig
from pipeline_lib.core.store import Dataset
from pipeline_lib.encoding.stage import encode
from pipeline_lib.generation.embeddings import Texts
from pipeline_lib.generation.painter import initial_noise, load_painter, make_scheduler
from pipeline_lib.models import FAMILIES
from pipeline_lib.models.aligned import load_pipeline
from pipeline_lib.models.components import load_schedule
from pipeline_lib.models.decoding import decode
from pipeline_lib.models.supported import check_supported
from pipeline_lib.shapes import assets_dir
from pipeline_lib.training.tables import open_tables, read_labels
from tests.pipeline_lib.models import tiny
from tests.pipeline_lib.models.changed import GONE, changed

BETAS = [0.0005 + 0.00004 * i for i in range(500)]
ZERO = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
PROCESSES: dict[str, dict[str, Any]] = {
    "cosine": {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"},
    "linear, 400 timesteps": {"beta_schedule": "linear", "beta_end": 0.03, "num_train_timesteps": 400},
    "table": {"trained_betas": BETAS, "num_train_timesteps": 500},
    "no signal at the end": ZERO,
    "table, no signal at the end": ZERO | {"trained_betas": BETAS, "num_train_timesteps": 500},
    "spaced": {"use_karras_sigmas": True, "timestep_spacing": "linspace"},
    "linspace": {"timestep_spacing": "linspace", "steps_offset": 0, "set_alpha_to_one": False},
}
EVALUATE = EvaluateConfig(prompts="file", steps=5, guidance=3.0, resolution=tiny.SIDE)
PROMPT = "a red circle"


def painted(base: BaseModel, config: EvaluateConfig) -> np.ndarray:
    (png,) = load_painter(None, base, config, Texts(FAMILIES.get(base.family)), "cpu").paint([(PROMPT, 0)])
    return np.asarray(Image.open(io.BytesIO(png)), np.int16)


def by_diffusers(base: BaseModel, config: EvaluateConfig, dtype: torch.dtype = torch.float32) -> np.ndarray:
    """The image of the stock pipeline as anybody loads it, with the sampler made from its own configuration."""
    plain = DiffusionPipeline.from_pretrained(Path(base.mirror, base.repo), dtype=dtype)
    plain.set_progress_bar_config(disable=True)
    plain.scheduler = make_scheduler(config.scheduler, plain.scheduler.config)
    noise = initial_noise(PROMPT, 0, (plain.unet.config.in_channels, tiny.SIDE // 2, tiny.SIDE // 2))[None].to(dtype)
    (image,) = plain(
        PROMPT,
        latents=noise,
        guidance_scale=config.guidance,
        num_inference_steps=config.steps,
        height=tiny.SIDE,
        width=tiny.SIDE,
    ).images
    return np.asarray(image, np.int16)


@pytest.mark.parametrize("scheduler", ["DDPMScheduler", "EulerDiscreteScheduler", "DDIMScheduler"])
@pytest.mark.parametrize("process", PROCESSES)
def test_training_draws_noise_and_targets_as_the_schedulers_do(
    mirror: Path, tmp_path: Path, process: str, scheduler: str
) -> None:
    base = changed(mirror, "epsilon", tmp_path, "scheduler", _class_name=scheduler, **PROCESSES[process])
    changed(mirror, "epsilon", tmp_path, "index", scheduler=["diffusers", scheduler])
    schedule, own = (
        load_schedule(base),
        diffusers.DDPMScheduler.from_pretrained(Path(base.mirror, base.repo), subfolder="scheduler"),
    )
    timesteps = check_supported(base)
    assert schedule.timesteps == timesteps == PROCESSES[process].get("num_train_timesteps", 1000)
    assert torch.equal(schedule.alphas_cumprod, own.alphas_cumprod)
    theirs = getattr(diffusers, scheduler).from_pretrained(Path(base.mirror, base.repo), subfolder="scheduler")
    torch.testing.assert_close(schedule.alphas_cumprod[:-1], torch.cumprod(1 - theirs.betas, 0)[:-1])
    torch.manual_seed(0)
    at = torch.tensor([0, 1, timesteps // 2, timesteps - 2, timesteps - 1])
    clean, noise = torch.randn(5, 4, 4, 4), torch.randn(5, 4, 4, 4)
    noisy, target = schedule.noisy_and_target(clean, noise, at)
    torch.testing.assert_close(noisy, own.add_noise(clean, noise, at))
    v = PROCESSES[process].get("prediction_type") == "v_prediction"
    torch.testing.assert_close(target, own.get_velocity(clean, noise, at) if v else noise)
    if process.endswith("no signal at the end"):
        torch.testing.assert_close(noisy[-1], noise[-1])
        torch.testing.assert_close(target[-1], -clean[-1])


SAMPLERS = ("ddim", "dpmsolver++", "euler")
TURN = {"no signal at the end": "ddim", "linear, 400 timesteps": "dpmsolver++", "table": "euler"}
"""What the default suite paints; the others are slow."""


@pytest.mark.parametrize(
    ("process", "sampler"),
    [
        pytest.param(process, sampler, marks=() if TURN.get(process) == sampler else pytest.mark.slow)
        for process in PROCESSES
        for sampler in SAMPLERS
    ],
)
def test_an_image_is_what_diffusers_alone_paints(mirror: Path, tmp_path: Path, process: str, sampler: Any) -> None:
    base = changed(mirror, "epsilon", tmp_path, "scheduler", **PROCESSES[process])
    config = replace(EVALUATE, scheduler=sampler)
    ours = painted(base, config)
    assert np.abs(ours - by_diffusers(base, config)).max() <= 1
    assert np.abs(ours - painted(tiny.base(mirror, "epsilon"), config)).max() > 1, "another process, another image"


def tables(store: str, base: BaseModel, precision: Any = "no") -> Any:
    ingested = tiny.ingest(store)
    encoded: Dataset = encode(store, base, replace(tiny.ENCODE, mixed_precision=precision), ingested, device="cpu")
    return open_tables(encoded, read_labels(tiny.label(store, ingested)), Path(store) / "cache")


@pytest.mark.parametrize(
    ("name", "fields", "scale"),
    [("epsilon", {"scaling_factor": 0.7}, 0.7), ("epsilon", {"scaling_factor": GONE}, 0.18215)],
)
def test_the_vaes_own_scale_is_that_of_training_and_of_images(
    mirror: Path, tmp_path: Path, name: str, fields: dict[str, Any], scale: float
) -> None:
    base = changed(mirror, name, tmp_path, "vae", **fields)
    assert tables(str(tmp_path / "store"), base).scaling_factor == scale
    config = replace(EVALUATE, scheduler="ddim")
    assert np.abs(painted(base, config) - by_diffusers(base, config)).max() <= 1


def _other_latents(folder: Path) -> None:
    """Latents of 6 channels and no convolutions about them, as of newer VAEs, and a UNet for these."""
    torch.manual_seed(3)
    AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=6,
        scaling_factor=0.5,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).save_pretrained(folder / "vae")
    tiny._unet(16, in_channels=6, out_channels=6).save_pretrained(folder / "unet")


def test_latents_of_other_channels_without_convolutions_about_them(mirror: Path, tmp_path: Path) -> None:
    base = changed(mirror, "epsilon", tmp_path, "vae")
    _other_latents(Path(base.mirror, base.repo))
    check_supported(base)
    found = tables(str(tmp_path / "store"), base)
    assert found.moments.shape[2:] == (6, 4, 4)
    vae = AutoencoderKL.from_pretrained(Path(base.mirror, base.repo), subfolder="vae")
    pixels = torch.from_numpy(np.asarray(Image.open(io.BytesIO(tiny.png(0))), np.float32)).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = vae.encode(pixels / 127.5 - 1).latent_dist.mean[0]
    torch.testing.assert_close(
        torch.from_numpy(found.moments[0, 0].astype(np.float32)), expected, atol=2e-3, rtol=2e-3
    )
    config = replace(EVALUATE, scheduler="euler")
    assert np.abs(painted(base, config) - by_diffusers(base, config)).max() <= 1


XL = BaseModel(family="sdxl", repo="shapes/base-xl", mirror="shapes://hub")
"""Its VAE says force_upcast, as SDXL's own does, which overflows in fp16."""
FP16 = EvaluateConfig(prompts="file", scheduler="euler", steps=3, guidance=3.0, resolution=32, mixed_precision="fp16")


def _loud(base: BaseModel, out: Path) -> BaseModel:
    """A copy whose decoder has channels beyond fp16, as SDXL's VAE has inside, and the same images in fp32."""
    folder = shutil.copytree(assets_dir() / "hub" / base.repo, out / "loud")
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    layers = [f"decoder.conv_in.{name}" for name in ("weight", "bias")]
    factor = 6e4 / max(
        weights[layer].float().abs().max() for layer in layers
    )  # beyond 65,504 there is nothing in fp16
    for layer in layers:
        weights[layer] = weights[layer].float() * factor  # a norm comes next
    save_file(weights, path, metadata={"format": "pt"})
    return BaseModel(family="sdxl", repo="loud", mirror=str(out))


def test_sdxl_paints_in_fp16_with_a_vae_that_overflows_there(tmp_path: Path) -> None:
    loud = _loud(XL, tmp_path)
    painter = load_painter(None, loud, FP16, Texts(FAMILIES.get("sdxl")), "cpu")
    assert painter.pipeline.unet.dtype == torch.float16 and painter.pipeline.vae.dtype == torch.float32
    (png,) = painter.paint([(PROMPT, 0)])
    ours = np.asarray(Image.open(io.BytesIO(png)), np.int16)
    plain = DiffusionPipeline.from_pretrained(Path(loud.mirror, loud.repo), dtype=torch.float16)
    plain.set_progress_bar_config(disable=True)
    plain.scheduler = make_scheduler("euler", plain.scheduler.config)
    noise = initial_noise(PROMPT, 0, (4, 16, 16))[None].to(torch.float16)
    settings: dict[str, Any] = {"guidance_scale": 3.0, "num_inference_steps": 3, "height": 32, "width": 32}
    (image,) = plain(PROMPT, latents=noise, **settings).images  # which converts the VAE to fp32, from its fp16 weights
    assert np.abs(ours - np.asarray(image, np.int16)).max() <= 2
    assert ours.std() > 10, "an image, and not black"
    with torch.no_grad():
        latents = plain(PROMPT, latents=noise, output_type="latent", **settings).images
        broken = plain.vae.decode(latents / plain.vae.config.scaling_factor, return_dict=False)[0]
    assert not broken.isfinite().all(), "in fp16 it does overflow"


def test_sdxl_encodes_in_fp16_with_a_vae_that_overflows_there(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    ingested = tiny.ingest(store, side=32)
    config = EncodeConfig(resolution=32, batch_size=4, mixed_precision="fp16")
    found = encode(store, XL, config, ingested, device="cpu")
    full = encode(store, XL, replace(config, mixed_precision="no"), ingested, device="cpu")
    ours, theirs = (np.array(data.scan("latents").collect()["mean"].to_list()) for data in (found, full))
    assert np.array_equal(ours, theirs), "the VAE computes in fp32 both times"


def test_autocast_does_not_take_the_vae_along(tmp_path: Path) -> None:
    """Samples are painted in the training's mixed precision, whose autocast would convert every convolution."""
    pipeline = load_pipeline(None, _loud(XL, tmp_path))
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = decode(pipeline, latents)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            assert np.array_equal(decode(pipeline, latents), expected)
            with torch.no_grad():
                taken = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor, return_dict=False)[0]
    assert not taken.isfinite().all()
