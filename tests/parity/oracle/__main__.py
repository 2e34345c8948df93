"""The originals' side, run by the oracle's Python: writes one checkpoint, then scores with its authors' code.

    <oracle python> tests/parity/oracle <checkpoint> <mirror> <cases.json> <result.npz>

Writes "<scorer>/pixels" (images, 3, 224, 224) and "<scorer>/scores" (asked,) for every scorer with this checkpoint.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from pathlib import Path

MODULES = {
    "hpsv2": "hps",
    "hpsv2.0": "hps",
    "pickscore": "pick",
    "clip": "openai",
    "imagereward": "reward",
}


def main() -> None:
    warnings.filterwarnings("ignore")  # the packages are years old
    model, mirror, cases, result = sys.argv[1:]
    import numpy as np

    module = importlib.import_module(MODULES[model])
    module.write(model, Path(mirror))
    content = json.loads(Path(cases).read_text())
    np.savez(result, **module.score(model, Path(mirror), content["images"], content["asked"]))


if __name__ == "__main__":
    main()
