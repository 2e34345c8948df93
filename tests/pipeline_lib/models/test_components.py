"""Loading: exact conditioning, strict weights, typed errors."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler
from safetensors.torch import load_file, save_file

from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.errors import CheckpointError, ConfigError, HubError
from pipeline_lib.models import FAMILIES, components, parts
from tests.pipeline_lib.models import tiny


@pytest.mark.parametrize("name", ["epsilon", "v"])
def test_sd_embeddings_are_the_last_hidden_state(mirror: Path, name: str) -> None:
    base = tiny.base(mirror, name)
    pipeline = components.load_text_pipeline(base, torch.float32, "cpu")
    embeddings, pooled = FAMILIES.get("sd").encode_prompts(pipeline, ["a red circle", ""])
    tokens = pipeline.tokenizer(
        ["a red circle", ""], padding="max_length", max_length=12, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        expected = pipeline.text_encoder(tokens.input_ids).last_hidden_state
    torch.testing.assert_close(embeddings, expected)
    assert pooled is None
    assert pipeline.unet is None
    assert pipeline.vae is None


def test_sdxl_embeddings_are_both_penultimate_states_and_the_second_projection(mirror: Path) -> None:
    pipeline = components.load_text_pipeline(tiny.base(mirror, "xl"), torch.float32, "cpu")
    embeddings, pooled = FAMILIES.get("sdxl").encode_prompts(pipeline, ["a blue square", ""])
    tokens = pipeline.tokenizer(
        "a blue square", padding="max_length", max_length=12, truncation=True, return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        first = pipeline.text_encoder(tokens, output_hidden_states=True)
        second = pipeline.text_encoder_2(tokens, output_hidden_states=True)
    expected = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
    torch.testing.assert_close(embeddings[:1], expected)
    assert pooled is not None
    torch.testing.assert_close(pooled[:1], second.text_embeds)
    # The pipeline's unconditional embedding is zero (force_zeros_for_empty_prompt).
    assert not embeddings[1].any()
    assert not pooled[1].any()


def test_sdxl_time_ids() -> None:
    added = FAMILIES.get("sdxl").conditioning(torch.zeros(2, 12, 24), torch.zeros(2, 8), 1024)["added_cond_kwargs"]
    assert added["time_ids"].tolist() == [[1024, 1024, 0, 0, 1024, 1024]] * 2


@pytest.mark.parametrize("name", tiny.NAMES)
def test_conditioning_is_what_the_stock_pipeline_passes(mirror: Path, name: str) -> None:
    """Record the UNet's arguments while the pipeline generates, and compare with ours for the same prompt."""
    from pipeline_lib.models.aligned import load_pipeline

    base = tiny.base(mirror, name)
    family = FAMILIES.get(base.family)
    pipeline = load_pipeline(None, base)
    seen: dict[str, object] = {}
    forward = pipeline.unet.forward

    def record(*args: object, **kwargs: object) -> object:
        seen.update(kwargs)
        return forward(*args, **kwargs)

    pipeline.unet.forward = record
    pipeline("a red circle", num_inference_steps=1, guidance_scale=1.0, height=8, width=8, output_type="latent")
    ours = family.conditioning(*family.encode_prompts(pipeline, ["a red circle"]), 8)
    torch.testing.assert_close(seen["encoder_hidden_states"], ours["encoder_hidden_states"])
    added = seen.get("added_cond_kwargs") or {}
    expected = ours.get("added_cond_kwargs", {})
    assert set(added) == set(expected)  # type: ignore[call-overload]  # a dict, as diffusers passes it
    for key, value in expected.items():
        torch.testing.assert_close(added[key].float(), value.float())  # type: ignore[index]


@pytest.mark.parametrize("name", ["epsilon", "v"])
def test_schedule_is_the_schedulers(mirror: Path, name: str) -> None:
    base = tiny.base(mirror, name)
    schedule = components.load_schedule(base)
    scheduler = DDPMScheduler.from_pretrained(Path(base.mirror, base.repo), subfolder="scheduler")
    clean, noise, timesteps = torch.randn(5, 4, 4, 4), torch.randn(5, 4, 4, 4), torch.tensor([0, 1, 500, 998, 999])
    noisy, target = schedule.noisy_and_target(clean, noise, timesteps)
    torch.testing.assert_close(noisy, scheduler.add_noise(clean, noise, timesteps))
    velocity = scheduler.get_velocity(clean, noise, timesteps)
    torch.testing.assert_close(target, noise if name == "epsilon" else velocity)


def test_wrong_family_names_the_right_one(mirror: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)StableDiffusionXLPipeline.*family='sdxl'"):
        components.load_unet(replace(tiny.base(mirror, "xl"), family="sd"))


