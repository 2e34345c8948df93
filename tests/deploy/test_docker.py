"""The files of docker/, as far as they can be judged without Docker."""

import json
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.stack import ROOT
from deploy.stack.settings import LOG_FORMATS
from tests.integration.compose import FOLDER, MissingVariableError, Service, read_environment, services

EXAMPLE = read_environment((FOLDER / ".env.example").read_text())
SECRETS = [name for name, value in EXAMPLE.items() if not value]
OPTIONAL = {"HF_TOKEN", "MLFLOW_READER_PASSWORD"}
FILES = ("compose.yaml", "workers.yaml")


def filled() -> dict[str, str]:
    return EXAMPLE | dict.fromkeys(SECRETS, "secret")


@pytest.mark.parametrize("file", FILES)
def test_compose_files_follow_the_specification(file: str) -> None:
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    document = yaml.safe_load((FOLDER / file).read_text())
    jsonschema.validate(document, schema)
    volumes = {one.partition(":")[0] for body in document["services"].values() for one in body.get("volumes", [])}
    assert {name for name in volumes if not name.startswith("./")} <= set(document["volumes"])


def test_dockerfile_passes_hadolint() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    result = subprocess.run([hadolint, "--no-color", FOLDER / "Dockerfile"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_compose_refuses_to_start_without_each_secret() -> None:
    assert set(SECRETS) >= {"POSTGRES_PASSWORD", "PREFECT_AUTH", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_WORKER_PASSWORD"}
    for name in set(SECRETS) - OPTIONAL:
        with pytest.raises(MissingVariableError, match=name):
            services(filled() | {name: ""})
    services(filled() | dict.fromkeys(OPTIONAL, ""))


def test_example_names_every_variable_and_no_other() -> None:
    used = {name for file in FILES for name in re.findall(r"\$\{(\w+)", (FOLDER / file).read_text())}
    assert used == set(EXAMPLE)


def test_ports_are_bound_to_this_machine() -> None:
    ports = {name: service.ports for name, service in services(filled()).items() if service.ports}
    assert {name: len(bound) for name, bound in ports.items()} == {"s3": 1, "prefect": 1, "mlflow": 1}
    assert all(port.startswith("127.0.0.1:") for bound in ports.values() for port in bound)


def test_databases_cannot_be_reached_by_what_runs_are_made_of() -> None:
    document = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    assert document["networks"]["data"] == {"internal": True}
    networks = {name: set(body.get("networks", ["default"])) for name, body in document["services"].items()}
    assert networks["postgres"] == networks["redis"] == {"data"}
    assert all("data" not in networks[name] for name in ("deploy", "worker-cpu", "worker-gpu", "s3"))


def test_images_run_as_a_user_and_hold_no_secret() -> None:
    text = (FOLDER / "Dockerfile").read_text()
    stages: dict[str, str] = {}
    for block in re.split(r"(?m)^(?=FROM )", text)[1:]:
        stages[block.split("\n", 1)[0].split(" AS ")[1]] = block
    for name in ("server", "cpu", "gpu"):
        assert re.findall(r"(?m)^USER (.*)$", stages[name]) == ["10001"]
    assert not re.search("|".join(SECRETS), text)
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    copied = {word for line in re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", text) for word in line.split()}
    assert copied <= allowed
    assert all((ROOT / name).exists() for name in copied)


def test_mlflows_app_is_in_the_servers_image_and_needs_no_other_package_of_the_project() -> None:
    assert _option(services(filled())["mlflow"], "--app-name") == "pipeline-auth"
    assert "COPY deploy deploy\n" in (FOLDER / "Dockerfile").read_text().partition(" AS metadata")[0]
    source = (ROOT / "deploy/mlflow_access.py").read_text()
    assert not re.search(r"(?m)^\s*(?:from|import) (?:pipeline_lib|tasks|flows|deploy)\b", source)


def test_only_the_server_and_what_creates_users_know_the_administrator() -> None:
    known = {
        name
        for name, service in services(EXAMPLE | {name: name for name in SECRETS}).items()
        if "MLFLOW_ADMIN_PASSWORD" in service.environment.values()
    }
    assert known == {"mlflow", "deploy"}


def test_workers_are_the_same_on_every_machine() -> None:
    here, elsewhere = services(filled()), services(filled(), "workers.yaml")
    assert set(elsewhere) == {"worker-cpu", "worker-gpu"}
    for name, service in elsewhere.items():
        assert _described(here[name]) == _described(service)
        assert "--with-healthcheck" in service.command
    assert _option(elsewhere["worker-gpu"], "--limit") == "1"
    pools = {_option(service, "--pool") for service in elsewhere.values()}
    assert pools == {here["deploy"].environment[f"PIPELINE_{kind}_POOL"] for kind in ("CPU", "GPU")}


def test_lines_of_logs_are_those_of_the_local_stack() -> None:
    assert LOG_FORMATS.items() <= services(filled())["worker-cpu"].environment.items()


def _option(service: Service, name: str) -> str:
    return service.command[service.command.index(name) + 1]


def _described(service: Service) -> tuple[Any, ...]:
    return service.image, service.command, service.environment, service.health, service.volumes
