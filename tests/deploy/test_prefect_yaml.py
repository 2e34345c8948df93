"""deploy/prefect.yaml without a server: what `make deploy` would register can be loaded and run."""

import asyncio
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from prefect import Flow
from prefect.deployments.steps.core import run_steps
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from rich.markup import render

from deploy.deployments import chosen, fields
from deploy.forms import with_fixed
from deploy.schedules import SCHEDULES
from deploy.stack import ROOT, StackError
from deploy.stack.settings import POOL_VARIABLES
from pipeline_lib.labels import recipes
from pipeline_lib.sweeps import claim as claims

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
    pool = deployment["work_pool"]
    preset = deployment["name"].rpartition("-")[2]  # sweep/<claim>-sd15
    if preset in ("sd15", "sd21", "sdxl") or (flow.name == "score" and deployment["name"] != "shapes"):
        assert pool == {"name": "{{ $PIPELINE_GPU_POOL }}", "work_queue_name": "gpu"}
    else:
        assert pool == {"name": "{{ $PIPELINE_CPU_POOL }}"}
    assert deployment["tags"]


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
    sweeps = {f"sweep/{name}" for name in ("shapes", "sd15")}
    assert stages | per_preset | labels | sweeps <= set(names)


@pytest.mark.parametrize("preset", ["shapes", "sd15"])
def test_every_claim_has_its_sweep(preset: str) -> None:
    """deploy/claim_runs.py starts them by these names."""
    found = {d["name"]: d["parameters"] for d in DEPLOYMENTS if load(d["entrypoint"]).name == "sweep"}
    for name in claims.names():
        if claims.load(name).runs_on(preset):
            assert found[f"{name}-{preset}"].items() >= {"preset": preset, "claim": name}.items()
        else:
            assert f"{name}-{preset}" not in found
    assert {given["claim"] for given in found.values() if "claim" in given} == set(claims.names())


def test_an_unknown_name_is_refused_with_those_that_are_near() -> None:
    assert [one["name"] for one in chosen(["label/k2", "align/sdxl"])] == ["k2", "sdxl"]
    with pytest.raises(StackError, match=r"no deployment align/shape\. Did you mean align/shapes"):
        chosen(["align/shape"])


def test_a_key_of_the_file_that_the_server_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in POOL_VARIABLES:
        monkeypatch.setenv(variable, f"the pool of {variable}")
    (one,) = chosen(["train-balanced/sdxl"])
    wanted = fields({**one, "concurrency_limit": 2}, "v1")
    given = {name: wanted[name] for name in ("version", "work_pool_name", "work_queue_name", "concurrency_limit")}
    assert list(given.values()) == ["v1", "the pool of PIPELINE_GPU_POOL", "gpu", 2]
    with pytest.raises(StackError, match="no concurency_limit, as sdxl has"):
        fields({**one, "concurency_limit": 2}, "v1")


def test_schedules_ship_switched_off() -> None:
    assert not [deployment for deployment in DEPLOYMENTS if "schedules" in deployment], "they would be set back"
    (nightly,) = SCHEDULES.values()
    assert set(nightly["deployments"]) == {
        f"{flow}/{preset}" for flow in (*TRAINING, "align") for preset in ("sd15", "sd21", "sdxl")
    }
    assert nightly["schedule"] == {"cron": "0 2 * * *", "timezone": "UTC"}
    assert nightly["active"] is False


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: f"{d['entrypoint']}/{d['name']}")
def test_what_a_deployment_gives_cannot_be_emptied_in_its_form(deployment: dict[str, Any]) -> None:
    """Prefect's form for schedules sends null for whatever may be null."""
    schema = parameter_schema(load(deployment["entrypoint"])).model_dump()
    given = deployment["parameters"]
    fixed = with_fixed(schema, given)
    for name, about in fixed["properties"].items():
        may_be_null = {"type": "null"} in about.get("anyOf", [])
        assert may_be_null <= (name not in given and about["default"] is None), name
        if name in given:
            assert about["default"] == given[name]
            jsonschema.validate({name: given[name]}, fixed | {"required": []})


@pytest.mark.parametrize("entrypoint", sorted({d["entrypoint"] for d in DEPLOYMENTS}))
def test_every_value_in_a_form_has_bounds(entrypoint: str) -> None:
    """What the server could store and not list again has no place to hide in."""
    schema = parameter_schema(load(entrypoint)).model_dump()
    found = [(name, one) for name, about in schema["properties"].items() for one in about.get("anyOf", [about])]
    found += [(name, one) for name, about in schema["definitions"].items() for one in about["anyOf"]]
    while found:
        name, about = found.pop()
        if "$ref" in about:
            assert about["$ref"].removeprefix("#/definitions/") in schema["definitions"], name
        elif "enum" not in about and about["type"] not in ("null", "boolean"):
            kind = about["type"]
            wanted = {
                "integer": ("minimum", "maximum"),
                "number": ("maximum", "not"),
                "string": ("maxLength",),
                "array": ("maxItems", "items"),
                "object": ("additionalProperties", "propertyNames"),
            }
            assert set(wanted[kind]) <= about.keys(), f"{name}: {about}"
            assert kind != "string" or "\\u0000" in str(about), f"{name}: {about}"
            found += [(name, about[key]) for key in ("items", "additionalProperties") if key in about]


@pytest.mark.parametrize("entrypoint", sorted({d["entrypoint"] for d in DEPLOYMENTS}))
def test_prefects_command_line_can_print_a_form(entrypoint: str) -> None:
    """`prefect deployment ls --output json` and `inspect` print by rich, which takes some brackets for markup."""
    printed = json.dumps(parameter_schema(load(entrypoint)).model_dump(), indent=2)
    assert render(printed).plain == printed


def test_pull_step_finds_the_flows_wherever_the_worker_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = asyncio.run(run_steps(CONFIGURATION["pull"], print_function=lambda _: None))
    assert output == {"directory": str(ROOT)}
    assert all(Path(output["directory"], d["entrypoint"].partition(":")[0]).is_file() for d in DEPLOYMENTS)
    # Nothing of the machine that registers them is in the deployments but the names of work pools.
    text = (ROOT / "deploy" / "prefect.yaml").read_text()
    assert set(re.findall(r"{{ *\$(\w+) *}}", text)) == set(POOL_VARIABLES)
