"""Names of tensors: other spellings, harmless ones, and those of other formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_lib.core.errors import CheckpointError
from pipeline_lib.core.weights.keys import match

OWN = {"mid.attn.to_q.weight": (4, 4), "mid.attn.to_out.0.bias": (4,), "norm.weight": (4,)}
TEXT = {"embeddings.token_embedding.weight": (5, 4), "final_layer_norm.bias": (4,)}
FILE = Path("model.safetensors")


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("_orig_mod.norm.weight", "norm.weight"),
        ("module.norm.weight", "norm.weight"),
        ("_orig_mod.module.norm.weight", "norm.weight"),
        ("mid._orig_mod.attn.to_q.weight", "mid.attn.to_q.weight"),
        ("_fsdp_wrapped_module.mid._checkpoint_wrapped_module.attn.to_q.weight", "mid.attn.to_q.weight"),
        ("mid.attn.query.weight", "mid.attn.to_q.weight"),
        ("module.mid.attn.proj_attn.bias", "mid.attn.to_out.0.bias"),
    ],
)
def test_other_spellings_are_the_same_tensor(name: str, own: str) -> None:
    found = {kept: shape for kept, shape in OWN.items() if kept != own} | {name: OWN[own]}
    assert match(found, OWN, "UNet2DConditionModel", FILE) == {kept: kept for kept in OWN if kept != own} | {name: own}


def test_text_encoders_of_both_versions_of_the_library() -> None:
    long = {f"text_model.{name}": shape for name, shape in TEXT.items()}
    assert set(match(long, TEXT, "CLIPTextModel", FILE).values()) == set(TEXT)
    assert set(match(TEXT, long, "CLIPTextModelWithProjection", FILE).values()) == set(long)


def test_position_ids_are_harmless_where_they_are_known() -> None:
    extra = {"text_model.embeddings.position_ids": (1, 77)}
    assert set(match(TEXT | extra, TEXT, "CLIPTextModel", FILE)) == set(TEXT)
    with pytest.raises(CheckpointError, match=r"1 unexpected: text_model\.embeddings\.position_ids"):
        match(OWN | extra, OWN, "UNet2DConditionModel", FILE)


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("model.diffusion_model.", r"an original Stable Diffusion checkpoint.*3 missing.*3 unexpected"),
        ("conditioner.embedders.0.transformer.", r"an original SDXL checkpoint"),
        ("base_model.model.", "an adapter of PEFT"),
        ("lora_unet_", "a LoRA in kohya's format"),
        ("ema.", r"3 missing: .*norm\.weight; 3 unexpected: .*ema\.norm\.weight"),
    ],
)
def test_names_of_other_formats_are_refused_by_name(prefix: str, words: str) -> None:
    with pytest.raises(CheckpointError, match=words) as refused:
        match({prefix + name: shape for name, shape in OWN.items()}, OWN, "UNet2DConditionModel", FILE)
    assert ("from_single_file" in refused.value.remedy) == ("original" in words)


def test_every_kind_of_difference_is_listed() -> None:
    found = {"norm.weight": (5,), "module.mid.attn.to_q.weight": (4, 4), "mid.attn.to_q.weight": (4, 4), "x": ()}
    with pytest.raises(CheckpointError) as refused:
        match(found, OWN, "UNet2DConditionModel", FILE)
    for words in (
        "1 missing: mid.attn.to_out.0.bias",
        "1 unexpected: x",
        "1 misshapen: norm.weight is (5,), expected (4,)",
        "1 there twice: mid.attn.to_q.weight and module.mid.attn.to_q.weight",
    ):
        assert words in refused.value.problem
