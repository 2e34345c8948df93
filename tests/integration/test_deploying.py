"""`make deploy` on a server whose deployments people have scheduled."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings

from deploy.schedules import declare_all
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
