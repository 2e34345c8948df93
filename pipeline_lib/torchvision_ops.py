"""Import this module before torchvision, timm, open_clip, transformers or diffusers.

PyPI's torchvision wheel is built against the CUDA build of torch; beside a CPU torch its compiled operators do not
load, and `import torchvision` then fails because it registers fake kernels for two operators that do not exist.
Declaring the two (never called here) lets the import succeed. Where the real operators load, this does nothing.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_library: torch.library.Library | None = None


def declare_missing_operators() -> None:
    """Declare torchvision::nms and torchvision::qnms unless torchvision's own compiled library provides them."""
    global _library
    spec = find_spec("torchvision")
    if _library is not None or spec is None or spec.origin is None:
        return
    try:
        for compiled in Path(spec.origin).parent.glob("_C*.so"):
            torch.ops.load_library(str(compiled))
    except OSError:
        pass  # the compiled library wants CUDA; the declarations below stand in for it
    if hasattr(torch.ops.torchvision, "nms"):
        return
    _library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        _library.define(name + _SIGNATURE)


declare_missing_operators()
