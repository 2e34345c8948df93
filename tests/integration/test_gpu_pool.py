"""Deployments of real base models on a work pool of their own: registered twice, scheduled but off, served."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.stack import running_stack
from deploy.stack.settings import ROOT
from tests.integration.deployments import Deployments

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def deployments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployments]:
    with running_stack(tmp_path_factory.mktemp("stack")) as env:
        yield Deployments({**env, "PIPELINE_GPU_POOL": "gpu"})


def declare(deployments: Deployments) -> str:
    """What `make deploy` runs."""
    command = [sys.executable, "-m", "deploy.work_pools"]
    result = subprocess.run(command, cwd=ROOT, env=dict(deployments.env), check=True, capture_output=True, text=True)
    deployments.register()
    return result.stdout


def registered(deployments: Deployments) -> dict[str, tuple[Any, ...]]:
    found = deployments.post("deployments/filter", {"limit": 200})
    flows = {flow["id"]: flow["name"] for flow in deployments.post("flows/filter", {"limit": 200})}
    return {
        f"{flows[one['flow_id']]}/{one['name']}": (
            one["id"],
            one["work_pool_name"],
            [(s["slug"], s["active"], s["schedule"]["cron"], s["schedule"]["timezone"]) for s in one["schedules"]],
        )
        for one in found
    }


def test_real_models_have_a_pool_and_a_nightly_schedule_that_is_off(deployments: Deployments) -> None:
    assert "python -m deploy.worker --pool gpu" in declare(deployments)
    first = registered(deployments)
    assert declare(deployments) == "", "the pool is there"
    assert registered(deployments) == first
    for flow in ("train-dpo", "train-balanced", "train-dedpo", "train-adaptive", "align"):
        for preset in ("sd15", "sd21", "sdxl"):
            assert first[f"{flow}/{preset}"][1:] == ("gpu", [("nightly", False, "0 2 * * *", "UTC")])
        assert first[f"{flow}/shapes"][1:] == ("local", [])


def test_a_worker_of_the_pool_runs_them(deployments: Deployments) -> None:
    declare(deployments)
    name = deployments.start("train-dpo/sd15", preset="shapes", limit=60, steps=1)
    command = [sys.executable, "-m", "deploy.worker", "--pool", "gpu", "--type", "process", "--run-once"]
    result = subprocess.run(
        [*command, "--limit", "1", "--install-policy", "never"],
        cwd=ROOT,
        env=dict(deployments.env),
        capture_output=True,
        text=True,
        timeout=600,
    )
    run = deployments.flow_run(name)
    assert run["state_type"] == "COMPLETED", result.stdout + result.stderr
    assert run["work_pool_name"] == "gpu"
    assert Path(deployments.env["PIPELINE_STATE"], "store", "model").is_dir()
