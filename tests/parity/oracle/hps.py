"""HPSv2, versions 2.1 and 2.0: the hpsv2 package.

The package first loads LAION's ViT-H/14 and then replaces all of it by HPSv2's weights; the file that it asks the hub
for is HPSv2's checkpoint under LAION's name. Patched: torchvision's resize, to be called with antialias=False, because
without the argument it does what the versions of HPSv2's time did not.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any
from unittest import mock

import hpsv2
import numpy as np
import torch
from hpsv2 import img_score
from hpsv2.src.open_clip import factory, transform
from PIL import Image
from weights import fill, point_together, publish

VERSIONS = {"hpsv2": "v2.1", "hpsv2.0": "v2.0"}
FILES = {"hpsv2": "HPS_v2.1_compressed.pt", "hpsv2.0": "HPS_v2_compressed.pt"}


def write(model: str, mirror: Path) -> None:
    with torch.device("meta"):
        shapes = factory.CLIP(**factory.get_model_config("ViT-H-14")).state_dict()
    state = fill(shapes, seed=21 if model == "hpsv2" else 20)
    point_together(
        (state["visual.ln_post.bias"], state["visual.proj"]), (state["ln_final.bias"], state["text_projection"])
    )
    path = publish(mirror, "xswu/HPSv2") / FILES[model]
    torch.save({"state_dict": {name: tensor.half() for name, tensor in state.items()}}, path)
    laion = publish(mirror, "cache/laion", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K")
    (laion / "open_clip_pytorch_model.bin").symlink_to(path)


def score(model: str, mirror: Path, images: list[str], asked: list[dict[str, str]]) -> dict[str, Any]:
    """Without antialiasing, and, for version 2.1, as the package runs with this torchvision ("hpsv2-antialias")."""
    resize, result = transform.F.resize, {}
    variants = {model: partial(resize, antialias=False)}
    if model == "hpsv2":
        variants["hpsv2-antialias"] = resize
    for name, chosen in variants.items():
        with mock.patch.object(transform.F, "resize", chosen):
            scores = []
            for prompt, same in groupby(asked, lambda case: case["prompt"]):
                scores += hpsv2.score([case["image"] for case in same], prompt, hps_version=VERSIONS[model])
            prepare = img_score.model_dict["preprocess_val"]
            pixels = np.stack([prepare(Image.open(path)).numpy() for path in images])
        result |= {f"{name}/scores": np.array(scores), f"{name}/pixels": pixels}
    return result
