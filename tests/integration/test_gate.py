"""`@candidate` and `@champion` against a real MLflow server, with models whose order of quality is known.

The base is the built-in world's with noise on its UNet's weights; the models are the same UNet with other amounts of
noise: less is better. They are painted, scored and compared by the tasks that the flows use.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from mlflow import MlflowClient
from prefect import flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.compare import compare
from pipeline_lib import schemas, store
from pipeline_lib.config import BaseModel, TrainConfig
from pipeline_lib.errors import ConfigError, UnknownNameError
from pipeline_lib.evaluation.headline import headline
from pipeline_lib.models.aligned import load_pipeline
from pipeline_lib.presets import preset
from pipeline_lib.store import Dataset, open_dataset
from tasks import tracking
from tasks.evaluate import evaluate
from tasks.register import register

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

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


@dataclass(frozen=True)
class Registry:
    """A store, a base, and what evaluating and registering a model does to the registry."""

    store: str
    base: BaseModel
    pairs: str
    mlflow: MlflowClient

    def model(self, quality: str) -> Dataset:
        """The model dataset of that name, with the MLflow run that training would have left."""
        writer = store.writer(self.store, "model", 1, {"noise": NOISE[quality]})
        if finished := writer.finished():
            return finished
        folder = Path(self.store).parent / quality
        noisy_pipeline(NOISE[quality]).unet.save_pretrained(folder / "unet")
        (folder / "base.json").write_text(json.dumps(asdict(self.base)))
        (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 0.69}\n')
        shards = [writer.write_bytes("metrics.jsonl", (folder / "metrics.jsonl").read_bytes())]
        done = writer.commit([*writer.write_folder("model", folder), *shards])
        tracking.training_run(NAME, done.key, self.base, TrainConfig(method="balanced-dpo"), {})
        return done

    def evaluate(self, quality: str) -> dict[str, Any]:
        """Evaluate; the outcome's dataset and report."""
        model = self.model(quality)

        @flow(name="evaluate-only")
        def run() -> str:
            return evaluate(
                self.store, self.base, model.uri, NAME, CONFIG, list(SHAPES.scorers), SHAPES.weights, self.pairs
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


@pytest.fixture(scope="module")
def registry(stack: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    root = tmp_path_factory.mktemp("gate")
    noisy_pipeline(NOISE["base"]).save_pretrained(root / "base")
    base = BaseModel(family="sd", repo="base", mirror=str(root))
    row = {"pair_id": "0", "prompt_id": "0", "prompt": "a cat", "image_0": "a", "image_1": "b", "split": "train"}
    writer = store.writer(str(root / "store"), "ingest", 1, {})
    pairs = writer.commit([writer.write_table("pairs/part-00000.parquet", pa.Table.from_pylist([row], schemas.PAIRS))])
    with (
        pytest.MonkeyPatch.context() as patch,
        temporary_settings({PREFECT_API_URL: stack["PREFECT_API_URL"]}),
    ):
        patch.setenv("MLFLOW_TRACKING_URI", stack["MLFLOW_TRACKING_URI"])
        yield Registry(str(root / "store"), base, pairs.uri, MlflowClient(stack["MLFLOW_TRACKING_URI"]))


def test_only_models_that_pass_the_gate_become_the_champion(registry: Registry) -> None:
    # Without a champion the base is the rival: a worse model is a candidate only.
    evaluated = registry.evaluate("worse")
    worse = registry.register(evaluated)
    assert registry.aliases() == {"candidate": worse}
    assert registry.tags(worse)["pipeline.gate"] == "not passed"
    reason = registry.tags(worse)["pipeline.gate_reason"]
    assert reason.startswith("Not promoted. Does not pass the gate against base: average win rate ")
    assert "significantly below 45.0%: CLIP" in reason
    assert_explained(evaluated, NAME)

    # A better one becomes the champion.
    evaluated = registry.evaluate("better")
    better = registry.register(evaluated)
    assert registry.aliases() == {"candidate": better, "champion": better}
    assert registry.tags(better)["pipeline.gate"] == "passed"
    assert registry.tags(better)["pipeline.gate_reason"].startswith("Promoted. Passes the gate against base: ")
    assert evaluated["report"]["gate"][NAME]["passed"]
    assert_explained(evaluated, NAME)

    # The same again asks the same question, although the model itself is the champion now.
    again = registry.evaluate("better")
    assert again["uri"] == evaluated["uri"]
    assert registry.register(again) == better
    assert registry.aliases() == {"candidate": better, "champion": better}

    # Now the champion is the rival: on the same prompts and noise, with the images made before.
    evaluated = registry.evaluate("worse")
    assert evaluated["report"]["champion"] == f"champion (version {better})"
    label = evaluated["report"]["champion"]
    assert evaluated["report"]["models"][label]["images"] == again["report"]["models"][NAME]["images"]
    candidate = registry.register(evaluated)
    assert registry.aliases() == {"candidate": candidate, "champion": better}
    assert f"against champion (version {better})" in registry.tags(candidate)["pipeline.gate_reason"]
    assert_explained(evaluated, NAME)

    # An evaluation from before the champion says nothing about it.
    stale = registry.evaluate("best")
    assert stale["report"]["gate"][NAME]["passed"]
    registry.mlflow.set_registered_model_alias(NAME, "champion", worse)
    late = registry.register(stale)
    assert registry.aliases() == {"candidate": late, "champion": worse}
    reason = registry.tags(late)["pipeline.gate_reason"]
    assert f"does not compare it with champion (version {worse}), the present champion" in reason
    registry.mlflow.set_registered_model_alias(NAME, "champion", better)

    # A better model than the champion takes its place.
    assert registry.register(registry.evaluate("best")) == late
    assert registry.aliases() == {"candidate": late, "champion": late}
    assert registry.tags(late)["pipeline.gate_rival"] == better
    metrics = {m.key for m in registry.mlflow.get_logged_model(source(registry, late)).metrics}
    assert {"eval/win_rate/average", "eval/p_holm/clip", "eval/difference/true"} <= metrics


def test_an_evaluation_of_another_model_is_refused(registry: Registry) -> None:
    wrong = {**registry.evaluate("best"), "model": registry.model("worse").uri}
    before = registry.aliases()
    with pytest.raises(ConfigError, match="no answer of the gate"):
        registry.register(wrong)
    assert registry.aliases() == before


def test_compare_repeats_the_evaluations_numbers_and_mirrors_them_for_another_reference(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    best = registry.register(registry.evaluate("best"))
    registry.mlflow.set_registered_model_alias(NAME, "champion", best)
    evaluated = registry.evaluate("worse")
    worse = registry.register(evaluated)
    started = time.time()
    base = str(Path(registry.base.mirror) / registry.base.repo)
    names = [base, f"models:/{NAME}@candidate", f"models:/{NAME}@champion"]
    found = registry.compare(names, None)
    assert registry.compare(names, None) == found
    with pytest.raises(UnknownNameError, match="Use one of"):
        registry.compare(names, "base")
    swapped = registry.compare(names, names[1])
    assert headline(found["report"]) in caplog.text

    labels = {"base": "base", NAME: f"{NAME}/{worse}", f"champion (version {best})": f"{NAME}/{best}"}
    wanted = evaluated["report"]
    for theirs, ours in labels.items():
        assert found["report"]["models"][ours] == swapped["report"]["models"][ours] == wanted["models"][theirs]
        images = wanted["models"][theirs]["images"]
        assert open_dataset(f"{registry.store}/{images['uri']}").created < started, "no image is painted again"
    assert list(found["report"]["comparisons"]) == list(labels.values())[1:]
    for theirs in (NAME, f"champion (version {best})"):
        assert found["report"]["comparisons"][labels[theirs]] == wanted["comparisons"][theirs]
    mirrored = swapped["report"]["win_rate"]["base"]
    for scorer, (point, low, high) in wanted["win_rate"][NAME].items():
        assert mirrored[scorer] == pytest.approx([1 - point, 1 - high, 1 - low], abs=1e-12)

    experiment = registry.mlflow.get_experiment_by_name("compare")
    runs = registry.mlflow.search_runs([experiment.experiment_id])
    assert len(runs) == 2, "a comparison that is asked for again keeps its run"
    (run_id,) = (run.info.run_id for run in runs if run.data.params["reference"] == "base")
    run = registry.mlflow.get_run(run_id)
    assert run.data.metrics[f"{NAME}/{worse}/win_rate/average"] == wanted["win_rate"][NAME]["average"][0]
    assert {model.model_id for model in run.inputs.model_inputs} == {source(registry, v) for v in (best, worse)}
    assert f"/#/models/{NAME}/versions/{best}" in run.data.tags["mlflow.note.content"]
    files = registry.mlflow.list_artifacts(run_id, "evaluation")
    assert {file.path for file in files} == {"evaluation/report.html", "evaluation/report.json"}


def source(registry: Registry, version: str) -> str:
    return str(registry.mlflow.get_model_version(NAME, version).source).removeprefix("models:/")


def assert_explained(evaluated: dict[str, Any], name: str) -> None:
    """The page says what the tag says."""
    page = (Path(evaluated["uri"]) / "report.html").read_text(encoding="utf-8")
    sentence = evaluated["report"]["gate"][name]["sentence"]
    assert "Gate to @champion" in page and sentence in page
