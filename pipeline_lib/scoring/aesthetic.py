"""LAION aesthetic predictor v2 (sac+logos+ava1, linear MSE): a linear head on CLIP ViT-L/14; about 1 to 10.

The image embedding is normalised to length one, as in the original; it stays fp32, where the original rounds to fp16.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.core.weights.keys import check_keys
from pipeline_lib.scoring.base import ImageScorer, Located, Runtime, Scorer, WeightsFile, files_in, no_prompts
from pipeline_lib.scoring.checkpoints import REMEDY, github_file, read_torch, state_dict
from pipeline_lib.scoring.clip import CONFIG, L14, L14_FILE, L14_TOWER, PROCESSOR, clip_weights, load_clip
from pipeline_lib.scoring.heads import linear_head
from pipeline_lib.scoring.preprocess import centre_crop_name

if TYPE_CHECKING:
    from torch import Tensor

REPO, REVISION = "christophschuhmann/improved-aesthetic-predictor", "fe88a163f4661b4ddabba0751ff645e2e620746e"
FILE = "sac+logos+ava1-l14-linearMSE.pth"
SHA256 = "21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0"


def locate(mirror: str) -> Located:
    """The scorer `aesthetic`: the head's file, and the ViT-L/14 that `clip` uses too."""
    head = github_file(REPO, REVISION, FILE, SHA256, mirror)
    weights = clip_weights(*L14, PROCESSOR, mirror)

    def load(runtime: Runtime) -> Scorer:
        clip = load_clip(weights, weights.parent, "even", runtime)
        weight, bias = (tensor.to(runtime.device) for tensor in read_head(head))
        wrong = [] if len(weight) == clip.width else [f"layers.0.weight reads {len(weight)} of {clip.width} features"]
        check_keys(head, misshapen=wrong, remedy=REMEDY)

        def score(images: Tensor, prompts: Tensor) -> Tensor:
            return images @ weight + bias

        return Scorer("aesthetic", False, clip.tower, no_prompts, score)

    files = {"head": head, **files_in(weights.parent, [weights.name, CONFIG, PROCESSOR[0]])}
    return Located("aesthetic", 1, False, centre_crop_name("even"), files, load)


def read_head(path: Path) -> tuple[Tensor, Tensor]:
    """The head as weight (d,) and bias () for unit image embeddings of width d; raises CheckpointError."""
    return linear_head(state_dict(read_torch(path), path), path)


SCORER = ImageScorer(
    name="aesthetic",
    label="Aesthetic",
    locate=locate,
    needs=(L14_FILE, WeightsFile(repo=REPO, revision=REVISION, file=FILE, bytes=4_000_000, host="github")),
    licence="Apache-2.0",
    tower=L14_TOWER,
    needs_prompt=False,
    embeds=True,
    default=True,
)
