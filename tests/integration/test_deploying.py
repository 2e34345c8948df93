"""`make deploy` on a server whose deployments people have scheduled."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings

from deploy.deployments import chosen, register_all
from deploy.forms import with_fixed
from deploy.schedules import declare_all
from deploy.stack import ROOT
from deploy.stack.settings import POOL_VARIABLES
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
        client.update_deployment(found, DeploymentUpdate(tags=["theirs"], work_queue_name="default"))
        said = deployments.register(NAME)
        assert "deployments of train-balanced: 1 changed" in said
        assert "deployment sdxl of flows/train.py:train_balanced: stays paused" in said
        assert f"schedule nightly of {NAME}: kept as people set it, on, cron 30 3 * * * Europe/Berlin steps=7" in said
        assert f" of {NAME}: kept, on, cron 0 5 * * 1 seed=1" in said
        after = client.read_deployment_by_name(NAME)
        assert described(after) == before and after.paused
        assert (after.tags, after.work_queue_name) == (["train", "sdxl"], "gpu"), "the file decides what is in it"
        client.resume_deployment(found)
        for schedule in after.schedules:
            client.delete_deployment_schedule(found, schedule.id)
        declare_all(client)
        assert f"schedule nightly of {NAME}: created, off, cron 0 2 * * * UTC" in capsys.readouterr().out


def stored(deployments: Deployments, name: str) -> dict[str, Any]:
    """What the server holds of a deployment, but when it was written and when a worker asked for its runs."""
    moving = ("updated", "last_polled", "status")
    return {key: value for key, value in deployments.get(f"deployments/name/{name}").items() if key not in moving}


def test_what_is_as_declared_is_not_written_again(deployments: Deployments, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in POOL_VARIABLES:
        monkeypatch.setenv(variable, deployments.env[variable])
    with (
        temporary_settings({PREFECT_API_URL: deployments.env["PREFECT_API_URL"]}),
        get_client(sync_client=True) as client,
    ):
        before = client.read_deployment_by_name("label/dedpo25").updated
        assert list(register_all(client, chosen(["label/dedpo25"]))) == ["deployments of label: 1 as they were"]
        assert client.read_deployment_by_name("label/dedpo25").updated == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["label/dedpo25", "train-balanced/sdxl"])
def test_what_is_stored_is_what_prefect_deploy_stores(deployments: Deployments, name: str) -> None:
    ours = stored(deployments, name)
    deployments.prefect(
        "--no-prompt", "deploy", "--prefect-file", str(ROOT / "deploy" / "prefect.yaml"), "--name", name
    )
    theirs = stored(deployments, name)
    assert theirs["parameter_openapi_schema"] != ours["parameter_openapi_schema"], "it has run"
    theirs["parameter_openapi_schema"] = with_fixed(theirs["parameter_openapi_schema"], theirs["parameters"])
    assert json.dumps(theirs) == json.dumps(ours), "in the same order, too: it is that of the form"
    assert "1 changed" in deployments.register(name)
    assert stored(deployments, name)["parameter_openapi_schema"] == ours["parameter_openapi_schema"]
