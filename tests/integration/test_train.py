"""Training through its deployments on a real worker: every method's curve in MLflow, cancel, a killed flow process."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from deploy.stack import running_stack
from deploy.stack.settings import ROOT
from pipeline_lib.presets import METHODS
from tests.integration.deployments import Deployments

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1500)]

logger = logging.getLogger(__name__)
LONG = {"limit": 200, "steps": 50_000}


@pytest.fixture(scope="module")
def deployments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployments]:
    with running_stack(tmp_path_factory.mktemp("stack")) as env:
        found = Deployments(env)
        found.register(*(f"train-{method}/shapes" for method in METHODS))
        yield found


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_through_its_deployment(method: str, deployments: Deployments) -> None:
    run = deployments.run(f"train-{method}/shapes", limit=200, steps=4, sample_every=2)
    assert run["state_type"] == "COMPLETED", deployments.logs(run)
    client = MlflowClient(deployments.env["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name(f"{method}-shapes")
    assert experiment is not None
    (logged,) = client.search_runs([experiment.experiment_id])
    assert logged.info.status == "FINISHED"
    for name in ("loss", "implicit_accuracy", "grad_norm", "drift"):
        assert [m.step for m in client.get_metric_history(logged.info.run_id, f"train/{name}")] == [1, 2, 3, 4]
    samples = client.list_artifacts(logged.info.run_id, "samples")
    assert [artifact.path for artifact in samples] == ["samples/step-000002.png", "samples/step-000004.png"]


def test_cancel_ends_the_trainer_and_leaves_a_checkpoint_to_continue_from(deployments: Deployments) -> None:
    name = deployments.start("train-dpo/shapes", **LONG)
    trainer, run_dir = training(deployments)
    cancel = [sys.executable, "-m", "prefect", "flow-run", "cancel", deployments.flow_run(name)["id"]]
    begun = time.monotonic()
    subprocess.run(cancel, cwd=ROOT, env=dict(deployments.env), check=True, capture_output=True, timeout=120)
    said = time.monotonic()
    ended([trainer])
    logger.info("cancel command %.1f s, trainer gone %.1f s later", said - begun, time.monotonic() - said)
    wait_for_state(deployments, name, "CANCELLED")
    last = steps(run_dir)[-1]
    assert (run_dir / f"checkpoints/step-{last:06d}/state.json").exists(), "SIGTERM loses no finished step"

    # A killed flow process leaves no orphan, and the next run continues where the cancelled one stopped.
    name = deployments.start("train-dpo/shapes", **LONG)
    trainer, again = training(deployments, after=last)
    assert again == run_dir
    assert steps(run_dir)[: last + 1] == list(range(1, last + 2))
    flow = trainer.parent()
    assert flow is not None
    flow.kill()
    begun = time.monotonic()
    ended([trainer])
    logger.info("flow process killed, trainer gone %.1f s later", time.monotonic() - begun)
    newest = steps(run_dir)[-1]
    assert newest > last
    assert (run_dir / f"checkpoints/step-{newest:06d}/state.json").exists()


def training(deployments: Deployments, after: int = 0) -> tuple[psutil.Process, Path]:
    """The stack's trainer and its run folder, once it has done some steps beyond `after`."""
    scratch = Path(deployments.env["PIPELINE_STATE"], "scratch")
    deadline = time.monotonic() + 300
    while True:
        assert time.monotonic() < deadline, "no trainer"
        time.sleep(0.2)
        for process in psutil.process_iter(["cmdline"]):
            command: Any = process.info["cmdline"] or []
            if "pipeline_lib.training" not in command or not str(command[-1]).startswith(str(scratch)):
                continue
            run_dir = Path(command[-1]).parent
            if (run_dir / "metrics.jsonl").exists() and (steps(run_dir) or [0])[-1] > after + 3:
                return process, run_dir


def steps(run_dir: Path) -> list[int]:
    lines = (run_dir / "metrics.jsonl").read_text().splitlines(keepends=True)
    return [json.loads(line)["step"] for line in lines if line.endswith("\n")]


def ended(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive, f"{alive} survived"


def wait_for_state(deployments: Deployments, name: str, state: str) -> None:
    deadline = time.monotonic() + 120
    while (found := deployments.flow_run(name)["state_type"]) != state:
        assert time.monotonic() < deadline, f"{name} is {found}"
        time.sleep(0.5)
