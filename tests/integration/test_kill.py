"""SIGKILL of the worker's process tree in every stage of `align`, then the same deployment again."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from deploy.stack import current_settings, running_stack
from deploy.stack.processes import owned_processes
from tests.integration.deployments import Deployments
from tests.integration.test_align import STAGES

SIZE = {"limit": 1500, "steps": 60, "num_prompts": 64}
FLOWS = {"train": "train-balanced"}

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(3000)]


def test_killed_in_every_stage_and_run_again_gives_the_same_datasets(tmp_path: Path) -> None:
    with running_stack(tmp_path / "stack") as env:
        deployments = Deployments(env)
        deployments.register("align/shapes")
        undisturbed = deployments.run("align/shapes", store=str(tmp_path / "undisturbed"), **SIZE)
        assert undisturbed["state_type"] == "COMPLETED", deployments.logs(undisturbed)
        expected = deployments.stages(undisturbed)

        disturbed = {"store": str(tmp_path / "disturbed"), **SIZE}
        for stage in STAGES:
            run = deployments.flow_run(deployments.start("align/shapes", **disturbed))
            kill_worker_during(deployments, env, run["name"], stage)
        last = deployments.run("align/shapes", **disturbed)
        assert last["state_type"] == "COMPLETED", deployments.logs(last)
        found = deployments.stages(last)
        assert {s: row["digest"] for s, row in found.items()} == {s: row["digest"] for s, row in expected.items()}
        assert {found[s]["status"] for s in STAGES if s not in ("evaluate", "register")} == {"skipped"}


def kill_worker_during(deployments: Deployments, env: dict[str, str], name: str, stage: str) -> None:
    """Wait until the run is in the stage's flow, then SIGKILL the worker and all it started, trainer included."""
    settings = current_settings(env)
    deadline = time.monotonic() + 600
    while True:
        assert time.monotonic() < deadline, f"{name} did not reach {stage}"
        run = deployments.flow_run(name)
        assert run["state_type"] not in ("FAILED", "CRASHED", "COMPLETED"), f"{name} ended before {stage}"
        wanted = {"flows": {"name": {"any_": [FLOWS.get(stage, stage)]}}}
        query = {
            **wanted,
            "flow_runs": {"parent_flow_run_id": {"any_": [run["id"]]}, "state": {"type": {"any_": ["RUNNING"]}}},
        }
        if deployments.post("flow_runs/filter", query):
            break
        time.sleep(0.05)
    time.sleep(0.5)  # into the stage's work
    doomed = owned_processes(settings, "worker")
    assert doomed, "the worker has no processes"
    for process in doomed:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    while deployments.flow_run(name)["state_type"] != "CRASHED":  # the supervisor saw it and closed the run
        assert time.monotonic() < deadline, f"{name} is still {deployments.flow_run(name)['state_type']}"
        time.sleep(0.5)
