"""A published folder: which files are the base's own, and what is in those that are not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file

from pipeline_lib.generation.painter import make_scheduler
from pipeline_lib.models.aligned import load_pipeline
from pipeline_lib.models.published import save
from tests.pipeline_lib.models import tiny

SINCE_0_31 = {"use_flow_sigmas", "flow_shift", "use_dynamic_shifting", "time_shift_type"}
"""Fields that DPMSolverMultistepScheduler has got after diffusers 0.31."""


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("name", ["v", "xl"])
def test_all_but_the_unet_and_the_sampler_are_the_bases_own_files(mirror: Path, tmp_path: Path, name: str) -> None:
    own = Path(shutil.copytree(mirror / "tiny" / name, tmp_path / "tiny" / name))
    for note in ("tokenizer/NOTES.md", "text_encoder/model.fp16.safetensors", "vae/diffusion_pytorch_model.bin"):
        (own / note).write_text("not loaded")
    (own / "text_encoder/config.json").write_text(json.dumps(read(own / "text_encoder/config.json"), indent=7))
    base = tiny.base(tmp_path, name)
    pipeline = load_pipeline(None, base)
    pipeline.scheduler = make_scheduler("dpmsolver++", pipeline.scheduler.config)
    out = save(pipeline, base, tmp_path / "out")

    made = {"model_index.json", "scheduler/scheduler_config.json", "unet/config.json"}
    weights = "unet/diffusion_pytorch_model.safetensors"
    published, wanted = files(out), files(mirror / "tiny" / name)
    assert published.keys() == wanted.keys()
    wanted["text_encoder/config.json"] = (own / "text_encoder/config.json").read_bytes()
    assert {n for n in wanted if published[n] != wanted[n]} <= {*made, weights}
    found, original = load_file(out / weights), load_file(mirror / "tiny" / name / weights)
    assert found.keys() == original.keys() and all(torch.equal(found[k], original[k]) for k in found)

    assert read(out / "unet/config.json").keys() <= read(own / "unet/config.json").keys()
    sampler, trained = read(out / "scheduler/scheduler_config.json"), read(own / "scheduler/scheduler_config.json")
    assert sampler["_class_name"] == "DPMSolverMultistepScheduler"
    assert not SINCE_0_31 & sampler.keys() and "clip_sample" not in sampler, "fields of no use to the sampler"
    assert {k: v for k, v in sampler.items() if k in trained and k[0] != "_"}.items() <= trained.items()
    loaded = DiffusionPipeline.from_pretrained(out)
    settings = {k: v for k, v in loaded.scheduler.config.items() if k[0] != "_"}
    assert settings.items() <= dict(pipeline.scheduler.config).items() and settings["algorithm_type"] == "dpmsolver++"
    assert torch.equal(loaded.scheduler.alphas_cumprod, pipeline.scheduler.alphas_cumprod)
    index = read(out / "model_index.json")
    assert index["scheduler"] == ["diffusers", "DPMSolverMultistepScheduler"]
    assert index | {"scheduler": 0} == read(own / "model_index.json") | {"scheduler": 0}


def test_a_replaced_vae_and_a_safety_checker(mirror: Path, tmp_path: Path) -> None:
    """SDXL's preset has another VAE than its base; SD 1.5's base names a safety checker, which is not published."""
    own = Path(shutil.copytree(mirror / "tiny/v", tmp_path / "tiny/v"))
    shutil.copytree(mirror / "tiny/xl/vae", tmp_path / "tiny/vae")
    (tmp_path / "tiny/vae/config.json").write_text(json.dumps(read(own / "vae/config.json") | {"scaling_factor": 3.0}))
    index = read(own / "model_index.json") | {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "requires_safety_checker": True,
        "_name_or_path": str(tmp_path),
    }
    del index["feature_extractor"]  # as some have
    (own / "model_index.json").write_text(json.dumps(index))
    base = replace(tiny.base(tmp_path, "v"), vae_repo="tiny/vae")
    out = save(load_pipeline(None, base), base, tmp_path / "out")
    assert files(out / "vae") == files(tmp_path / "tiny/vae")
    found = read(out / "model_index.json")
    assert found["safety_checker"] == [None, None] and found["requires_safety_checker"] is False
    assert not {"feature_extractor", "_name_or_path"} & found.keys()
    assert DiffusionPipeline.from_pretrained(out).vae.config.scaling_factor == 3.0
