"""Our side of the comparison, in a process of its own: the production path from a mirror folder to scores.

    python -m tests.parity.ours <mirror> <cases.json> <result.npz> <scorer> ...

Writes "<scorer>/pixels" (images, 3, 224, 224) and "<scorer>/scores" (asked,).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from pipeline_lib.core.images import decode
from pipeline_lib.scoring import load_scorers, score_images


def main() -> None:
    mirror, file, result, *names = sys.argv[1:]
    cases = json.loads(Path(file).read_text())
    images = {path: decode(Path(path).read_bytes()) for path in cases["images"]}
    scorers = load_scorers(names, mirror, "cpu")
    asked = cases["asked"]
    scores = score_images(scorers, [images[case["image"]] for case in asked], [case["prompt"] for case in asked])
    arrays = {f"{name}/scores": values for name, values in scores.items()}
    for scorer in scorers:
        arrays[f"{scorer.name}/pixels"] = np.stack(
            [scorer.tower.preprocess.pixels(image) for image in images.values()]
        )
    np.savez(result, **arrays)


if __name__ == "__main__":
    main()
