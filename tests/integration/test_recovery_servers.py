"""Prefect's and MLflow's servers away in the middle of a training run, and a machine that is gone with its run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from deploy.recovery import AGAIN
from deploy.stack import StackSettings, current_settings, running_stack
from deploy.stack.api import call
from deploy.stack.control import recorded_state
from deploy.stack.processes import owned_processes
from deploy.stack.settings import ROOT
from tests.deploy.test_stack_integration import Runs, rows, wait_for
from tests.integration.deployments import Deployments
from tests.integration.test_recovery import mlflow_run, mlflow_status, worker
from tests.integration.test_train import steps, training

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1500)]

SERVERS = ("prefect", "mlflow")
DECLARE = "from deploy import automations as a; a.AUTOMATIONS['crash-zombie-runs']['trigger'].update({}); a.main()"


def declare(env: dict[str, str], changes: str = "") -> str:
    """What `make deploy` does about automations; `changes` to the trigger make a test shorter."""
    command = [sys.executable, "-c", DECLARE.replace("{}", changes)]
    return subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(("seconds", "num_steps"), [(20, 150), (120, 250)])
def test_servers_that_are_away_cost_a_training_run_nothing(seconds: int, num_steps: int, tmp_path: Path) -> None:
    with running_stack(tmp_path / "stack") as env:
        deployments = Deployments(env)
        deployments.register("train-dpo/shapes")
        declare(env)
        name = deployments.start("train-dpo/shapes", limit=200, steps=num_steps)
        _, run_dir = training(deployments)
        before = steps(run_dir)[-1]
        settings = current_settings(env)
        take_servers_away(settings, seconds)
        assert not run_dir.exists() or steps(run_dir)[-1] > before + 5, "training went on"
        wait_for("both are back", lambda: all(rows(settings)[name]["status"] == "healthy" for name in SERVERS))

        wait_for("the run ends", lambda: deployments.flow_run(name)["state_type"] not in ("RUNNING", "PENDING"), 600)
        run = deployments.flow_run(name)
        assert run["state_type"] == "COMPLETED", deployments.logs(run)
        assert run["run_count"] == 1 and not run_dir.exists()
        client, logged = mlflow_run(env)
        assert mlflow_status(env) == "FINISHED"
        for metric in ("loss", "lr", "grad_norm"):
            found = [one.step for one in client.get_metric_history(logged, f"train/{metric}")]
            assert found == list(range(1, num_steps + 1)), f"every {metric} once"


def take_servers_away(settings: StackSettings, seconds: float) -> None:
    """SIGKILL both servers; the supervisor, which would start them again at once, is stopped for that time."""
    state = recorded_state(settings)
    assert state
    supervisor = psutil.Process(state["supervisor"])
    supervisor.suspend()
    try:
        for server in SERVERS:
            for process in owned_processes(settings, server):
                process.kill()
        time.sleep(seconds)
    finally:
        supervisor.resume()


def test_a_run_whose_machine_is_gone_is_found_by_its_missing_heartbeats(tmp_path: Path) -> None:
    with running_stack(tmp_path / "stack") as env:
        assert "automation crash-zombie-runs: created" in declare(env)
        assert declare(env) == "", "nothing is left to do"
        assert declare(env, "within=75") == "automation crash-zombie-runs: updated\n"
        pool = {"name": "machine", "type": "process", "concurrency_limit": 1}
        call(f"{env['PREFECT_API_URL']}/work_pools/", pool)
        runs = Runs.deploy(env, tmp_path, "machine")
        with worker(env, "machine", "lost") as process:
            lost, flow, child = runs.start_endless()
            family = psutil.Process(process.pid).children(recursive=True)
            for pid in {process.pid, flow, child, *(one.pid for one in family)}:
                os.kill(pid, signal.SIGKILL)
        begun = time.monotonic()
        with worker(env, "machine", "next"):
            # The pool's only slot is held by the run that is gone.
            waiting = runs.start()
            wait_for("it is found", lambda: runs.state(lost)["type"] == "CRASHED", 240)
            assert 40 < time.monotonic() - begun < 180
            assert runs.state(lost)["message"].endswith(AGAIN)
            runs.completes(waiting)
        wait_for("all below it is closed", lambda: runs.unfinished() == [], 120)
        time.sleep(80)
        assert runs.state(waiting)["type"] == "COMPLETED", "no heartbeat is expected of what has ended"
