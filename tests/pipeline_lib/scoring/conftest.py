"""A mirror directory with tiny random checkpoints in the official layouts, and images of every kind."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline_lib.scoring.base import Scorer
from pipeline_lib.scoring.engine import load_scorers

NAMES = ["clip", "pickscore", "hpsv2", "aesthetic", "imagereward"]
SIDE = 32
CONTEXT = 16
MED = {
    "hidden_act": "gelu",
    "hidden_size": 48,
    "intermediate_size": 96,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 64,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "encoder_width": 48,
    "add_cross_attention": True,
}
HPS_CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 40, "head_width": 20, "patch_size": 8},
    "text_cfg": {"context_length": CONTEXT, "vocab_size": 514, "width": 32, "heads": 2, "layers": 2},
}


def random_state(module: torch.nn.Module, seed: int, scale: float = 0.1) -> None:
    """Weights from a seeded generator, large enough that scores differ visibly between images."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and name != "logit_scale":
                tensor.add_(scale * torch.randn(tensor.shape, generator=generator))


def write_clip_tokenizer(folder: Path) -> None:
    """CLIP's byte-level vocabulary without merges: every text tokenises, one token per byte."""
    from open_clip.tokenizer import bytes_to_unicode
    from transformers import CLIPTokenizer

    units = list(bytes_to_unicode().values())
    tokens = [*units, *(f"{unit}</w>" for unit in units), "<|startoftext|>", "<|endoftext|>"]
    CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[]).save_pretrained(folder)


def write_clip(folder: Path, seed: int, activation: str, width: int = 24) -> None:
    """A CLIPModel whose embeddings have `width` features."""
    from transformers import CLIPConfig, CLIPModel

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": 514, "max_position_embeddings": CONTEXT, "bos_token_id": 512, "eos_token_id": 513}
    config = CLIPConfig(
        text_config={**shape, **text, "pad_token_id": 513, "hidden_act": activation},
        vision_config={
            **shape,
            "image_size": SIDE,
            "patch_size": 8,
            "hidden_act": activation,
            "projection_dim": width,
        },
        projection_dim=width,
    )
    torch.manual_seed(seed)
    model = CLIPModel(config)
    random_state(model, seed)
    model.save_pretrained(folder)


def write_processor(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"crop_size": {"height": SIDE, "width": SIDE}, "size": {"shortest_edge": SIDE}, "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    write_clip_tokenizer(folder)


def write_hps(folder: Path) -> None:
    import open_clip

    folder.mkdir(parents=True, exist_ok=True)
    for file, seed in (("HPS_v2.1_compressed.pt", 3), ("HPS_v2_compressed.pt", 4)):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**HPS_CONFIG, quick_gelu=False)
        random_state(model, seed)
        torch.save({"state_dict": {name: t.half() for name, t in model.state_dict().items()}}, folder / file)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": HPS_CONFIG}))
    (folder / "bpe_simple_vocab.txt.gz").write_bytes(gzip.compress(b"#version: 0.2", mtime=0))


def head_state(width: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = (width, 32, 16, 12, 8, 1)
    state = {}
    for index, (inputs, outputs) in zip((0, 2, 4, 6, 7), itertools.pairwise(sizes), strict=True):
        state[f"layers.{index}.weight"] = torch.randn(outputs, inputs, generator=generator) * inputs**-0.5
        state[f"layers.{index}.bias"] = torch.randn(outputs, generator=generator)
    return state


def image_reward_state(seed: int) -> dict[str, torch.Tensor]:
    """Official names; the vision transformer has 2 blocks of width 64 on 32 px images in patches of 16 px."""
    from pipeline_lib.scoring.blip import Blip, VisionShape

    torch.manual_seed(seed)
    blip = Blip(VisionShape(width=64, patch=16, positions=5, layers=2, hidden=128), {**MED, "vocab_size": 60})
    random_state(blip, seed)
    state = {f"blip.{name}": tensor for name, tensor in blip.state_dict().items()}
    state["blip.text_encoder.embeddings.position_ids"] = torch.arange(64)[None]
    state["blip.vision_proj.weight"], state["blip.vision_proj.bias"] = torch.zeros(8, 64), torch.zeros(8)
    state["blip.text_proj.weight"], state["blip.text_proj.bias"] = torch.zeros(8, 48), torch.zeros(8)
    return {**state, **{f"mlp.{name}": tensor for name, tensor in head_state(48, seed).items()}}


def write_bert_tokenizer(folder: Path) -> None:
    from transformers import BertTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), "."]
    folder.mkdir(parents=True, exist_ok=True)
    BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}).save_pretrained(folder)


def write_mirror(root: Path) -> Path:
    """All repositories of the five scorers under `root`."""
    for repo, seed, activation in (
        ("openai/clip-vit-large-patch14", 1, "quick_gelu"),
        ("yuvalkirstain/PickScore_v1", 2, "gelu"),
        ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", 7, "gelu"),
    ):
        write_clip(root / repo, seed, activation)
    write_processor(root / "openai/clip-vit-large-patch14")
    write_processor(root / "laion/CLIP-ViT-H-14-laion2B-s32B-b79K")
    write_hps(root / "xswu/HPSv2")
    head = root / "christophschuhmann/improved-aesthetic-predictor/sac+logos+ava1-l14-linearMSE.pth"
    head.parent.mkdir(parents=True)
    torch.save(head_state(24, 5), head)
    reward = root / "THUDM/ImageReward"
    reward.mkdir(parents=True)
    torch.save(image_reward_state(6), reward / "ImageReward.pt")
    (reward / "med_config.json").write_text(json.dumps({**MED, "vocab_size": 60}))
    write_bert_tokenizer(root / "google-bert/bert-base-uncased")
    return root


def picture(width: int, height: int, seed: int) -> Image.Image:
    """Smooth colours with an edge, so that resizing and cropping matter."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    image = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).copy()
    image[: height // 2, : width // 3] = rng.integers(0, 256, 3)
    return Image.fromarray(image)


@pytest.fixture(scope="session")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Do not change it; `write_mirror` makes one of your own."""
    return write_mirror(tmp_path_factory.mktemp("mirror"))


@pytest.fixture(scope="session")
def scorers(mirror: Path) -> dict[str, Scorer]:
    """The five scorers, loaded together as the engine does."""
    return dict(zip(NAMES, load_scorers(NAMES, str(mirror), "cpu"), strict=True))


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    sizes = [(64, 48), (32, 32), (45, 90), (200, 37), (17, 17), (51, 50), (96, 64), (41, 80), (128, 128)]
    return [picture(*size, seed) for seed, size in enumerate(sizes)]


@pytest.fixture(scope="session")
def prompts() -> list[str]:
    long = " ".join("abcdefghijklmnopqrstuvwxyz" * 2)
    return ["a red circle", "blue square on green", "a cat", "", "Two DOGS, running.", "x" * 200, "été", "a cat", long]
