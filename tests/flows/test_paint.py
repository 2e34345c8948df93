"""Painting and judging as tasks against a real (temporary) Prefect API: threads, and a real Ray cluster."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError

from flows.evaluate import evaluate
from flows.paint import paint_and_judge
from pipeline_lib.core import resident
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.store import Dataset, writer
from pipeline_lib.evaluation import evaluate as evaluate_models
from pipeline_lib.evaluation import scores
from pipeline_lib.generation import stage as generate
from pipeline_lib.models.aligned import load_pipeline
from pipeline_lib.presets import preset
from tasks.runners import RunnerName, task_runner
from tests.flows.artifacts import artifact

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), pytest.mark.usefixtures("api")]

SHAPES = preset("shapes")
PROMPTS, MODELS, SHARDS = 70, 2, 2
CONFIG = replace(SHAPES.evaluate, prompts="shapes-validation", num_prompts=PROMPTS, steps=1)


def model(root: str) -> Dataset:
    """The base's own UNet, as a model."""
    made = writer(root, "model", 1, {})
    if finished := made.finished():
        return finished
    folder = Path(root, "made")
    load_pipeline(None, SHAPES.base).unet.save_pretrained(folder / "unet")
    (folder / "base.json").write_text(json.dumps(asdict(SHAPES.base)))
    return made.commit(made.write_folder("model", folder))


def alone(root: str, device: str = "auto") -> Dataset:
    """The evaluation without a flow."""
    models = {"base": None, "model": model(root)}
    return evaluate_models(root, models, SHAPES.base, CONFIG, ["clip"], SHAPES.weights, device=device)


def painted(root: str, runner: RunnerName = "thread", max_workers: int | None = None) -> str:
    models = [(None, SHAPES.base), (model(root).uri, SHAPES.base)]
    flow = paint_and_judge.with_options(task_runner=task_runner(runner))
    return flow(root, models, CONFIG, ["clip"], SHAPES.weights, runner=runner, max_workers=max_workers)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return alone(str(tmp_path_factory.mktemp("expected")))


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """From `with` on, whoever paints or scores fails."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def nothing_is_made(patch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("made again")

    patch.setattr(generate, "load_painter", refuse)
    patch.setattr(scores, "resident_scorers", refuse)


def test_threads_share_one_load_per_model_and_evaluate_finds_everything_made(
    tmp_path: Path, expected: Dataset, monkeypatch: pytest.MonkeyPatch, no_work: pytest.MonkeyPatch
) -> None:
    lock = threading.Lock()
    now = most = loads = failures = 0
    original_paint, original_load = generate.paint_shard, generate.load_painter

    def paint(painting: Any, index: int, device: str) -> Any:
        nonlocal now, most, failures
        with lock:
            now, most = now + 1, max(most, now + 1)
        try:
            time.sleep(0.2)
            if painting.model and index == 1 and not failures:
                failures = 1
                raise ConnectionResetError("the store is away for a moment")
            return original_paint(painting, index, device)
        finally:
            with lock:
                now -= 1

    def load(*given: Any) -> Any:
        nonlocal loads
        loads += 1
        return original_load(*given)

    monkeypatch.setattr(generate, "paint_shard", paint)
    monkeypatch.setattr(generate, "load_painter", load)
    device = painted(str(tmp_path), max_workers=2)
    assert (most, failures) == (2, 1), "two at a time; an I/O error was retried"
    assert MODELS <= loads < MODELS * SHARDS, "shards of a model share its load"
    assert not resident._resident, "what comes next has the memory"
    for name in ("paint", "judge"):
        progress = artifact(f"{name}-progress")
        assert progress.data == 100.0 and f"{PROMPTS * MODELS} of {PROMPTS * MODELS} images" in progress.description

    nothing_is_made(no_work)
    assert painted(str(tmp_path)) == device
    assert alone(str(tmp_path), device).digest == expected.digest


@pytest.mark.slow
def test_ray_workers_make_the_same_bytes(tmp_path: Path, expected: Dataset, no_work: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    device = painted(str(tmp_path), "ray")
    nothing_is_made(no_work)
    assert alone(str(tmp_path), device).digest == expected.digest


def test_what_would_stop_the_evaluation_is_refused_before_anything_is_painted(tmp_path: Path) -> None:
    models = [(None, SHAPES.base), (model(str(tmp_path)).uri, SHAPES.base)]
    given = (str(tmp_path), models)
    with pytest.raises(ConfigError, match="gate_average"):
        paint_and_judge(*given, replace(CONFIG, gate_average=50.0), ["clip"], SHAPES.weights)
    with pytest.raises(Exception, match="clipp"):
        paint_and_judge(*given, CONFIG, ["clipp"], SHAPES.weights)
    with pytest.raises(ParameterTypeError, match="max_workers"):
        evaluate(max_workers=0, model="m", pairs="p")
    with pytest.raises(ConfigError, match="runner=thread takes no address"):
        evaluate(address="auto", model="m", pairs="p")
    assert not (tmp_path / "images").exists()
