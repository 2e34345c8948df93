"""ImageReward v1.0 (Xu et al. 2023): BLIP reads prompt and image together; standardised, about -2 to 2.

reward = (head([CLS]) - 0.16717) / 1.03334. The prompt is cut or padded to 35 BERT tokens and keeps its [CLS] (BLIP's
own retrieval replaces it by [ENC]; ImageReward does not). The head is evaluated in fp32, folded to one affine map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.core.hub import snapshot
from pipeline_lib.core.weights.files import json_object
from pipeline_lib.core.weights.keys import check_keys
from pipeline_lib.core.weights.read import reading
from pipeline_lib.scoring.base import ImageScorer, ImageTower, Located, Runtime, Scorer, Tower, WeightsFile, files_in
from pipeline_lib.scoring.checkpoints import REMEDY, load_strict, read_torch, state_dict
from pipeline_lib.scoring.heads import linear_head
from pipeline_lib.scoring.preprocess import CentreCrop, centre_crop_name

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline_lib.scoring.blip import Blip, VisionShape

REPO, REVISION = "THUDM/ImageReward", "5736be03b2652728fb87788c9797b0570450ab72"
WEIGHTS, CONFIG = "ImageReward.pt", "med_config.json"
BERT = ("google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
MEAN, STD = 0.16717362830052426, 1.0333394966054072
MAX_TOKENS = 35
BLIP = "blip."
KIND = "ImageReward"
MED_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "layer_norm_eps",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "vocab_size",
)


def locate(mirror: str) -> Located:
    """The scorer `imagereward`: its own repository, and the tokenizer of BERT."""
    folder = snapshot(REPO, REVISION, [WEIGHTS, CONFIG], mirror)
    bert = snapshot(*BERT, TOKENIZER, mirror)
    tokenizer = {f"tokenizer/{name}": path for name, path in files_in(bert, TOKENIZER).items()}
    files = {**files_in(folder, [WEIGHTS, CONFIG]), **tokenizer}
    return Located("imagereward", 1, True, centre_crop_name("even"), files, partial(_load, folder, bert))


def _load(folder: Path, bert: Path, runtime: Runtime) -> Scorer:
    import torch

    state = state_dict(read_torch(folder / WEIGHTS), folder / WEIGHTS)
    blip, image_size = build_blip(state, folder)
    blip.to(runtime.device, runtime.dtype).eval().requires_grad_(False)
    head = {name: tensor for name, tensor in state.items() if not name.startswith(BLIP)}
    weight, bias = (tensor.to(runtime.device) for tensor in linear_head(head, folder / WEIGHTS, "mlp."))
    width = blip.text_encoder.embeddings["word_embeddings"].embedding_dim
    wrong = [] if len(weight) == width else [f"mlp.layers.0.weight reads {len(weight)} of {width} features"]
    check_keys(folder / WEIGHTS, misshapen=wrong, remedy=REMEDY)
    tokenizer = _tokenizer(bert)
    padding = tokenizer.pad_token_id

    def encode_images(pixels: Tensor) -> Tensor:
        return blip.visual_encoder(pixels.to(runtime.device, runtime.dtype))

    def encode_prompts(prompts: Sequence[str]) -> Tensor:
        tokens = tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        return tokens.input_ids.to(runtime.device)

    def score(images: Tensor, prompts: Tensor) -> Tensor:
        hidden = blip.text_encoder(prompts, prompts != padding, images)
        return (hidden[:, 0].to(torch.float32) @ weight + bias - MEAN) / STD

    tower = ImageTower(CentreCrop(image_size, "even"), encode_images)
    return Scorer("imagereward", True, tower, encode_prompts, score)


def build_blip(state: Mapping[str, Tensor], folder: Path) -> tuple[Blip, int]:
    """The BLIP of an ImageReward state dict (keys `blip.*`), and the side of its input image in pixels.

    The text encoder's architecture is med_config.json's, the vision transformer's follows from the tensors' shapes.

    Raises:
        CheckpointError: keys are missing, unexpected or misshapen.
    """
    import torch

    from pipeline_lib.scoring.blip import Blip

    weights = folder / WEIGHTS
    med = json_object(folder / CONFIG)
    check_keys(folder / CONFIG, missing=[name for name in MED_FIELDS if name not in med], remedy=REMEDY)
    own = {name: tensor for name, tensor in state.items() if name.startswith(BLIP)}
    shape = _vision_shape(own, weights)
    with reading(folder / CONFIG, "the configuration of a BERT", REMEDY), torch.device("meta"):
        blip = Blip(shape, med)
    load_strict(blip, own, weights, KIND, prefix=BLIP)
    return blip, shape.image_size


def _vision_shape(state: Mapping[str, Any], path: Path) -> VisionShape:
    from pipeline_lib.scoring.blip import HEAD_WIDTH, VisionShape

    tower = f"{BLIP}visual_encoder."
    names = [tower + name for name in ("patch_embed.proj.weight", "pos_embed", "blocks.0.mlp.fc1.weight")]
    check_keys(path, missing=[name for name in names if name not in state], remedy=REMEDY)
    patch, positions, hidden = (tuple(state[name].shape) for name in names)
    blocks = {name.split(".")[3] for name in state if name.startswith(f"{tower}blocks.")}
    side = round((positions[1] - 1) ** 0.5) if len(positions) == 3 else 0
    wrong = []
    if len(patch) != 4 or patch[0] % HEAD_WIDTH:
        wrong.append(f"{names[0]} {patch} (the width must be a multiple of {HEAD_WIDTH})")
    if side < 1 or side**2 != positions[1] - 1:
        wrong.append(f"{names[1]} {positions} (one class token and a square of patches)")
    if len(hidden) != 2:
        wrong.append(f"{names[2]} {hidden} (a matrix)")
    check_keys(path, misshapen=wrong, remedy=REMEDY)
    return VisionShape(patch[0], patch[2], positions[1], len(blocks), hidden[0])


def _tokenizer(folder: Path) -> Any:
    """BERT's, with BLIP's two added tokens."""
    from transformers import BertTokenizer

    with reading(folder / TOKENIZER[0], "BERT's tokenizer", REMEDY):
        tokenizer = BertTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer.add_special_tokens({"bos_token": "[DEC]", "extra_special_tokens": ["[ENC]"]})
    return tokenizer


SCORER = ImageScorer(
    name="imagereward",
    label="ImageReward",
    locate=locate,
    needs=(
        WeightsFile(repo=REPO, revision=REVISION, file=WEIGHTS, bytes=1_790_000_000),
        WeightsFile(repo=BERT[0], revision=BERT[1], file=TOKENIZER[0]),
    ),
    licence="Apache-2.0",
    tower=Tower(name=REPO, flops=123_107_377_152),
    question_flops=14_672_166_912,
    default=True,
)