def test_missing_repository_and_missing_file(mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="tiny/absent"):
        components.load_unet(BaseModel(family="sd", repo="tiny/absent", mirror=str(mirror)))
    shutil.copytree(mirror / "tiny/epsilon", tmp_path / "tiny/epsilon")
    shutil.rmtree(tmp_path / "tiny/epsilon/unet")
    with pytest.raises(HubError, match="unet"):
        components.load_unet(tiny.base(tmp_path, "epsilon"))


def test_unreachable_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubError, match="stable-diffusion-xl-base"):
        components.load_vae(BaseModel(family="sdxl", repo="stabilityai/stable-diffusion-xl-base-1.0"), torch.float32)


@pytest.mark.parametrize("damage", ["missing", "unexpected", "truncated"])
def test_weights_that_do_not_fit_are_an_error(mirror: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(mirror / "tiny/epsilon", tmp_path / "tiny/epsilon")
    path = tmp_path / "tiny/epsilon/unet/diffusion_pytorch_model.safetensors"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        weights = load_file(path)
        if damage == "missing":
            del weights["conv_in.weight"]
        else:
            weights["conv_in.extra"] = torch.zeros(1)
        save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="unet"):
        components.load_unet(tiny.base(tmp_path, "epsilon"))


@pytest.mark.parametrize("library", ["theirs", "os"])
def test_code_beside_the_weights_is_not_run(mirror: Path, tmp_path: Path, library: str) -> None:
    folder, mark = tmp_path / "tiny/epsilon", tmp_path / "ran"
    shutil.copytree(mirror / "tiny/epsilon", folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"text_encoder": [library, "Theirs"]}))
    (folder / f"text_encoder/{library}.py").write_text(f"open({str(mark)!r}, 'w')\nclass Theirs: ...\n")
    with pytest.raises(CheckpointError, match=f"takes parts from {library}: code that is not run here"):
        components.load_text_pipeline(tiny.base(tmp_path, "epsilon"), torch.float32, "cpu")
    assert not mark.exists()


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model", "text_encoder/model"])
def test_weights_are_safetensors_or_nothing(mirror: Path, tmp_path: Path, part: str) -> None:
    class Code:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return mark.touch, ()

    folder, mark = tmp_path / "tiny/epsilon", tmp_path / "ran"
    shutil.copytree(mirror / "tiny/epsilon", folder)
    (folder / f"{part}.safetensors").unlink()
    for name in ("diffusion_pytorch_model.bin", "pytorch_model.bin", "model.bin"):
        (folder / part).with_name(name).write_bytes(pickle.dumps(Code()))
    base = tiny.base(tmp_path, "epsilon")
    with pytest.raises((CheckpointError, HubError), match=r"epsilon"):
        components.load_unet(base)
        components.load_text_pipeline(base, torch.float32, "cpu")
    assert not mark.exists()


def test_sdxl_vae_stays_fp32_unless_it_is_the_fp16_safe_one(mirror: Path, tmp_path: Path) -> None:
    base = tiny.base(mirror, "xl")
    assert components.load_vae(base, torch.float16).dtype == torch.float32
    assert components.load_vae(base, torch.bfloat16).dtype == torch.bfloat16
    assert components.load_vae(tiny.base(mirror, "epsilon"), torch.float16).dtype == torch.float16
    safe = tmp_path / "safe"
    shutil.copytree(mirror / "tiny/xl/vae", safe)
    config = json.loads((safe / "config.json").read_text())
    (safe / "config.json").write_text(json.dumps({**config, "force_upcast": False}))
    assert components.load_vae(replace(base, vae_repo=str(safe)), torch.float16).dtype == torch.float16


def test_encoder_digest_follows_the_encoders_and_nothing_else(mirror: Path, tmp_path: Path) -> None:
    shutil.copytree(mirror / "tiny/epsilon", tmp_path / "tiny/epsilon")
    here, there = tiny.base(mirror, "epsilon"), tiny.base(tmp_path, "epsilon")
    assert parts.encoder_digest(here) == parts.encoder_digest(there)
    (tmp_path / "tiny/epsilon/unet/config.json").write_text("{}")
    assert parts.encoder_digest(here) == parts.encoder_digest(there)
    weights = tmp_path / "tiny/epsilon/vae/diffusion_pytorch_model.safetensors"
    changed = {name: tensor + 1 for name, tensor in load_file(weights).items()}
    save_file(changed, weights, metadata={"format": "pt"})
    assert parts.encoder_digest(here) != parts.encoder_digest(there)
