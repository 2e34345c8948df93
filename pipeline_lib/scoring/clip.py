"""CLIP score: cosine of image and text embedding (Hessel et al. 2021, without the 2.5 and the clamp), in [-1, 1].

Backbones are not comparable with each other, so each has its own name: `clip` is OpenAI's ViT-L/14, `clip-h14` is
LAION's ViT-H/14 trained on laion2B. Images are prepared as OpenAI's code does (torchvision crop rounding).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.core.errors import CheckpointError
from pipeline_lib.core.weights.files import TRANSFORMERS, Layout, json_object
from pipeline_lib.core.weights.keys import match
from pipeline_lib.core.weights.read import on_meta, reading, sizes, tensors, transformers_model
from pipeline_lib.scoring.base import ImageScorer, ImageTower, Located, Runtime, Scorer, Tower, WeightsFile, files_in
from pipeline_lib.scoring.checkpoints import REMEDY, read_torch, snapshot_with_one_of, state_dict
from pipeline_lib.scoring.preprocess import CLIP_MEAN, CLIP_STD, CentreCrop, Rounding, Triple, centre_crop_name

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import CLIPModel

L14 = ("openai/clip-vit-large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41")
H14 = ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "1c2b8495b28150b8a4922ee1c8edee224c284c0c")
CONFIG = "config.json"
LAYOUTS = ("model.safetensors", "pytorch_model.bin")
PROCESSOR = ("preprocessor_config.json", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True, eq=False)
class Clip:
    """A loaded CLIPModel with both towers as functions; `scale` is exp(logit_scale), `width` the embedding's."""

    tower: ImageTower
    encode_prompts: Callable[[Sequence[str]], Tensor]
    scale: float
    width: int


def locate_l14(mirror: str) -> Located:
    """The scorer `clip`."""
    return _locate("clip", "clip_l14_openai", *L14, mirror)


def locate_h14(mirror: str) -> Located:
    """The scorer `clip-h14`."""
    return _locate("clip-h14", "clip_h14_laion2b", *H14, mirror)


def _locate(name: str, column: str, repo: str, revision: str, mirror: str) -> Located:
    weights = clip_weights(repo, revision, PROCESSOR, mirror)

    def load(runtime: Runtime) -> Scorer:
        clip = load_clip(weights, weights.parent, "even", runtime)
        return Scorer(name, True, clip.tower, clip.encode_prompts, cosine)

    files = files_in(weights.parent, [weights.name, CONFIG, *PROCESSOR])
    return Located(name, 1, True, centre_crop_name("even"), files, load, column)


def clip_weights(repo: str, revision: str, others: Sequence[str], mirror: str) -> Path:
    """The weights of a CLIPModel; in their folder are its configuration and the files `others`. Raises HubError."""
    return snapshot_with_one_of(repo, revision, LAYOUTS, [CONFIG, *others], mirror)


def load_clip(weights: Path, processor: Path, rounding: Rounding, runtime: Runtime) -> Clip:
    """A CLIPModel, by its weights, with the image and text processing of a folder; loaded once per runtime.

    Raises:
        CheckpointError: keys of the weights are missing, unexpected or misshapen.
    """
    return runtime.share(
        ("clip", weights, processor, rounding), partial(_load_clip, weights, processor, rounding, runtime)
    )


def _load_clip(weights: Path, processor: Path, rounding: Rounding, runtime: Runtime) -> Clip:
    from transformers import CLIPTokenizer

    model = _read_model(weights).eval().requires_grad_(False)
    scale = model.logit_scale.exp().item()  # before the cast: fp16 would turn 100 into 100.03
    model.to(runtime.device, runtime.dtype)
    with reading(processor / "tokenizer.json", "CLIP's tokenizer", REMEDY):
        tokenizer = CLIPTokenizer.from_pretrained(processor, local_files_only=True)
    length = model.config.text_config.max_position_embeddings

    def encode_images(pixels: Tensor) -> Tensor:
        pooled = model.vision_model(pixel_values=pixels.to(runtime.device, runtime.dtype)).pooler_output
        return unit(model.visual_projection(pooled))

    def encode_prompts(prompts: Sequence[str]) -> Tensor:
        tokens = tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).to(runtime.device)
        pooled = model.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
        return unit(model.text_projection(pooled))

    preprocess = image_processing(processor, model.config.vision_config.image_size, rounding)
    return Clip(ImageTower(preprocess, encode_images), encode_prompts, scale, model.config.projection_dim)


