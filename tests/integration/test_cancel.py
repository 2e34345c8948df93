"""Cancelling a run whose worker cannot hear of it any more: the trainer ends, and nothing is published."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from deploy.stack import current_settings, running_stack
from deploy.stack.control import recorded_state
from deploy.stack.processes import owned_processes
from deploy.stack.settings import ROOT
from tests.deploy.test_stack_integration import rows, wait_for
from tests.integration.deployments import SMALL, Deployments
from tests.integration.test_recovery import mlflow_status
from tests.integration.test_train import ended, steps, training

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1500)]

logger = logging.getLogger(__name__)
AWAY_S = 56.0


@pytest.fixture(scope="module")
def deployments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployments]:
    with running_stack(tmp_path_factory.mktemp("stack")) as env:
        found = Deployments(env)
        found.register("align/shapes", "train-dpo/shapes")
        yield found


def test_cancelled_after_the_server_was_killed_the_trainer_ends(deployments: Deployments) -> None:
    name = deployments.start("train-dpo/shapes", limit=200, steps=50_000)
    trainer, run_dir = training(deployments)
    kill_prefect_server(deployments)
    back = time.monotonic()
    assert trainer.is_running(), "a server that is away costs a training run nothing"
    cancel(deployments, name)
    ended([trainer])
    after = time.monotonic() - back
    logger.warning("the trainer ended %.0f s after the server was back", after)
    assert after < 60
    last = steps(run_dir)[-1]
    assert (run_dir / f"checkpoints/step-{last:06d}/state.json").exists(), "SIGTERM loses no finished step"
    wait_for("the run is CANCELLED", lambda: state(deployments, name) == "CANCELLED", 60)
    wait_for("the MLflow run is closed", lambda: mlflow_status(dict(deployments.env)) == "KILLED", 60)
    time.sleep(20)  # nobody says anything else later
    assert state(deployments, name) == "CANCELLED"


def test_cancelled_while_it_evaluates_it_registers_nothing(deployments: Deployments) -> None:
    name = deployments.start("align/shapes", **SMALL)
    run = deployments.flow_run(name)
    # Late, so that it is the run itself that has to ask; earlier on it would be ended before it comes to that.
    judged: dict[str, Any] = {"flows": {"name": {"any_": ["paint-and-judge"]}}}
    judged |= {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    wait_for("images are judged", lambda: deployments.post("flow_runs/filter", judged), 600)
    # As by the page of the UI that sets a state: no worker is told.
    body = {"state": {"type": "CANCELLED", "name": "Cancelled"}, "force": True}
    deployments.post(f"flow_runs/{run['id']}/set_state", body)
    wait_for("its process ends", lambda: not flow_processes(deployments, run["id"]), 180)
    wait_for("it stays what it was", lambda: state(deployments, name) == "CANCELLED", 60)
    assert [run["name"] for run in deployments.children(run) if run["name"].startswith("register")] == []
    client = MlflowClient(deployments.env["MLFLOW_TRACKING_URI"])
    assert client.search_registered_models() == []


def kill_prefect_server(deployments: Deployments) -> None:
    """SIGKILL it, and have it back after a while: the supervisor, which starts it again, is stopped for that time."""
    settings = current_settings(deployments.env)
    recorded = recorded_state(settings)
    assert recorded
    supervisor = psutil.Process(recorded["supervisor"])
    supervisor.suspend()
    try:
        for process in owned_processes(settings, "prefect"):
            process.kill()
        time.sleep(AWAY_S)
    finally:
        supervisor.resume()
    wait_for("it is back", lambda: rows(settings)["prefect"]["status"] == "healthy")


def cancel(deployments: Deployments, name: str) -> None:
    command = [sys.executable, "-m", "prefect", "flow-run", "cancel", deployments.flow_run(name)["id"]]
    said = subprocess.run(command, cwd=ROOT, env=dict(deployments.env), capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stdout + said.stderr


def state(deployments: Deployments, name: str) -> str:
    return str(deployments.flow_run(name)["state_type"])


def flow_processes(deployments: Deployments, run_id: str) -> list[psutil.Process]:
    found = []
    for process in owned_processes(current_settings(deployments.env), "worker"):
        try:
            if process.environ().get("PREFECT__FLOW_RUN_ID") == run_id:
                found.append(process)
        except psutil.Error:
            continue
    return found
