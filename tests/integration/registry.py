"""Models whose order of quality is known, evaluated and registered by the tasks that the flows use.

The base is the built-in world's with noise on its UNet's weights; the models are the same UNet with other amounts of
noise: less is better.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from mlflow import MlflowClient
from prefect import flow

from flows.compare import compare
from pipeline_lib.core import schemas, store
from pipeline_lib.core.config import BaseModel, EvaluateConfig, TrainConfig
from pipeline_lib.core.store import Dataset, open_dataset
from pipeline_lib.models.aligned import load_pipeline
from pipeline_lib.presets import preset
from tasks import tracking
from tasks.evaluate import evaluate
from tasks.register import register

NAME = "balanced-noisy"
SHAPES = preset("shapes")
CONFIG = replace(SHAPES.evaluate, num_prompts=40, steps=8)
NOISE = {"base": 0.15, "better": 0.1, "worse": 0.25, "best": 0.0}
"""Standard deviations of the noise, in those of each weight."""


def noisy_pipeline(noise: float) -> Any:
    pipeline = load_pipeline(None, SHAPES.base)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in pipeline.unet.parameters():
            if weight.ndim > 1:
                weight.add_(noise * weight.std() * torch.randn(weight.shape, generator=generator))
    return pipeline


def new_registry(root: Path, address: str) -> Registry:
    """A store and a base in `root`, and the registry of the MLflow server at `address`."""
    noisy_pipeline(NOISE["base"]).save_pretrained(root / "base")
    base = BaseModel(family="sd", repo="base", mirror=str(root))
    row = {"pair_id": "0", "prompt_id": "0", "prompt": "a cat", "image_0": "a", "image_1": "b", "split": "train"}
    writer = store.writer(str(root / "store"), "ingest", 1, {})
    pairs = writer.commit([writer.write_table("pairs/part-00000.parquet", pa.Table.from_pylist([row], schemas.PAIRS))])
    return Registry(str(root / "store"), base, pairs.uri, MlflowClient(address))


@dataclass(frozen=True)
class Registry:
    """A store, a base, and what evaluating and registering a model does to the registry."""

    store: str
    base: BaseModel
    pairs: str
    mlflow: MlflowClient
    scorers: tuple[str, ...] = SHAPES.scorers

    def model(self, quality: str) -> Dataset:
        """The model dataset of that name, with the MLflow run that training would have left."""
        train = asdict(TrainConfig(method="balanced-dpo"))
        writer = store.writer(self.store, "model", 1, {"noise": NOISE[quality], "train": train})
        if finished := writer.finished():
            return finished
        folder = Path(self.store).parent / quality
        noisy_pipeline(NOISE[quality]).unet.save_pretrained(folder / "unet")
        (folder / "base.json").write_text(json.dumps(asdict(self.base)))
        (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 0.69}\n')
        shards = [writer.write_bytes("metrics.jsonl", (folder / "metrics.jsonl").read_bytes())]
        done = writer.commit([*writer.write_folder("model", folder), *shards])
        tracking.training_run(NAME, done.key, self.base, TrainConfig(method="balanced-dpo"))
        return done

    def evaluate(self, quality: str, config: EvaluateConfig = CONFIG) -> dict[str, Any]:
        """Evaluate; the outcome's dataset and report."""
        model = self.model(quality)

        @flow(name="evaluate-only")
        def run() -> str:
            return evaluate(
                self.store, self.base, model.uri, NAME, config, list(self.scorers), SHAPES.weights, self.pairs
            ).uri

        dataset = open_dataset(run())
        with dataset.open("report.json") as file:
            return {"uri": dataset.uri, "report": json.load(file), "model": model.uri}

    def register(self, evaluated: dict[str, Any]) -> str:
        """Register an evaluated model; its version."""

        @flow(name="register-only")
        def run() -> str:
            return register(NAME, self.base, evaluated["model"], evaluated["uri"])

        return run().rpartition("/")[2]

    def compare(self, models: list[str], reference: str | None) -> dict[str, Any]:
        """Compare with the flow of that name; the outcome's dataset and report."""
        count, steps = CONFIG.num_prompts, CONFIG.steps
        dataset = open_dataset(compare(models, reference, num_prompts=count, steps=steps, store=self.store).uri)
        with dataset.open("report.json") as file:
            return {"uri": dataset.uri, "report": json.load(file)}

    def aliases(self) -> dict[str, str]:
        return {k: str(v) for k, v in self.mlflow.get_registered_model(NAME).aliases.items()}

    def tags(self, version: str) -> dict[str, str]:
        return dict(self.mlflow.get_model_version(NAME, version).tags)
