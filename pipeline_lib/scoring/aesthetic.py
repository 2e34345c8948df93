"""LAION aesthetic predictor v2 (sac+logos+ava1, linear MSE): a linear head on CLIP ViT-L/14; about 1 to 10.

The image embedding is normalised to length one, as in the original; it stays fp32, where the original rounds to fp16.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.errors import HubError
from pipeline_lib.hub import HUB, snapshot
from pipeline_lib.scoring.base import Located, Runtime, Scorer, files_in
from pipeline_lib.scoring.checkpoints import check_keys, read_torch, state_dict
from pipeline_lib.scoring.clip import CONFIG, L14, PROCESSOR, clip_weights, load_clip
from pipeline_lib.scoring.heads import linear_head
from pipeline_lib.scoring.preprocess import centre_crop_name

if TYPE_CHECKING:
    from torch import Tensor

REPO, REVISION = "christophschuhmann/improved-aesthetic-predictor", "fe88a163f4661b4ddabba0751ff645e2e620746e"
FILE = "sac+logos+ava1-l14-linearMSE.pth"
SHA256 = "21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0"


def locate(mirror: str) -> Located:
    """The scorer `aesthetic`: the head's file, and the ViT-L/14 that `clip` uses too."""
    head = _download() if mirror == HUB else snapshot(REPO, None, [FILE], mirror) / FILE
    weights = clip_weights(*L14, PROCESSOR, mirror)

    def load(runtime: Runtime) -> Scorer:
        clip = load_clip(weights, weights.parent, "even", runtime)
        weight, bias = (tensor.to(runtime.device) for tensor in read_head(head))
        wrong = [] if len(weight) == clip.width else [f"layers.0.weight reads {len(weight)} of {clip.width} features"]
        check_keys(head, misshapen=wrong)

        def score(images: Tensor, prompts: Tensor) -> Tensor:
            return images @ weight + bias

        return Scorer("aesthetic", False, clip.tower, _no_prompts, score)

    files = {"head": head, **files_in(weights.parent, [weights.name, CONFIG, PROCESSOR[0]])}
    return Located("aesthetic", 1, False, centre_crop_name("even"), files, load)


def read_head(path: Path) -> tuple[Tensor, Tensor]:
    """The head as weight (d,) and bias () for unit image embeddings of width d; raises CheckpointError."""
    return linear_head(state_dict(read_torch(path), path), path)


def _no_prompts(prompts: Sequence[str]) -> Tensor:
    import torch

    return torch.empty(len(prompts), 0)


def _download() -> Path:
    """The head from its author's GitHub repository (it is not on the hub), at a fixed commit, into torch's cache."""
    import torch

    url = f"https://github.com/{REPO}/raw/{REVISION}/{FILE.replace('+', '%2B')}"
    target = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(target), hash_prefix=SHA256, progress=False)
        except (OSError, RuntimeError) as error:
            raise HubError(
                f"Cannot download {url}: {error}.",
                f"Check the network, or put the file at {target}, or use a mirror directory with {REPO}/{FILE}.",
            ) from error
    return target
