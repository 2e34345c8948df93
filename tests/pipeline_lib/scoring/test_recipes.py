"""Scores against straightforward computations with the libraries' own models and processors, on the same weights."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional

from pipeline_lib.scoring.aesthetic import FILE, REPO, read_head
from pipeline_lib.scoring.base import Scorer
from pipeline_lib.scoring.clip import L14
from pipeline_lib.scoring.engine import load_scorers, score_images
from pipeline_lib.scoring.heads import linear_head
from pipeline_lib.scoring.preprocess import CLIP_MEAN, CLIP_STD
from tests.pipeline_lib.scoring.conftest import HPS_CONFIG, MED, head_state, picture, write_clip, write_processor

DATA = Path(os.environ.get("PREFERENCE_DATA", Path(__file__).resolve().parents[4] / "shared/data"))
REWARD_MEAN, REWARD_STD = 0.16717362830052426, 1.0333394966054072


def torchvision_pixels(image: Image.Image, side: int = 32) -> torch.Tensor:
    """OpenAI CLIP's preprocess, which Aesthetic and ImageReward use too."""
    from torchvision import transforms as T

    resize = T.Resize(side, interpolation=T.InterpolationMode.BICUBIC)
    return T.Compose([resize, T.CenterCrop(side), T.ToTensor(), T.Normalize(CLIP_MEAN, CLIP_STD)])(image)[None]


