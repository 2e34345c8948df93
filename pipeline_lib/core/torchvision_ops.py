"""Lets torchvision be imported beside a CPU build of torch.

PyPI's torchvision wheel is built against the CUDA build of torch; beside a CPU torch its compiled operators do not
load, and `import torchvision` (so timm, open_clip, parts of transformers and diffusers) fails because it registers
fake kernels for two operators that do not exist. Declaring the two, which nothing here calls, lets it succeed. Where
the real operators load, nothing is declared.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[Any] = []
"""Keeps torch's Library object, whose declarations end with it."""


class _BeforeTorchvision(MetaPathFinder):
    """Finds nothing; notices that torchvision is about to be imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision" and self in sys.meta_path:
            sys.meta_path.remove(self)
            declare_missing_operators()
        return None


def declare_before_import() -> None:
    """Declare what is missing when torchvision is first looked for; costs nothing until then, and loads no torch."""
    sys.meta_path.insert(0, _BeforeTorchvision())


def declare_missing_operators() -> bool:
    """Declare torchvision::nms and torchvision::qnms where torchvision's compiled library cannot; True if it did."""
    spec = find_spec("torchvision")
    if _declared or spec is None or spec.origin is None:
        return bool(_declared)
    import torch

    try:
        for compiled in Path(spec.origin).parent.glob("_C*.so"):
            torch.ops.load_library(str(compiled))
    except OSError:
        pass  # the compiled library wants CUDA; the declarations below stand in for it
    if hasattr(torch.ops.torchvision, "nms"):
        return False
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + _SIGNATURE)
    _declared.append(library)
    return True


def mend_environment() -> None:
    """Make every Python of this virtual environment import torchvision, plain diffusers and notebooks too.

    Part of `make setup`. Writes a `.pth` file, and only where the operators are missing.
    """
    if declare_missing_operators():
        line = "import importlib.util as u; u.find_spec('pipeline_lib') and __import__('pipeline_lib')\n"
        Path(sysconfig.get_path("purelib"), "torchvision_operators.pth").write_text(line)
