"""Results of training as a consumer loads them: our loader, plain diffusers, and the exported folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.errors import CheckpointError
from pipeline_lib.models.aligned import export, load_pipeline, read_base
from pipeline_lib.training.policy import Policy, build_policy, save_policy
from pipeline_lib.training.reference import predict
from tests.pipeline_lib.models import tiny

LORA = TrainConfig(method="diffusion-dpo", adapter="lora", lora_rank=2, lora_alpha=6)
FULL = replace(LORA, adapter="full")


def trained(mirror: Path, name: str, config: TrainConfig, out: Path) -> Policy:
    """A policy with every trainable weight moved, as if by training, and its saved result."""
    policy = build_policy(tiny.base(mirror, name), config)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in policy.trainable.values():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    save_policy(policy, tiny.base(mirror, name), config, out)
    return policy


def image(pipeline: Any) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    return pipeline(
        "a red circle", num_inference_steps=2, height=8, width=8, generator=generator, output_type="np"
    ).images[0]


def inputs(name: str) -> tuple[tuple[torch.Tensor, torch.Tensor], dict[str, Any]]:
    torch.manual_seed(9)
    context = torch.randn(2, 12, 24 if name.startswith("xl") else 16)
    conditioning: dict[str, Any] = {"encoder_hidden_states": context}
    if name.startswith("xl"):
        conditioning["added_cond_kwargs"] = {"text_embeds": torch.randn(2, 8), "time_ids": torch.ones(2, 6)}
    return (torch.randn(2, 4, 4, 4), torch.tensor([3, 700])), conditioning


@pytest.mark.parametrize("config", [LORA, FULL], ids=["lora", "full"])
@pytest.mark.parametrize("name", ["v", "xl"])
def test_result_is_the_trained_model_in_every_way_of_loading(
    mirror: Path, tmp_path: Path, name: str, config: TrainConfig
) -> None:
    base, model_dir = tiny.base(mirror, name), tmp_path / "model"
    policy = trained(mirror, name, config, model_dir)
    assert read_base(model_dir) == base
    latents, conditioning = inputs(name)
    ours = load_pipeline(model_dir, base)
    with torch.no_grad():
        expected = policy.unet.eval()(*latents, **conditioning, return_dict=False)[0]
        loaded = ours.unet(*latents, **conditioning, return_dict=False)[0]
    torch.testing.assert_close(loaded, expected)
    aligned = image(ours)
    assert not np.allclose(aligned, image(load_pipeline(None, base)))
    # The consumer's two ways need no code of ours.
    plain = DiffusionPipeline.from_pretrained(Path(base.mirror, base.repo))
    if config.adapter == "lora":
        plain.load_lora_weights(model_dir)
    else:
        plain.unet = type(plain.unet).from_pretrained(model_dir / "unet")
    np.testing.assert_allclose(image(plain), aligned, atol=1e-5)
    exported = DiffusionPipeline.from_pretrained(export(model_dir, base, tmp_path / "out"))
    np.testing.assert_allclose(image(exported), aligned, atol=1e-4)
    assert str(tmp_path) not in (tmp_path / "out/unet/config.json").read_text()


@pytest.mark.parametrize("name", ["v", "xl"])
def test_lora_without_its_adapter_is_the_base(mirror: Path, tmp_path: Path, name: str) -> None:
    policy = trained(mirror, name, LORA, tmp_path / "model")
    latents, conditioning = inputs(name)
    base = load_pipeline(None, tiny.base(mirror, name)).unet
    with torch.no_grad():
        expected = base(*latents, **conditioning, return_dict=False)[0]
        moved = policy.unet(*latents, **conditioning, return_dict=False)[0]
    assert torch.equal(predict(policy, None, latents, conditioning), expected)
    assert not torch.allclose(moved, expected)
    with torch.no_grad():  # and the adapters are back on afterwards
        torch.testing.assert_close(policy.unet(*latents, **conditioning, return_dict=False)[0], moved)


def test_lora_trains_attention_projections_only_in_fp32(mirror: Path) -> None:
    policy = build_policy(tiny.base(mirror, "v"), replace(LORA, mixed_precision="bf16"))
    assert {parameter.dtype for parameter in policy.trainable.values()} == {torch.float32}
    assert policy.unet.conv_in.weight.dtype == torch.bfloat16
    layers = {name.split(".lora_")[0].split(".", 4)[-1] for name in policy.trainable}
    assert {layer.rpartition("attn")[2][2:] for layer in layers} == {"to_q", "to_k", "to_v", "to_out.0"}


def test_directory_without_a_model(mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither"):
        load_pipeline(tmp_path, tiny.base(mirror, "v"))
    with pytest.raises(CheckpointError, match=r"base\.json"):
        read_base(tmp_path)


def test_lora_of_another_base_is_refused(mirror: Path, tmp_path: Path) -> None:
    trained(mirror, "xl", LORA, tmp_path)
    with pytest.raises(CheckpointError, match="does not fit"):
        load_pipeline(tmp_path, tiny.base(mirror, "v"))