@torch.no_grad()
def test_pickscore_is_the_model_cards_snippet(
    mirror: Path, scorers: dict[str, Scorer], pictures: list[Image.Image], prompts: list[str]
) -> None:
    from transformers import CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    model = CLIPModel.from_pretrained(mirror / "yuvalkirstain/PickScore_v1").eval()
    processor = mirror / "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    images = CLIPImageProcessorPil.from_pretrained(processor)
    tokenizer = CLIPTokenizer.from_pretrained(processor)
    expected = []
    for image, prompt in zip(pictures, prompts, strict=True):
        text = tokenizer(prompt, padding=True, truncation=True, max_length=16, return_tensors="pt")
        pixels = torch.as_tensor(np.asarray(images(image, return_tensors="np")["pixel_values"]))
        expected.append(model(**text, pixel_values=pixels).logits_per_image.item())
    found = score_images([scorers["pickscore"]], pictures, prompts)["pickscore"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_clip_is_the_cosine_of_clip_model(
    mirror: Path, scorers: dict[str, Scorer], pictures: list[Image.Image], prompts: list[str]
) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    folder = mirror / "openai/clip-vit-large-patch14"
    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
    expected = []
    for image, prompt in zip(pictures, prompts, strict=True):
        text = tokenizer(prompt, truncation=True, max_length=16, return_tensors="pt")
        logit = model(**text, pixel_values=torchvision_pixels(image)).logits_per_image
        expected.append((logit / model.logit_scale.exp()).item())
    found = score_images([scorers["clip"]], pictures, prompts)["clip"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_hpsv2_is_the_packages_loop(
    mirror: Path, scorers: dict[str, Scorer], pictures: list[Image.Image], prompts: list[str]
) -> None:
    import open_clip
    import torchvision.transforms.functional as F
    from torchvision.transforms import InterpolationMode

    folder = mirror / "xswu/HPSv2"
    model = open_clip.CLIP(**HPS_CONFIG, quick_gelu=False, output_dict=True).eval()
    model.load_state_dict(torch.load(folder / "HPS_v2.1_compressed.pt", weights_only=True)["state_dict"])
    tokenizer = open_clip.SimpleTokenizer(str(folder / "bpe_simple_vocab.txt.gz"), context_length=16)
    expected = []
    for image, prompt in zip(pictures, prompts, strict=True):
        pixels = F.to_tensor(image)
        scale = 32 / max(pixels.shape[1:])
        if scale != 1.0:
            new = [round(side * scale) for side in pixels.shape[1:]]
            pixels = F.resize(pixels, new, InterpolationMode.BICUBIC, antialias=False)
            rows, columns = 32 - new[0], 32 - new[1]
            pixels = F.pad(pixels, [columns // 2, rows // 2, columns - columns // 2, rows - rows // 2])
        out = model(F.normalize(pixels, CLIP_MEAN, CLIP_STD)[None], tokenizer([prompt]))
        expected.append((out["image_features"] @ out["text_features"].T).item())
    found = score_images([scorers["hpsv2"]], pictures, prompts)["hpsv2"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_image_reward_is_huggingface_blip_with_the_head(
    mirror: Path, scorers: dict[str, Scorer], pictures: list[Image.Image], prompts: list[str]
) -> None:
    from transformers import BertTokenizer, BlipTextConfig, BlipVisionConfig
    from transformers.models.blip.modeling_blip import BlipVisionModel
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    state = torch.load(mirror / "THUDM/ImageReward/ImageReward.pt", weights_only=True)
    vision = BlipVisionModel(
        BlipVisionConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=1,
            image_size=32,
            patch_size=16,
            layer_norm_eps=1e-6,
        )
    )
    renamed = {
        "cls_token": "embeddings.class_embedding",
        "pos_embed": "embeddings.position_embedding",
        "patch_embed.proj": "embeddings.patch_embedding",
        "blocks.": "encoder.layers.",
        ".norm1.": ".layer_norm1.",
        ".norm2.": ".layer_norm2.",
        ".attn.qkv.": ".self_attn.qkv.",
        ".attn.proj.": ".self_attn.projection.",
    }

    def hf_name(name: str) -> str:
        for old, new in renamed.items():
            name = name.replace(old, new)
        return name.replace("norm.", "post_layernorm.") if name.startswith("norm.") else name

    prefix = "blip.visual_encoder."
    vision.load_state_dict({hf_name(n.removeprefix(prefix)): t for n, t in state.items() if n.startswith(prefix)})
    config = {name: value for name, value in MED.items() if name not in ("encoder_width", "add_cross_attention")}
    text = BlipTextModel(
        BlipTextConfig(**config, vocab_size=60, encoder_hidden_size=64, is_decoder=True), add_pooling_layer=False
    )
    prefix = "blip.text_encoder."
    text.load_state_dict(
        {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix) and "position_ids" not in n}
    )
    tokenizer = BertTokenizer.from_pretrained(mirror / "google-bert/bert-base-uncased")
    vision.eval(), text.eval()
    expected = []
    for image, prompt in zip(pictures, prompts, strict=True):
        seen = vision(torchvision_pixels(image)).last_hidden_state
        tokens = tokenizer(prompt, padding="max_length", truncation=True, max_length=35, return_tensors="pt")
        hidden = text(
            tokens.input_ids, attention_mask=tokens.attention_mask, encoder_hidden_states=seen, is_decoder=False
        ).last_hidden_state[:, 0]
        for index in (0, 2, 4, 6, 7):
            hidden = functional.linear(hidden, state[f"mlp.layers.{index}.weight"], state[f"mlp.layers.{index}.bias"])
        expected.append((hidden.item() - REWARD_MEAN) / REWARD_STD)
    found = score_images([scorers["imagereward"]], pictures, prompts)["imagereward"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_aesthetic_is_the_layered_head_on_the_unit_embedding(
    mirror: Path, scorers: dict[str, Scorer], pictures: list[Image.Image], prompts: list[str]
) -> None:
    from transformers import CLIPVisionModelWithProjection

    model = CLIPVisionModelWithProjection.from_pretrained(mirror / "openai/clip-vit-large-patch14").eval()
    head = head_state(24, 5)
    expected = []
    for image in pictures:
        hidden = functional.normalize(model(torchvision_pixels(image)).image_embeds, dim=-1)
        for index in (0, 2, 4, 6, 7):
            hidden = functional.linear(hidden, head[f"layers.{index}.weight"], head[f"layers.{index}.bias"])
        expected.append(hidden.item())
    found = score_images([scorers["aesthetic"]], pictures, prompts)["aesthetic"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def layered(head: dict[str, torch.Tensor], features: torch.Tensor) -> torch.Tensor:
    """Layer by layer in fp32, as the originals compute it."""
    for index in (0, 2, 4, 6, 7):
        features = functional.linear(features, head[f"layers.{index}.weight"], head[f"layers.{index}.bias"])
    return features[:, 0]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), width=st.integers(1, 800), unit=st.booleans())
def test_folded_heads_are_the_layered_ones(seed: int, width: int, unit: bool) -> None:
    """On unit vectors (aesthetic) and on features of any length (ImageReward)."""
    head = head_state(width, seed)
    features = torch.randn(64, width, generator=torch.Generator().manual_seed(seed))
    features = functional.normalize(features, dim=-1) if unit else features
    weight, bias = linear_head(head, Path("head.pth"))
    torch.testing.assert_close(features @ weight + bias, layered(head, features), rtol=1e-5, atol=1e-5)


def test_the_real_folded_head_is_the_layered_one() -> None:
    folder = DATA / "aesthetic"
    if not folder.is_dir():
        pytest.skip(f"no real aesthetic head at {folder} (set PREFERENCE_DATA)")
    weight, bias = read_head(folder / FILE)
    unit = functional.normalize(torch.randn(1000, 768, generator=torch.Generator().manual_seed(0)), dim=-1)
    expected = layered(torch.load(folder / FILE, map_location="cpu", weights_only=True), unit)
    torch.testing.assert_close(unit @ weight + bias, expected, rtol=0, atol=1e-5)
    assert weight.norm().item() == pytest.approx(17.9956, abs=1e-3)
    assert bias.item() == pytest.approx(5.23665, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "published"), [("fantasy", 7.067), ("aivazovsky", 6.782), ("gloomcore", 5.183), ("cloudcore", 5.392)]
)
def test_the_scorer_gives_real_embeddings_their_published_scores(name: str, published: float, tmp_path: Path) -> None:
    """The production path with the real head, behind a small CLIP that sees the real embedding in every image."""
    folder = DATA / "aesthetic"
    if not folder.is_dir():
        pytest.skip(f"no real aesthetic head at {folder} (set PREFERENCE_DATA)")
    embedding = torch.load(folder / f"{name}.pt", weights_only=True).float()[0]
    assert embedding.norm().item() != pytest.approx(1, abs=1e-3)  # so the scorer has to normalise
    clip, head = tmp_path / L14[0], tmp_path / REPO / FILE
    write_clip(clip, 1, "quick_gelu", width=len(embedding))
    write_processor(clip)
    weights = load_file(clip / "model.safetensors")
    weights["vision_model.post_layernorm.weight"].zero_()
    weights["vision_model.post_layernorm.bias"] = torch.eye(32)[0]
    weights["visual_projection.weight"] = torch.zeros(len(embedding), 32)
    weights["visual_projection.weight"][:, 0] = embedding
    save_file(weights, clip / "model.safetensors", metadata={"format": "pt"})
    head.parent.mkdir(parents=True)
    head.symlink_to((folder / FILE).resolve())
    scorers = load_scorers(["aesthetic"], str(tmp_path), "cpu")
    scores = score_images(scorers, [picture(64, 48, 0), picture(33, 90, 1)], ["", "a"])["aesthetic"]
    np.testing.assert_allclose(scores, published, rtol=0, atol=1e-3)
