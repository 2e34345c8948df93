"""What stopping, killing and cancelling a training run leaves: states, a checkpoint, and in the end the same bytes."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from deploy.stack import running_stack
from deploy.stack.api import call
from deploy.stack.settings import ROOT
from tests.deploy.test_stack_integration import Runs, alive, wait_for
from tests.integration.deployments import Deployments
from tests.integration.test_train import ended, steps, training, wait_for_state

pytestmark = pytest.mark.integration

logger = logging.getLogger(__name__)
SIZE = {"limit": 200, "steps": 120}


@contextmanager
def worker(env: dict[str, str], pool: str, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker as on a GPU machine of a team: nobody stands by to close what it leaves."""
    command = [sys.executable, "-m", "deploy.worker", "--pool", pool, "--type", "process", "--name", name]
    variables = env | {"PREFECT_WORKER_QUERY_SECONDS": "2"}
    process = subprocess.Popen([*command, "--install-policy", "never"], env=variables, cwd=ROOT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(120)


def test_a_worker_that_is_told_to_stop_leaves_nothing_running(stack: dict[str, str], tmp_path: Path) -> None:
    call(f"{stack['PREFECT_API_URL']}/work_pools/", {"name": "stopped", "type": "process"})
    runs = Runs.deploy(stack, tmp_path, "stopped")
    with worker(stack, "stopped", "one") as process:
        run, flow, child = runs.start_endless()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        state = runs.state(run)
        assert (state["type"], state["message"]) == ("CRASHED", "Execution was aborted by a termination signal.")
        assert runs.unfinished() == [], "neither subflow nor task"
        assert not alive(flow)
        os.kill(child, signal.SIGKILL)  # not a trainer's: nothing ties it to its parent


@pytest.fixture(scope="module")
def deployments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployments]:
    """A stack whose training runs go to a pool that its own worker does not serve."""
    with running_stack(tmp_path_factory.mktemp("stack")) as env:
        found = Deployments({**env, "PIPELINE_CPU_POOL": "cpu"})
        call(f"{env['PREFECT_API_URL']}/work_pools/", {"name": "cpu", "type": "process"})
        found.register("train-dpo/shapes")
        yield found


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_stopped_cancelled_and_killed_training_ends_in_the_same_bytes(
    deployments: Deployments, tmp_path: Path
) -> None:
    env = dict(deployments.env)
    disturbed = {**SIZE, "store": str(tmp_path / "disturbed")}

    with worker(env, "cpu", "first") as process:
        name = deployments.start("train-dpo/shapes", **disturbed)
        trainer, run_dir = training(deployments)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
        ended([trainer])
    assert deployments.flow_run(name)["state_type"] == "CRASHED", "at once, not when a heartbeat is missed"
    assert mlflow_status(env) == "KILLED"
    stopped = checkpoint_of_last_step(run_dir)

    with worker(env, "cpu", "second"):
        name = deployments.start("train-dpo/shapes", **disturbed)
        trainer, _ = training(deployments, after=stopped)
        assert mlflow_status(env) == "RUNNING", "the same MLflow run goes on"
        cancel = [sys.executable, "-m", "prefect", "flow-run", "cancel", deployments.flow_run(name)["id"]]
        subprocess.run(cancel, cwd=ROOT, env=env, check=True, capture_output=True, timeout=120)
        wait_for_state(deployments, name, "CANCELLED")
        ended([trainer])
        wait_for("the MLflow run is closed", lambda: mlflow_status(env) == "KILLED", 60)
        cancelled = checkpoint_of_last_step(run_dir)
        assert cancelled > stopped

        name = deployments.start("train-dpo/shapes", **disturbed)
        trainer, _ = training(deployments, after=cancelled)
        flow = trainer.parent()
        assert flow is not None
        flow.kill()
        ended([trainer])
        wait_for_state(deployments, name, "CRASHED")
        assert checkpoint_of_last_step(run_dir) > cancelled
        begun = time.monotonic()
        wait_for("what it left open is closed", lambda: mlflow_status(env) == "KILLED" and not held(deployments), 120)
        logger.info("closed %.0f s after the flow run", time.monotonic() - begun)

        last = deployments.run("train-dpo/shapes", **disturbed)
        assert last["state_type"] == "COMPLETED", deployments.logs(last)
        assert mlflow_status(env) == "FINISHED" and not run_dir.exists()
        undisturbed = deployments.run("train-dpo/shapes", **SIZE, store=str(tmp_path / "undisturbed"))
        assert undisturbed["state_type"] == "COMPLETED", deployments.logs(undisturbed)
    assert model_digest(tmp_path / "disturbed") == model_digest(tmp_path / "undisturbed")
    client, run = mlflow_run(env)
    logged = [metric.step for metric in client.get_metric_history(run, "train/loss")]
    assert logged == list(range(1, SIZE["steps"] + 1)), "every step once"


def mlflow_run(env: dict[str, str]) -> tuple[MlflowClient, str]:
    client = MlflowClient(env["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("dpo-shapes")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    return client, str(run.info.run_id)


def mlflow_status(env: dict[str, str]) -> str:
    client, run = mlflow_run(env)
    return str(client.get_run(run).info.status)


def checkpoint_of_last_step(run_dir: Path) -> int:
    """The last step in the metrics, which must be the newest checkpoint's: SIGTERM loses no finished step."""
    last = steps(run_dir)[-1]
    assert (run_dir / f"checkpoints/step-{last:06d}/state.json").exists()
    return last


def held(deployments: Deployments) -> list[str]:
    """Names of flow and task runs that claim to be at work."""
    state = {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
    found = [deployments.post(f"{kind}/filter", {kind: state}) for kind in ("flow_runs", "task_runs")]
    return [run["name"] for rows in found for run in rows]


def model_digest(store: Path) -> str:
    (manifest,) = store.glob("model/*/manifest.json")
    return str(json.loads(manifest.read_text())["digest"])
