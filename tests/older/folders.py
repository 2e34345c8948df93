"""The folders that are painted from: the built-in base models, and models that were trained and published here."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline_lib.core import store
from pipeline_lib.core.config import BaseModel, EncodeConfig, EvaluateConfig, TrainConfig
from pipeline_lib.core.hub import SHAPES_MIRROR
from pipeline_lib.encoding.stage import encode
from pipeline_lib.generation.pull import pull_commands
from pipeline_lib.shapes import HUB
from pipeline_lib.shapes.hub_files import BASE, BASE_XL
from pipeline_lib.training.launch.spec import TrainSpec
from pipeline_lib.training.trainer import train
from tasks.register import publish
from tests.older.environment import command
from tests.pipeline_lib.models import tiny

SIDE = 32
SHAPES = BaseModel(family="sd", repo=BASE, mirror=SHAPES_MIRROR)
SHAPES_XL = BaseModel(family="sdxl", repo=BASE_XL, mirror=SHAPES_MIRROR)
SAVE = Path(__file__).with_name("save.py")


@dataclass(frozen=True)
class Published:
    """A model to publish."""

    base: BaseModel
    adapter: Literal["lora", "full"]
    scheduler: Literal["ddim", "dpmsolver++", "euler"]
    precision: Literal["no", "bf16"] = "no"


def old_base(packages: Path, folder: Path) -> BaseModel:
    """The built-in base as an older pair of libraries saves it, with the scheduler of SD 1.5's repository."""
    subprocess.run(command(packages, SAVE, str(HUB / BASE), str(folder / "then")), check=True, capture_output=True)
    return BaseModel(family="sd", repo="then", mirror=str(folder))


def published(packages: Path, folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Name -> folder, and for the published models name -> the commands of their page.

    Args:
        packages: of an older environment, which saves a base model.
        folder: where models are trained and published.
    """
    models = {
        "full": Published(SHAPES, "full", "ddim"),
        "lora": Published(SHAPES, "lora", "dpmsolver++", "bf16"),
        "lora-xl": Published(SHAPES_XL, "lora", "euler"),
        "lora-then": Published(old_base(packages, folder), "lora", "ddim"),
    }
    hub = {name: str(HUB / base.repo) for name, base in (("base", SHAPES), ("base-xl", SHAPES_XL))}
    commands = {name: _publish(model, folder / name) for name, model in models.items()}
    return hub | {name: str(folder / name / "published") for name in models}, commands


def _publish(model: Published, folder: Path) -> str:
    """Train two steps, publish the result below `folder`; returns the commands of its page."""
    where = str(folder / "store")
    ingested = tiny.ingest(where, side=SIDE)
    encoded = encode(where, model.base, EncodeConfig(resolution=SIDE, batch_size=4), ingested)
    settings = TrainConfig(
        method="diffusion-dpo", adapter=model.adapter, lora_rank=4, steps=2, batch_size=4, learning_rate=1e-2
    )
    job = TrainSpec(
        model=model.base,
        train=settings,
        encoded=encoded.uri,
        labels=tiny.label(where, ingested).uri,
        run_dir=str(folder / "run"),
    )
    assert train(job) == "done"
    writer = store.writer(where, "model", 1, {})
    trained = writer.commit(writer.write_folder("model", folder / "run/model"))
    sampling = EvaluateConfig(
        prompts="-",
        scheduler=model.scheduler,
        steps=8,
        guidance=3.0,
        resolution=SIDE,
        mixed_precision=model.precision,
    )
    publish(trained, model.base, sampling, folder / "published")
    return pull_commands(str(folder / "published"), sampling)
