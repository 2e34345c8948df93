"""Where everything of the built-in world lies, and how weights are written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

BASE = "shapes/base"
BASE_XL = "shapes/base-xl"
CLIP = "openai/clip-vit-large-patch14"
PICKSCORE = "yuvalkirstain/PickScore_v1"
PICKSCORE_PROCESSOR = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
HPS = "xswu/HPSv2"
AESTHETIC = "christophschuhmann/improved-aesthetic-predictor"
IMAGEREWARD = "THUDM/ImageReward"
BERT = "google-bert/bert-base-uncased"

HPS_FILE = "HPS_v2.1_compressed.pt"
AESTHETIC_FILE = "sac+logos+ava1-l14-linearMSE.pth"
IMAGEREWARD_FILE = "ImageReward.pt"

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

Tensors = dict[str, "torch.Tensor"]


def hub_folder(out: Path, repo: str) -> Path:
    """`<out>/hub/<org>/<repo>`, made when absent."""
    folder = out / "hub" / repo
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def half(state: Mapping[str, torch.Tensor]) -> Tensors:
    """The floating-point tensors of a state dict in fp16, contiguous; others unchanged."""
    return {
        name: (tensor.detach().half() if tensor.is_floating_point() else tensor.detach()).contiguous()
        for name, tensor in state.items()
    }


def load_in_fp32(folder: Path) -> None:
    """Say in a transformers model's config that it computes in fp32.

    transformers 5 otherwise loads a model in the type its weights are stored in, and diffusers loads its own parts in
    fp32: a pipeline stored in fp16 would then not run without an explicit type.
    """
    path = folder / "config.json"
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), "dtype": "float32"})


def as_official(folder: Path) -> None:
    """Give a CLIP text encoder that transformers 5 wrote the layout of the official checkpoints.

    `text_model.` before the names of its tensors, which transformers 4 takes for missing otherwise; and the type that
    it computes in, fp32, under the name that both know (`load_in_fp32` says why).
    """
    from safetensors.torch import load_file, save_file

    weights, path = folder / "model.safetensors", folder / "config.json"
    inside = ("embeddings.", "encoder.", "final_layer_norm.")
    state = {f"text_model.{k}" if k.startswith(inside) else k: tensor for k, tensor in load_file(weights).items()}
    save_file(state, weights, metadata={"format": "pt"})
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("dtype", None)
    write_json(path, config | {"torch_dtype": "float32"})


def forget_paths(folder: Path) -> None:
    """Remove what diffusers writes about where a part was loaded from."""
    for path in sorted(folder.glob("*/config.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.pop("_name_or_path", None) is not None:
            write_json(path, config)


def write_processor(folder: Path, side: int) -> None:
    """CLIP's image processor at a small side: shortest edge, centre crop, CLIP statistics."""
    write_json(
        folder / "preprocessor_config.json",
        {
            "crop_size": {"height": side, "width": side},
            "do_center_crop": True,
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor",
            "image_mean": list(CLIP_MEAN),
            "image_processor_type": "CLIPImageProcessor",
            "image_std": list(CLIP_STD),
            "processor_class": "CLIPProcessor",
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"shortest_edge": side},
        },
    )
