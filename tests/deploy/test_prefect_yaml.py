"""deploy/prefect.yaml without a server: what `make deploy` would register can be loaded and run."""

from functools import cache
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.flows import load_flow_from_entrypoint

from deploy.stack import ROOT, WORK_POOL
from pipeline_lib.labels import recipes

CONFIGURATION: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "prefect.yaml").read_text())
DEPLOYMENTS: list[dict[str, Any]] = CONFIGURATION["deployments"]
TRAINING = ("train-dpo", "train-balanced", "train-dedpo", "train-adaptive")


@cache
def load(entrypoint: str) -> Flow[..., Any]:
    return load_flow_from_entrypoint(f"{ROOT}/{entrypoint}", use_placeholder_flow=False)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: f"{d['entrypoint']}/{d['name']}")
def test_entry_point_loads_and_takes_the_default_parameters(deployment: dict[str, Any]) -> None:
    flow = load(deployment["entrypoint"])
    flow.validate_parameters(deployment.get("parameters", {}))
    real = deployment["name"] in ("sd15", "sd21", "sdxl")
    assert deployment["work_pool"]["name"] == ("{{ $PIPELINE_GPU_POOL }}" if real else WORK_POOL)


def test_names_are_unique_and_the_promised_ones_are_there() -> None:
    names = [f"{load(deployment['entrypoint']).name}/{deployment['name']}" for deployment in DEPLOYMENTS]
    assert len(names) == len(set(names))
    stages = {"ingest/pickapic-v2", *(f"{flow}/shapes" for flow in ("ingest", "score", "label"))}
    per_preset = {
        f"{flow}/{preset}"
        for flow in (*TRAINING, "evaluate", "compare", "align")
        for preset in ("shapes", "sd15", "sd21", "sdxl")
    }
    labels = {f"label/{recipe}" for recipe in recipes.names()}
    assert len(labels) > 10
    assert stages | per_preset | labels <= set(names)


def test_schedules_ship_switched_off() -> None:
    scheduled = {f"{load(d['entrypoint']).name}/{d['name']}": d["schedules"] for d in DEPLOYMENTS if "schedules" in d}
    assert set(scheduled) == {
        f"{flow}/{preset}" for flow in (*TRAINING, "align") for preset in ("sd15", "sd21", "sdxl")
    }
    for (schedule,) in scheduled.values():
        assert schedule == {"cron": "0 2 * * *", "timezone": "UTC", "slug": "nightly", "active": False}


def test_pull_step_does_not_name_the_deploying_machine() -> None:
    (step,) = CONFIGURATION["pull"]
    assert step == {"prefect.deployments.steps.set_working_directory": {"directory": "{{ $PIPELINE_ROOT }}"}}
