"""`make deploy` on a server whose deployments people have scheduled."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings

from deploy.due_runs import due_runs
from deploy.schedules import declare_all
from tests.deploy.test_stack_integration import wait_for
from tests.integration.deployments import Deployments

pytestmark = pytest.mark.integration

NAME = "train-balanced/sdxl"


def described(deployment: Any) -> set[tuple[str | None, bool, str, str]]:
    return {(one.slug, one.active, one.schedule.cron, str(one.parameters)) for one in deployment.schedules}


def test_deploying_leaves_schedules_as_people_set_them(
    deployments: Deployments, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        temporary_settings({PREFECT_API_URL: deployments.env["PREFECT_API_URL"]}),
        get_client(sync_client=True) as client,
    ):
        shipped = client.read_deployment_by_name(NAME)
        found = shipped.id
        assert described(shipped) == {("nightly", False, "0 2 * * *", "{}")}
        (nightly,) = shipped.schedules
        theirs = CronSchedule(cron="30 3 * * *", timezone="Europe/Berlin")
        client.update_deployment_schedule(found, nightly.id, active=True, schedule=theirs, parameters={"steps": 7})
        client.create_deployment_schedules(found, [(CronSchedule(cron="0 5 * * 1"), True)], parameters={"seed": 1})
        client.pause_deployment(found)
        before = described(client.read_deployment_by_name(NAME))
        assert len(before) == 2
        said = deployments.register(NAME)
        assert "deployment sdxl of flows/train.py:train_balanced: stays paused" in said
        assert f"schedule nightly of {NAME}: kept as people set it, on, cron 30 3 * * * Europe/Berlin steps=7" in said
        assert f" of {NAME}: kept, on, cron 0 5 * * 1 seed=1" in said
        after = client.read_deployment_by_name(NAME)
        assert described(after) == before and after.paused
        client.resume_deployment(found)
        for schedule in after.schedules:
            client.delete_deployment_schedule(found, schedule.id)
        declare_all(client)
        assert f"schedule nightly of {NAME}: created, off, cron 0 2 * * * UTC" in capsys.readouterr().out


@pytest.mark.slow
def test_deploying_keeps_a_scheduled_run_that_waits_for_its_worker(deployments: Deployments) -> None:
    deployments.post("work_pools/", {"name": "unserved", "type": "process", "base_job_template": {}})
    name, there = "train-dpo/sd15", Deployments({**deployments.env, "PIPELINE_GPU_POOL": "unserved"})
    there.register(name)
    found = UUID(there.get(f"deployments/name/{name}")["id"])
    try:
        with (
            temporary_settings({PREFECT_API_URL: deployments.env["PREFECT_API_URL"]}),
            get_client(sync_client=True) as client,
        ):
            client.create_deployment_schedules(found, [(CronSchedule(cron="* * * * *"), True)], parameters={"seed": 5})
            due = wait_for("a run is due", lambda: due_runs(client, [found]))[0]
            said = there.register(name)
        assert f"run {due.name}, due at" in said and "waits on as" in said
        runs = there.post("flow_runs/filter", {"flow_runs": {"deployment_id": {"any_": [str(found)]}}})
        again = [run for run in runs if datetime.fromisoformat(run["expected_start_time"]) == due.expected_start_time]
        assert [run["parameters"]["seed"] for run in again] == [5] and again[0]["id"] != str(due.id)
    finally:
        there.delete(f"deployments/{found}")
        there.delete("work_pools/unserved")
