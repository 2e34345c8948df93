"""The official scoring loops, from their recipes: a pair at a time, every scorer for itself.

Generous to them: each model is loaded once (hpsv2's `score` reads its checkpoint in every call), and a call encodes
its prompt once and its two images together (hpsv2 and image-reward loop over them). What is left is how these packages
are used: each opens the image files itself, encodes the prompt for every pair, and the aesthetic predictor runs a CLIP
of its own.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms as T
from torchvision.transforms import functional as F

Loop = Callable[[str, list[bytes]], list[float]]
"""A prompt and two encoded images -> their scores."""
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZE = 224


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def clip_transform() -> Callable[[Image.Image], Tensor]:
    """OpenAI's, also ImageReward's and the aesthetic predictor's."""
    return T.Compose(
        [
            T.Resize(SIZE, interpolation=T.InterpolationMode.BICUBIC),
            T.CenterCrop(SIZE),
            lambda image: image.convert("RGB"),
            T.ToTensor(),
            T.Normalize(MEAN, STD),
        ]
    )


def clip(mirror: Path, device: str, dtype: torch.dtype) -> Loop:
    from transformers import CLIPModel, CLIPTokenizer

    folder = mirror / "openai/clip-vit-large-patch14"
    model = CLIPModel.from_pretrained(folder).to(device, dtype).eval()
    tokenizer, transform = CLIPTokenizer.from_pretrained(folder), clip_transform()

    def score(prompt: str, contents: list[bytes]) -> list[float]:
        tokens = tokenizer([prompt], padding="max_length", truncation=True, max_length=77, return_tensors="pt")
        text = pooled(model.get_text_features(**tokens.to(device)))
        pixels = torch.stack([transform(opened(content)) for content in contents]).to(device, dtype)
        images = pooled(model.get_image_features(pixels))
        return (unit(images) @ unit(text).T)[:, 0].tolist()

    return score


def pickscore(mirror: Path, device: str, dtype: torch.dtype) -> Loop:
    from transformers import CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = mirror / "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    model = CLIPModel.from_pretrained(mirror / "yuvalkirstain/PickScore_v1").to(device, dtype).eval()
    tokenizer, images_of = CLIPTokenizer.from_pretrained(processor), CLIPImageProcessorPil.from_pretrained(processor)

    def score(prompt: str, contents: list[bytes]) -> list[float]:
        opened_images = [opened(content).convert("RGB") for content in contents]
        pixels = torch.as_tensor(images_of(opened_images, return_tensors="np")["pixel_values"])
        tokens = tokenizer([prompt], padding="max_length", truncation=True, max_length=77, return_tensors="pt")
        images = unit(pooled(model.get_image_features(pixels.to(device, dtype))))
        text = unit(pooled(model.get_text_features(**tokens.to(device))))
        return (model.logit_scale.exp() * (text @ images.T))[0].tolist()

    return score


def hpsv2(mirror: Path, device: str, dtype: torch.dtype) -> Loop:
    import open_clip

    folder = mirror / "xswu/HPSv2"
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    model = open_clip.CLIP(**config, quick_gelu=False)
    model.load_state_dict(torch.load(folder / "HPS_v2.1_compressed.pt", weights_only=True)["state_dict"])
    model = model.to(device, dtype).eval()
    tokenizer = open_clip.SimpleTokenizer(str(folder / "bpe_simple_vocab.txt.gz"), context_length=77)

    def transform(image: Image.Image) -> Tensor:
        pixels = F.to_tensor(image.convert("RGB"))
        scale = SIZE / max(pixels.shape[1:])
        if scale != 1.0:
            new = [round(side * scale) for side in pixels.shape[1:]]
            pixels = F.resize(pixels, new, T.InterpolationMode.BICUBIC, antialias=False)
            rows, columns = SIZE - new[0], SIZE - new[1]
            pixels = F.pad(pixels, [columns // 2, rows // 2, columns - columns // 2, rows - rows // 2], fill=0)
        return F.normalize(pixels, MEAN, STD)

    def score(prompt: str, contents: list[bytes]) -> list[float]:
        pixels = torch.stack([transform(opened(content)) for content in contents]).to(device, dtype)
        images, text, _ = model(pixels, tokenizer([prompt]).to(device))
        return (images @ text.T)[:, 0].tolist()

    return score


def aesthetic(mirror: Path, device: str, dtype: torch.dtype) -> Loop:
    from transformers import CLIPModel

    folder = mirror / "openai/clip-vit-large-patch14"
    model = CLIPModel.from_pretrained(folder).to(device, dtype).eval()
    state = torch.load(next((mirror / "christophschuhmann").rglob("*.pth")), weights_only=True)
    head, transform = mlp(state).to(device), clip_transform()

    def score(prompt: str, contents: list[bytes]) -> list[float]:
        pixels = torch.stack([transform(opened(content)) for content in contents]).to(device, dtype)
        return head(unit(pooled(model.get_image_features(pixels))).float())[:, 0].tolist()

    return score


def imagereward(mirror: Path, device: str, dtype: torch.dtype) -> Loop:
    from transformers import BertTokenizer

    from pipeline_lib.scoring.imagereward import build_blip

    folder = mirror / "THUDM/ImageReward"
    state = torch.load(folder / "ImageReward.pt", weights_only=True)
    blip, _ = build_blip(state, folder)
    blip = blip.to(device, dtype).eval()
    head = mlp({name.removeprefix("mlp."): t for name, t in state.items() if name.startswith("mlp.")}).to(device)
    tokenizer, transform = BertTokenizer.from_pretrained(mirror / "google-bert/bert-base-uncased"), clip_transform()

    def score(prompt: str, contents: list[bytes]) -> list[float]:
        tokens = tokenizer(prompt, padding="max_length", truncation=True, max_length=35, return_tensors="pt").to(
            device
        )
        pixels = torch.stack([transform(opened(content)) for content in contents]).to(device, dtype)
        images = blip.visual_encoder(pixels)
        ids, mask = tokens.input_ids.expand(len(images), -1), tokens.attention_mask.expand(len(images), -1)
        hidden = blip.text_encoder(ids, mask.bool(), images)
        rewards = (head(hidden[:, 0].float())[:, 0] - 0.16717362830052426) / 1.0333394966054072
        return rewards.tolist()

    return score


def mlp(state: dict[str, Tensor]) -> nn.Module:
    """Linear layers under `layers.N.*`, evaluated one after the other."""
    layers = []
    for index in (0, 2, 4, 6, 7):
        weight = state[f"layers.{index}.weight"]
        layer = nn.Linear(*weight.shape[::-1])
        layer.load_state_dict({"weight": weight, "bias": state[f"layers.{index}.bias"]})
        layers.append(layer)
    return nn.Sequential(*layers).eval()


def pooled(output: Any) -> Tensor:
    """transformers 5 returns an object where 4 returned its projected embedding."""
    return output if isinstance(output, Tensor) else output.pooler_output


def unit(features: Tensor) -> Tensor:
    return features / features.norm(dim=-1, keepdim=True)


LOOPS: dict[str, Callable[[Path, str, torch.dtype], Loop]] = {
    "clip": clip,
    "pickscore": pickscore,
    "hpsv2": hpsv2,
    "aesthetic": aesthetic,
    "imagereward": imagereward,
}
