"""Job templates of deploy/pools, by themselves and through the worker classes that fill them in."""

import asyncio
import json
import re
from copy import deepcopy
from typing import Any

import jsonschema
import pytest
from docker.types import HostConfig
from prefect_docker.worker import DockerWorkerJobConfiguration
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

from deploy.work_pools import POOLS

TEMPLATES = {name: pool["base_job_template"] for name, pool in POOLS.items() if "base_job_template" in pool}


def filled(name: str, configuration: Any, **variables: Any) -> Any:
    """The job as the pool's worker would make it, less the pool's default environment, which the server resolves."""
    template = deepcopy(TEMPLATES[name])
    template["variables"]["properties"]["env"]["default"] = {}
    values = {"command": "prefect flow-run execute", "name": "run"} | variables
    return asyncio.run(configuration.from_template_and_values(template, values, client=object()))


def test_every_pool_says_how_it_is_served() -> None:
    assert {name: pool["type"] for name, pool in POOLS.items()} == {
        "local": "process",
        "cpu": "process",
        "gpu": "process",
        "gpu-docker": "docker",
        "gpu-k8s": "kubernetes",
    }
    for name in set(POOLS) - {"local"}:
        start = "python -m deploy.worker" if POOLS[name]["type"] == "process" else "prefect worker start"
        assert f"{start} --pool {name} --type {POOLS[name]['type']}" in POOLS[name]["description"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_variables_are_referenced_and_defaults_fit_their_schema(name: str) -> None:
    template = TEMPLATES[name]
    referenced = set(re.findall(r"{{ *(\w+) *}}", json.dumps(template["job_configuration"])))
    assert referenced == set(template["variables"]["properties"]), "what is not referenced is silently without effect"
    jsonschema.Draft202012Validator.check_schema(template["variables"])
    defaults = {
        key: field["default"] for key, field in template["variables"]["properties"].items() if "default" in field
    }
    jsonschema.validate(defaults, template["variables"])


def test_no_template_holds_a_secret() -> None:
    environment = TEMPLATES["gpu-docker"]["variables"]["properties"]["env"]["default"]
    for key, value in environment.items():
        secret = "PASSWORD" in key or "SECRET" in key
        assert re.fullmatch(rf"{{{{ prefect\.{'blocks.secret' if secret else 'variables'}\.[a-z_-]+ }}}}", value), key
    assert TEMPLATES["gpu-k8s"]["variables"]["properties"]["env"]["default"] == {}


def test_docker_job_asks_for_the_gpus() -> None:
    job = filled("gpu-docker", DockerWorkerJobConfiguration, gpu_count=2, shm_size="8g", env={"A": "b"})
    assert job.auto_remove and not job.privileged and job.env == {"A": "b"}
    assert {volume.partition(":")[2] for volume in job.volumes} == {"/state", "/hub"}
    host = HostConfig(version="1.44", **job.container_create_kwargs)
    (request,) = host["DeviceRequests"]
    assert (request["Count"], request["Capabilities"]) == (2, [["gpu"]])
    assert (host["ShmSize"], host["Init"]) == (8 << 30, True)


def test_kubernetes_job_asks_for_gpus_nodes_memory_and_volumes() -> None:
    job = filled(
        "gpu-k8s",
        KubernetesWorkerJobConfiguration,
        gpu_count=4,
        node_selector={"gpu": "h100"},
        shm_size="32Gi",
        checkpoint_claim="fast",
        secret_name="mine",
    )
    pod = job.job_manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 4
    assert pod["nodeSelector"] == {"gpu": "h100"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert container["envFrom"] == [{"secretRef": {"name": "mine"}}]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["checkpoints"]["persistentVolumeClaim"]["claimName"] == "fast"
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "32Gi"}
    assert {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]} == {
        "checkpoints": "/state",
        "shm": "/dev/shm",
    }
    assert pod["securityContext"]["runAsNonRoot"] and pod["terminationGracePeriodSeconds"] == 180
