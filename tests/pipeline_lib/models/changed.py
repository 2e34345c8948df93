"""Copies of the tiny base models with other configurations: what a stranger's file may hold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from pipeline_lib.core.config import BaseModel
from tests.pipeline_lib.models import tiny

GONE = object()
"""As the value of a field: it is not there."""
FILES = {"scheduler": "scheduler/scheduler_config.json", "index": "model_index.json"}
FILES |= {part: f"{part}/config.json" for part in ("unet", "vae", "text_encoder", "text_encoder_2")}
FILES |= {part: f"{part}/tokenizer_config.json" for part in ("tokenizer", "tokenizer_2")}


def changed(mirror: Path, name: str, out: Path, part: str, **fields: Any) -> BaseModel:
    """The base model `name` of `tiny.write_all`, copied below `out`, with other fields in one configuration."""
    folder = out / "tiny" / name
    if not folder.is_dir():
        shutil.copytree(mirror / "tiny" / name, folder)
    path = folder / FILES[part]
    found = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not GONE}))
    return tiny.base(out, name)