def _read_model(weights: Path) -> CLIPModel:
    import torch
    from transformers import CLIPConfig, CLIPModel

    with reading(weights.parent / CONFIG, "the configuration of a CLIPModel", REMEDY):
        config = CLIPConfig.from_pretrained(weights.parent, local_files_only=True)
    own = sizes(on_meta(CLIPModel, config, weights.parent / CONFIG))
    if weights.suffix == ".safetensors":
        state = tensors(Layout(TRANSFORMERS, "", None, (weights,)), own, CLIPModel.__name__, torch.float32)
    else:
        found = state_dict(read_torch(weights), weights)
        shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
        matched = match(shapes, own, CLIPModel.__name__, weights, REMEDY)
        state = {own_name: found[name].float() for name, own_name in matched.items()}
    model: CLIPModel = transformers_model(CLIPModel, config, state, torch.float32)
    for parameter in model.parameters():
        # The file's tensors lie at any address; matrix products round differently when they are not aligned.
        parameter.data = parameter.data.clone()
    return model


def image_processing(folder: Path, trained_size: int, rounding: Rounding) -> CentreCrop:
    """The folder's preprocessor_config.json as our own transform; raises CheckpointError for other recipes."""
    path = folder / "preprocessor_config.json"
    config = json_object(path)
    crop = config.get("crop_size", trained_size)
    size = crop.get("height") if isinstance(crop, dict) else crop
    resize = config.get("size", trained_size)
    shortest = resize.get("shortest_edge") if isinstance(resize, dict) else resize
    if size != shortest or size != trained_size or config.get("resample", 3) != 3:
        raise CheckpointError(
            f"{path} describes another recipe than bicubic resize and centre crop to {trained_size} pixels.", REMEDY
        )
    with reading(path, "a recipe with the mean and deviation of three channels", REMEDY):
        mean, std = _triple(config.get("image_mean", CLIP_MEAN)), _triple(config.get("image_std", CLIP_STD))
    return CentreCrop(trained_size, rounding, mean, std)


def _triple(values: Sequence[float]) -> Triple:
    red, green, blue = values
    return (float(red), float(green), float(blue))


def unit(features: Tensor) -> Tensor:
    """Rows in fp32 divided by their length."""
    full = features.float()
    return full / full.norm(dim=-1, keepdim=True)


def cosine(images: Tensor, prompts: Tensor) -> Tensor:
    """Row-wise dot products of unit vectors (n, d), fp32 (n,)."""
    return (images * prompts).sum(dim=-1)


L14_FILE = WeightsFile(repo=L14[0], revision=L14[1], file=CONFIG, bytes=1_710_540_580)
L14_TOWER = Tower(name="openai/clip-vit-large-patch14", flops=162_023_964_672)
H14_IMAGE_FLOPS, H14_PROMPT_FLOPS = 334_587_658_240, 47_089_287_168
"""Of any ViT-H/14 CLIP."""
H14_BYTES = 3_944_000_000
"""Of its weights in fp32."""

L14_SCORER = ImageScorer(
    name="clip",
    label="CLIP",
    locate=locate_l14,
    needs=(L14_FILE,),
    licence="MIT",
    tower=L14_TOWER,
    prompt_flops=13_298_503_680,
    embeds=True,
    default=True,
)
H14_SCORER = ImageScorer(
    name="clip-h14",
    label="CLIP H/14",
    locate=locate_h14,
    needs=(WeightsFile(repo=H14[0], revision=H14[1], file=CONFIG, bytes=H14_BYTES),),
    licence="MIT",
    tower=Tower(name=H14[0], flops=H14_IMAGE_FLOPS),
    prompt_flops=H14_PROMPT_FLOPS,
    embeds=True,
)
