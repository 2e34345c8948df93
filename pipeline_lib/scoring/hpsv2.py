"""HPSv2 (Wu et al. 2023): cosine of a preference-tuned OpenCLIP ViT-H/14, about 0.2 to 0.35; benchmarks print it x100.

`hpsv2` is version 2.1, `hpsv2.0` the first one. Compare scores of one version and one prompt only. Both resize as they
were trained, without antialiasing; `hpsv2-antialias` and `hpsv2.0-antialias` resize as the package does on today's
torchvision, for comparison with scores made there (see preprocess.Letterbox).
Differences from the hpsv2 package: images are always RGB (it fails on RGBA), the dot product is fp32 (its fp16 scores
come in steps of 2.4e-4, which makes ties).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.core.errors import CheckpointError
from pipeline_lib.core.hub import snapshot
from pipeline_lib.core.weights.files import json_object
from pipeline_lib.core.weights.read import reading
from pipeline_lib.scoring.base import ImageScorer, ImageTower, Located, Runtime, Scorer, Tower, WeightsFile, files_in
from pipeline_lib.scoring.checkpoints import REMEDY, load_strict, read_torch, state_dict
from pipeline_lib.scoring.clip import H14_IMAGE_FLOPS, H14_PROMPT_FLOPS, cosine, unit
from pipeline_lib.scoring.preprocess import Letterbox, letterbox_name

if TYPE_CHECKING:
    from open_clip import CLIP
    from torch import Tensor

REPO, REVISION = "xswu/HPSv2", "697403c78157020a1ae59d23f111aa58ced35b0a"
FILE_V21, FILE_V20 = "HPS_v2.1_compressed.pt", "HPS_v2_compressed.pt"
CONFIG = "open_clip_config.json"
ARCHITECTURE = "ViT-H-14"
MERGES = "bpe_simple_vocab*.txt.gz"


def _locate(name: str, file: str, antialias: bool, mirror: str) -> Located:
    folder = snapshot(REPO, REVISION, [file], mirror)
    files = files_in(folder, [file, CONFIG, MERGES])

    def load(runtime: Runtime) -> Scorer:
        model = runtime.share(("hpsv2", folder, file), partial(_read_model, folder, file, runtime))
        return _scorer(name, model, _tokenizer(folder, model.context_length), antialias, runtime)

    return Located(name, 1, True, letterbox_name(antialias), files, load)


def _scorer(name: str, model: CLIP, tokenizer: Any, antialias: bool, runtime: Runtime) -> Scorer:

    def encode_images(pixels: Tensor) -> Tensor:
        return unit(model.encode_image(pixels.to(runtime.device, runtime.dtype)))

    def encode_prompts(prompts: Sequence[str]) -> Tensor:
        return unit(model.encode_text(tokenizer(list(prompts)).to(runtime.device)))

    preprocess = Letterbox(model.visual.image_size[0], antialias)
    return Scorer(name, True, ImageTower(preprocess, encode_images), encode_prompts, cosine)


def _read_model(folder: Path, file: str, runtime: Runtime) -> CLIP:
    import open_clip
    import torch

    with (
        reading(folder / CONFIG, "a CLIP architecture", REMEDY),
        torch.device("meta"),
    ):  # 21 s of random weights at full size
        model = open_clip.CLIP(**model_config(folder), quick_gelu=False)
    load_strict(model, read_weights(folder / file), folder / file, "HPSv2")
    model.attn_mask = torch.full(model.attn_mask.shape, -torch.inf).triu_(1)  # the one tensor not in the file: causal
    return model.to(runtime.device, runtime.dtype).eval().requires_grad_(False)


def model_config(folder: Path) -> dict[str, Any]:
    """`embed_dim`, `vision_cfg`, `text_cfg`: from open_clip_config.json beside the weights, or the official ones."""
    import open_clip

    if not (folder / CONFIG).exists():
        return dict(open_clip.get_model_config(ARCHITECTURE))
    config = json_object(folder / CONFIG).get("model_cfg")
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
        raise CheckpointError(f"{folder / CONFIG} has no model_cfg with embed_dim, vision_cfg and text_cfg.", REMEDY)
    return config


def read_weights(path: Path) -> dict[str, Tensor]:
    """The `state_dict` entry of a checkpoint in the official layout; raises CheckpointError."""
    content = read_torch(path)
    if not isinstance(content, dict) or "state_dict" not in content:
        raise CheckpointError(f"{path} has no entry `state_dict`.", REMEDY)
    return state_dict(content["state_dict"], path)


def _tokenizer(folder: Path, context_length: int) -> Any:
    """open_clip's SimpleTokenizer, with the merges file beside the weights where there is one."""
    import open_clip

    merges = sorted(folder.glob(MERGES))
    if merges:
        with reading(merges[0], "a vocabulary of byte pairs", REMEDY):
            return open_clip.SimpleTokenizer(str(merges[0]), context_length=context_length)
    return open_clip.SimpleTokenizer(context_length=context_length)


def _declare(name: str, label: str, file: str, antialias: bool = False, default: bool = False) -> ImageScorer:
    return ImageScorer(
        name=name,
        label=label,
        locate=partial(_locate, name, file, antialias),
        needs=(WeightsFile(repo=REPO, revision=REVISION, file=file, bytes=1_970_000_000),),
        licence="Apache-2.0",
        tower=Tower(name=f"{REPO}/{file}{' antialiased' * antialias}", flops=H14_IMAGE_FLOPS),
        prompt_flops=H14_PROMPT_FLOPS,
        embeds=not antialias,  # diversity looks at images as the model was trained to see them
        default=default,
    )


V21 = _declare("hpsv2", "HPSv2", FILE_V21, default=True)
V21_ANTIALIAS = _declare("hpsv2-antialias", "HPSv2 antialiased", FILE_V21, antialias=True)
V20 = _declare("hpsv2.0", "HPSv2.0", FILE_V20)
V20_ANTIALIAS = _declare("hpsv2.0-antialias", "HPSv2.0 antialiased", FILE_V20, antialias=True)
