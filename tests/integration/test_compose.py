"""Every command of docker/compose.yaml, started without Docker, and what a team would do with it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.compose import FOLDER, Native, read_environment
from tests.integration.deployments import Deployments
from tests.integration.team_mlflow import status, writes
from tests.planted import holders

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

SECRETS = {
    "POSTGRES_PASSWORD": "p@ss/word:with#signs",
    "PREFECT_AUTH": "team:planted-prefect",
    "MLFLOW_ADMIN_PASSWORD": "planted-mlflow-admin",
    "MLFLOW_WORKER_PASSWORD": "planted-mlflow-worker",
    "MLFLOW_READER_PASSWORD": "planted-mlflow-reader",
    "MLFLOW_SECRET_KEY": "planted-flask-key",
    "HF_TOKEN": "hf_planted",
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
WRONG = "planted-wrong-key"
INGEST = "import sys; from flows.ingest import ingest; ingest(source=sys.argv[1])"
LIBRARY = "import sys; from pipeline_lib.core.store import absolute; absolute(sys.argv[1])"
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
    admin, worker, reader = (
        f"{name}:{SECRETS[f'MLFLOW_{name.upper()}_PASSWORD']}" for name in ("admin", "worker", "reader")
    )
    assert status(f"{mlflow}/registered-models/create", admin, {"name": "theirs"}) == 200
    assert status(f"{mlflow}/registered-models/create", worker, {"name": "made-by-a-run"}) == 200
    tag = {"key": "a", "value": "b"}
    for login, model, expected in [
        (reader, "theirs", 403),
        (reader, "made-by-a-run", 403),
        (worker, "theirs", 403),
        (worker, "made-by-a-run", 200),
        (admin, "theirs", 200),
    ]:
        assert status(f"{mlflow}/registered-models/get?name={model}", login) == 200
        assert status(f"{mlflow}/registered-models/set-tag", login, {"name": model, **tag}) == expected
    server = mlflow.removesuffix("/api/2.0/mlflow")
    for method, path, body in writes("theirs", "1", "0" * 32, "0", f"m-{'0' * 32}"):
        assert status(f"{server}{path}", reader, body, method) == 403, (method, path)
    for login in (reader, worker):
        assert status(f"{mlflow}/users/create", login, {"username": "me", "password": "a-long-password"}) == 403
    elsewhere = {"Origin": "http://elsewhere.example"}
    assert status(f"{mlflow}/registered-models/set-tag", admin, {"name": "theirs", **tag}, **elsewhere) == 403


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
    assert not re.search(r"^(MLflow user|work pool|concurrency limit) ", again.stdout, re.MULTILINE), (
        "nothing had to be declared"
    )
    assert registered() == before
    # One of the team, in a checkout: `make deploy` goes to the server that their environment names.
    make = ["make", "--old-file=setup", f"PY={sys.executable}", "deploy"]
    theirs = native.run("deploy", make, PIPELINE_STATE=str(native.folder / "checkout"))
    assert theirs.returncode == 0, theirs.stderr
    assert f"using {native.environment('deploy')['PREFECT_API_URL']}" in theirs.stderr
    assert registered() == before


def test_the_doctor_finds_the_teams_servers_sound(native: Native) -> None:
    done = native.run("worker-cpu", ["python", "-m", "deploy.doctor", "--json"])
    findings = json.loads(done.stdout)
    assert done.returncode == 0, [one for one in findings if one["level"] == "error"]
    said = {one["what"] for one in findings if one["level"] == "ok"}
    assert {"prefect: postgresql", "mlflow: postgresql"} <= said
    assert "PIPELINE_STORE: s3://store can be written, read and deleted from" in said
    assert {pool.partition(":")[0] for pool in said if "deployments" in pool} == {"cpu", "gpu"}
    assert not [secret for secret in SECRETS.values() if secret in done.stdout + done.stderr]


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
    login = {"MLFLOW_TRACKING_USERNAME": "reader", "MLFLOW_TRACKING_PASSWORD": SECRETS["MLFLOW_READER_PASSWORD"]}
    target = native.folder / "pulled"
    command = [sys.executable, "-c", PULL, "models:/balanced-shapes@candidate", str(target)]
    pulled = subprocess.run(command, env=consumer | login, capture_output=True, text=True, timeout=300)
    assert pulled.returncode == 0, pulled.stderr
    assert list(target.rglob("model_index.json"))


def test_a_schedule_made_by_command_runs_on_postgresql(native: Native) -> None:
    deployments = Deployments(native.environment("worker-cpu"))
    with deployments.unscheduled("ingest/shapes"):
        schedule = deployments.schedule("ingest/shapes", "--cron", "* * * * *", "--timezone", "UTC")
        first, second = deployments.completed(schedule, 2)
        assert first["expected_start_time"] < second["expected_start_time"]


def test_large_files_go_to_s3_in_parts(native: Native) -> None:
    source, target = native.folder / "big.bin", native.folder / "downloaded"
    source.write_bytes(bytes(range(256)) * 50_000)
    target.mkdir()
    parts = {"MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": "5000000", "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": "5242880"}
    done = native.run("worker-cpu", ["python", "-c", UPLOAD, str(source), str(target)], **parts)
    assert "equal True mlflow-artifacts:" in done.stdout, done.stderr
    assert "/mpu/create/" in native.log("mlflow"), "the server was asked for addresses of the parts"


def test_no_secret_is_written_anywhere(native: Native) -> None:
    """Also by runs that fail on the way to the store, and by a run that was given keys in an address."""
    for elsewhere, said in (("AWS_ENDPOINT_URL", "http://127.0.0.1:9"), ("AWS_SECRET_ACCESS_KEY", WRONG)):
        failed = native.run("worker-cpu", ["python", "-c", INGEST, "s3://store/pairs"], **{elsewhere: said})
        assert failed.returncode != 0 and "Error" in failed.stderr
    given = f"s3://key:{WRONG}@store/pairs"
    command = ["prefect", "deployment", "run", "ingest/shapes", "--param", f"source={given}"]
    assert native.run("worker-cpu", command).returncode != 0
    assert "login" in native.run("worker-cpu", ["python", "-c", LIBRARY, given]).stderr
    # A trainer that was stopped leaves its specification and its log.
    stopped = native.root(native.services["worker-cpu"]) / "state/scratch"
    started = ["--param", "limit=120", "--param", "steps=50000"]
    native.run("worker-cpu", ["prefect", "deployment", "run", "train-dpo/shapes", *started])
    deadline = time.monotonic() + 300
    while not list(stopped.glob("*/metrics.jsonl")):
        assert time.monotonic() < deadline, native.log("worker-cpu")[-3000:]
        time.sleep(1)
    native.processes["worker-cpu"].terminate()
    native.processes["worker-cpu"].wait(120)

    dump = native.run("postgres", ["pg_dumpall", "--no-role-passwords"], **native.database_login())
    assert dump.returncode == 0 and "balanced-shapes" in dump.stdout and "s3://store/pairs" in dump.stdout
    (native.folder / "databases.sql").write_text(dump.stdout)
    kinds = {path.name for path in native.folder.rglob("*")}
    assert {"worker-cpu.log", "databases.sql", "manifest.json", "report.html", "spec.json", "trainer.log"} <= kinds
    assert holders(native.folder, [*SECRETS.values(), WRONG], known=["password"]) == {}  # that is initdb's
    arguments = "\n".join(" ".join(service.command) for service in native.services.values())
    assert not any(secret in arguments for secret in SECRETS.values()), "visible to every user of the machine"


def test_services_end_when_they_are_told_to(native: Native) -> None:
    codes = native.stop()
    # 143 and -15: ended by SIGTERM, which a worker passes on to itself.
    assert {name: code for name, code in codes.items() if code not in (0, 143, -15)} == {}
    native.processes.clear()
