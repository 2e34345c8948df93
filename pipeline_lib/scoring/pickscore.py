"""PickScore v1 (Kirstain et al. 2023): exp(logit_scale) * cosine of a ViT-H/14 CLIPModel; about 20 to 22.

Softmax over the two scores of a pair is the probability that a person prefers each. It was trained on Pick-a-Pic v1,
so judging Pick-a-Pic with it alone is circular.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.core.hub import snapshot
from pipeline_lib.scoring.base import ImageScorer, Located, Runtime, Scorer, Tower, WeightsFile, files_in
from pipeline_lib.scoring.clip import (
    CONFIG,
    H14,
    H14_BYTES,
    H14_IMAGE_FLOPS,
    H14_PROMPT_FLOPS,
    PROCESSOR,
    clip_weights,
    cosine,
    load_clip,
)
from pipeline_lib.scoring.preprocess import centre_crop_name

if TYPE_CHECKING:
    from torch import Tensor

REPO, REVISION = "yuvalkirstain/PickScore_v1", "a4e4367c6dfa7288a00c550414478f865b875800"


def locate(mirror: str) -> Located:
    """The scorer `pickscore`: its own weights, with the tokenizer and image processing of LAION's ViT-H/14."""
    weights = clip_weights(REPO, REVISION, (), mirror)
    processor = snapshot(*H14, PROCESSOR, mirror)

    def load(runtime: Runtime) -> Scorer:
        clip = load_clip(weights, processor, "down", runtime)

        def score(images: Tensor, prompts: Tensor) -> Tensor:
            return clip.scale * cosine(images, prompts)

        return Scorer("pickscore", True, clip.tower, clip.encode_prompts, score)

    files = files_in(weights.parent, [weights.name, CONFIG])
    files |= {f"processor/{name}": path for name, path in files_in(processor, PROCESSOR).items()}
    return Located("pickscore", 1, True, centre_crop_name("down"), files, load)


SCORER = ImageScorer(
    name="pickscore",
    label="PickScore",
    locate=locate,
    needs=(
        WeightsFile(repo=REPO, revision=REVISION, file=CONFIG, bytes=H14_BYTES),
        WeightsFile(repo=H14[0], revision=H14[1], file=PROCESSOR[0]),
    ),
    tower=Tower(name=REPO, flops=H14_IMAGE_FLOPS),
    prompt_flops=H14_PROMPT_FLOPS,
    embeds=True,
    default=True,
)
