"""Every command of docker/compose.yaml, started without Docker, and what a team would do with it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.compose import FOLDER, Native, read_environment

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

SECRETS = {
    "POSTGRES_PASSWORD": "p@ss/word:with#signs",
    "PREFECT_AUTH": "team:planted-prefect",
    "MLFLOW_ADMIN_PASSWORD": "planted-mlflow-admin",
    "MLFLOW_SECRET_KEY": "planted-flask-key",
    "S3_ACCESS_KEY": "planted-access",
    "S3_SECRET_KEY": "planted-s3-secret",
}
# Files of 5 MB and more in parts, which is the least that S3 takes; the default is 500 MB.
UPLOAD = """
import mlflow, sys
mlflow.set_experiment("uploads")
with mlflow.start_run() as run:
    mlflow.log_artifact(sys.argv[1])
name = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="big.bin", dst_path=sys.argv[2])
print("equal", open(name, "rb").read() == open(sys.argv[1], "rb").read(), run.info.artifact_uri)
"""
PULL = "import mlflow, sys; print(mlflow.artifacts.download_artifacts(sys.argv[1], dst_path=sys.argv[2]))"


@pytest.fixture(scope="module")
def native() -> Iterator[Native]:
    variables = read_environment((FOLDER / ".env.example").read_text()) | SECRETS
    compose = Native(variables)
    try:
        for name in compose.services:
            compose.start(name)
        yield compose
    finally:
        compose.stop()
        shutil.rmtree(compose.folder, ignore_errors=True)


def status(url: str, login: str | None = None, payload: dict[str, str] | None = None, **headers: str) -> int:
    """HTTP status of a GET, or of a POST of `payload`."""
    if login:
        headers["Authorization"] = "Basic " + b64encode(login.encode()).decode()
    body = json.dumps(payload).encode() if payload else None
    headers |= {"Content-Type": "application/json"} if payload else {}
    request = urllib.request.Request(url, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_every_service_runs_and_asks_who_is_there(native: Native) -> None:
    assert set(native.processes) == set(native.services)
    ended = {name for name, process in native.processes.items() if process.poll() is not None}
    assert ended == {"prefect-migrate", "deploy"}
    worker = native.environment("worker-cpu")
    prefect, mlflow = f"{worker['PREFECT_API_URL']}/version", worker["MLFLOW_TRACKING_URI"]
    assert (status(prefect), status(prefect, SECRETS["PREFECT_AUTH"])) == (401, 200)
    search = f"{mlflow}/api/2.0/mlflow/experiments/search?max_results=1"
    admin = f"admin:{SECRETS['MLFLOW_ADMIN_PASSWORD']}"
    assert (status(search), status(search, "admin:wrong"), status(search, admin)) == (401, 401, 200)
    assert status(search, admin, Host="mlflow:5000") == 200
    assert status(search, admin, Host="elsewhere.example:5000") == 403
    stranger = native.run("s3", ["rclone", "lsd", ":s3:"], RCLONE_S3_SECRET_ACCESS_KEY="wrong")
    assert stranger.returncode != 0 and "SignatureDoesNotMatch" in stranger.stderr
    buckets = native.run("s3", ["rclone", "lsf", ":s3:"]).stdout
    assert set(buckets.split()) == {"store/", "mlflow/"}


def test_a_login_made_for_readers_changes_nothing(native: Native) -> None:
    mlflow = f"{native.environment('worker-cpu')['MLFLOW_TRACKING_URI']}/api/2.0/mlflow"
    admin, reader = f"admin:{SECRETS['MLFLOW_ADMIN_PASSWORD']}", "reader:a-long-password"
    new = {"username": "reader", "password": "a-long-password"}
    assert status(f"{mlflow}/users/create", admin, new) == 200
    assert status(f"{mlflow}/registered-models/create", admin, {"name": "theirs"}) == 200
    assert status(f"{mlflow}/registered-models/get?name=theirs", reader) == 200
    tag = {"name": "theirs", "key": "a", "value": "b"}
    assert status(f"{mlflow}/registered-models/set-tag", reader, tag) == 403
    assert status(f"{mlflow}/registered-models/set-tag", admin, tag, Origin="http://elsewhere.example") == 403
    assert status(f"{mlflow}/registered-models/set-tag", admin, tag) == 200


def test_deploying_again_changes_nothing(native: Native) -> None:
    def registered() -> list[tuple[str, str, str, str]]:
        found = json.loads(native.run("worker-cpu", ["prefect", "deployment", "ls", "--output", "json"]).stdout)
        return sorted((one["id"], one["work_pool_name"], str(one["parameters"]), schedules(one)) for one in found)

    def schedules(one: dict[str, Any]) -> str:
        return str([(s["slug"], s["active"], s["schedule"]["cron"]) for s in one["schedules"]])

    before = registered()
    assert {pool for _, pool, _, _ in before} == {"cpu", "gpu"}
    again = native.run("deploy", native.services["deploy"].command)
    assert again.returncode == 0, again.stderr
    assert not re.search(r"^(work pool|concurrency limit) ", again.stdout, re.MULTILINE), "nothing had to be declared"
    assert registered() == before


def test_align_runs_on_the_worker_and_leaves_its_datasets_and_model_on_s3(native: Native) -> None:
    small = ["--param", "limit=120", "--param", "steps=2", "--param", "num_prompts=8"]
    command = ["prefect", "deployment", "run", "align/shapes", "--flow-run-name", "first", "--watch", *small]
    run = native.run("worker-cpu", command)
    assert "Completed" in run.stdout, run.stdout[-2000:] + native.log("worker-cpu")[-4000:]
    stages = set(native.run("s3", ["rclone", "lsf", ":s3:store"]).stdout.split())
    assert {"ingest/", "labels/", "model/", "evaluation/"} <= stages, stages
    # A consumer knows the MLflow server and has a login; it has no key of the store.
    worker = native.environment("worker-cpu")
    consumer = {key: value for key, value in worker.items() if not key.startswith(("AWS_", "PREFECT_"))}
    target = native.folder / "pulled"
    command = [sys.executable, "-c", PULL, "models:/balanced-shapes@candidate", str(target)]
    pulled = subprocess.run(command, env=consumer, capture_output=True, text=True, timeout=300)
    assert pulled.returncode == 0, pulled.stderr
    assert list(target.rglob("model_index.json"))


def test_large_files_go_to_s3_in_parts(native: Native) -> None:
    source, target = native.folder / "big.bin", native.folder / "downloaded"
    source.write_bytes(bytes(range(256)) * 50_000)
    target.mkdir()
    parts = {"MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": "5000000", "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": "5242880"}
    done = native.run("worker-cpu", ["python", "-c", UPLOAD, str(source), str(target)], **parts)
    assert "equal True mlflow-artifacts:" in done.stdout, done.stderr
    assert "/mpu/create/" in native.log("mlflow"), "the server was asked for addresses of the parts"


def test_no_secret_in_any_log(native: Native) -> None:
    for name in native.services:
        found = [secret for secret in SECRETS.values() if secret in native.log(name)]
        assert not found, f"{name} logged {found}"
    arguments = "\n".join(" ".join(service.command) for service in native.services.values())
    assert not any(secret in arguments for secret in SECRETS.values()), "visible to every user of the machine"


def test_services_end_when_they_are_told_to(native: Native) -> None:
    codes = native.stop()
    # 143 and -15: ended by SIGTERM, which a worker passes on to itself.
    assert {name: code for name, code in codes.items() if code not in (0, 143, -15)} == {}
    native.processes.clear()
