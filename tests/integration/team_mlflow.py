"""The team's MLflow server without the rest of docker/compose.yaml: its command and its file of logins, on SQLite."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.mlflow_users import create_missing
from deploy.stack.processes import free_port
from deploy.stack.settings import ROOT

PASSWORDS = {name: f"planted-mlflow-{name}" for name in ("admin", "worker", "reader")}
TAG = {"key": "a", "value": "b"}


def login(name: str) -> dict[str, str]:
    """The variables by which MLflow's client logs in."""
    return {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": PASSWORDS[name]}


@contextmanager
def team_server(folder: Path) -> Iterator[str]:
    """Its address, once it is healthy and has its users. Two processes, which start on an empty database at once."""
    logins = (ROOT / "docker/mlflow-auth.ini").read_text()
    (folder / "auth.ini").write_text(logins.replace("postgresql+psycopg2://", f"sqlite:///{folder / 'logins.db'}"))
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--workers", "2", "--serve-artifacts"]
    command += ["--artifacts-destination", (folder / "artifacts").as_uri(), "--app-name", "pipeline-auth"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), *command],
            env=os.environ
            | {
                "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
                "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORDS["admin"],
                "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + 240
            while status(f"{address}/health") != 200:
                assert process.poll() is None and time.monotonic() < deadline, (folder / "server.log").read_text()
                time.sleep(0.5)
            users = {f"MLFLOW_{name.upper()}_PASSWORD": password for name, password in PASSWORDS.items()}
            assert create_missing({"MLFLOW_TRACKING_URI": address, **login("admin"), **users}) == ["worker", "reader"]
            yield address
        finally:
            process.terminate()
            process.wait(60)


def status(url: str, name: str | None = None, payload: Any = None, method: str | None = None, **headers: str) -> int:
    """HTTP status of a call as a user: a GET, or a POST of `payload`, unless told; 0 without an answer.

    `name` is a user of this file, or `name:password`.
    """
    if name:
        given = name if ":" in name else f"{name}:{PASSWORDS[name]}"
        headers["Authorization"] = "Basic " + b64encode(given.encode()).decode()
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode() if payload is not None else None
    headers |= {"Content-Type": "application/json"} if body is not None else {}
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def writes(model: str, version: str, run: str, experiment: str, logged: str) -> list[tuple[str, str, Any]]:
    """Calls (method, path, body) that would change what is there, or add to it; ids are those of real things."""
    named, versioned, of_run = {"name": model}, {"name": model, "version": version}, {"run_id": run}
    artifacts = f"{experiment}/{run}/artifacts/planted.txt"
    upload = {"path": "planted.txt", "num_parts": 1}
    calls: list[tuple[str, str, Any]] = [
        ("POST", "registered-models/create", {"name": "dpo-shapes"}),
        ("POST", "model-versions/create", {**named, "source": "http://127.0.0.1:9/code"}),
        ("POST", "registered-models/alias", {**versioned, "alias": "champion"}),
        ("DELETE", "registered-models/alias", {**named, "alias": "candidate"}),
        ("POST", "registered-models/rename", {**named, "new_name": "theirs"}),
        ("POST", "registered-models/set-tag", {**named, **TAG}),
        ("PATCH", "registered-models/update", {**named, "description": "theirs"}),
        ("DELETE", "registered-models/delete", named),
        ("POST", "model-versions/set-tag", {**versioned, **TAG}),
        ("PATCH", "model-versions/update", {**versioned, "description": "theirs"}),
        ("POST", "model-versions/transition-stage", {**versioned, "stage": "Production"}),
        ("DELETE", "model-versions/delete", versioned),
        ("POST", "experiments/create", {"name": "theirs"}),
        ("POST", "experiments/update", {"experiment_id": experiment, "new_name": "theirs"}),
        ("POST", "experiments/set-experiment-tag", {"experiment_id": experiment, **TAG}),
        ("POST", "experiments/delete", {"experiment_id": experiment}),
        ("POST", "runs/create", {"experiment_id": "0", "user_id": "worker"}),
        ("POST", "runs/update", {**of_run, "status": "FAILED"}),
        ("POST", "runs/log-metric", {**of_run, "key": "eval/win_rate", "value": 1.0, "timestamp": 1}),
        ("POST", "runs/log-parameter", {**of_run, **TAG}),
        ("POST", "runs/log-batch", {**of_run, "tags": [TAG]}),
        ("POST", "runs/set-tag", {**of_run, **TAG}),
        ("POST", "runs/log-inputs", {**of_run, "datasets": []}),
        ("POST", "runs/delete", of_run),
        ("POST", "logged-models", {"experiment_id": experiment, "name": "theirs"}),
        ("PATCH", f"logged-models/{logged}", {"model_id": logged, "status": "LOGGED_MODEL_UPLOAD_FAILED"}),
        ("PATCH", f"logged-models/{logged}/tags", {"tags": [TAG]}),
        ("DELETE", f"logged-models/{logged}", {}),
        ("POST", "artifacts/presigned-upload-url", {**of_run, "path": "planted.txt"}),
        ("POST", "webhooks", {"name": "w", "url": "http://127.0.0.1:9", "events": []}),
        ("POST", "users/create", {"username": "me", "password": "a-long-password"}),
        ("PATCH", "users/update-password", {"username": "reader", "password": "a-long-password"}),
        ("PATCH", "users/update-admin", {"username": "reader", "is_admin": True}),
    ]
    found = [(method, f"/api/2.0/mlflow/{path}", body) for method, path, body in calls]
    found += [(method, path.replace("/api/", "/ajax-api/"), body) for method, path, body in found[:3]]
    found += [
        ("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{artifacts}", b"planted"),
        ("PUT", f"/ajax-api/2.0/mlflow-artifacts/artifacts/{artifacts}", b"planted"),
        ("DELETE", f"/api/2.0/mlflow-artifacts/artifacts/{artifacts}", None),
        ("POST", f"/api/2.0/mlflow-artifacts/mpu/create/{artifacts}", upload),
        ("POST", f"/api/2.0/mlflow-artifacts/mpu/complete/{artifacts}", {"path": "planted.txt", "upload_id": "x"}),
        ("POST", f"/api/2.0/mlflow-artifacts/mpu/abort/{artifacts}", {"path": "planted.txt", "upload_id": "x"}),
        ("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=planted.txt", b"planted"),
        ("POST", "/api/3.0/mlflow/datasets/create", {"name": "theirs"}),
        ("POST", "/api/3.0/mlflow/scorers/register", {"experiment_id": experiment, "name": "s"}),
        ("POST", "/api/3.0/mlflow/traces", {"trace": {}}),
        ("POST", "/api/3.0/mlflow/roles/create", {"name": "theirs"}),
        ("POST", "/v1/traces", b"planted"),
        ("POST", "/graphql", {"query": 'mutation { testMutation(inputString: "x") { output } }'}),
    ]
    return found
