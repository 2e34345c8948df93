"""`make claims` against a server that answers as Prefect does: what is run, kept, printed, cancelled and run again."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.server.schemas.filters import ArtifactFilter, FlowRunFilter

from deploy import claim_runs, flow_runs
from deploy.stack import ROOT, StackError, StackSettings
from flows.paint import paint_and_judge
from pipeline_lib.claims import results
from pipeline_lib.core import store
from tests.pipeline_lib.claims.plain import lay_out, outcomes, put_claim

REPORT = {"preset": "shapes", "image_seeds": [0], "prompts": {"name": "shapes-test", "used": 64}}
PAINTING = str(UUID(int=7))
PROGRESS = "sweep: 3 of 9 models, 0.1 models/s, 60 s left"


@dataclass
class Prefect:
    """The part of Prefect's server that runs of a sweep need. A run goes through `course`, one state per look."""

    deployments: set[str]
    dataset: str = ""
    course: tuple[str, ...] = ("SCHEDULED", "RUNNING", "COMPLETED")
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    left: dict[str, list[str]] = field(default_factory=dict)
    started: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    outages: int = 0
    port: int = 0

    def answer(self, path: str, asked: dict[str, Any]) -> tuple[int, Any]:
        """Status and answer to one request; a GET asks for nothing."""
        match path.removeprefix("/api/").split("/"):
            case ["deployments", "name", *name]:
                found = "/".join(name)
                return (200, {"id": found}) if found in self.deployments else (404, {"detail": "not found"})
            case ["deployments", *name, "create_flow_run"]:
                if "max_parallel" in asked["parameters"] and asked["parameters"]["max_parallel"] < 1:
                    return 409, {"detail": "max_parallel"}
                self.started.append(("/".join(name), asked["parameters"]))
                return 201, self.add(asked["name"], self.course)
            case ["flow_runs", "filter"] if "flows" in asked:
                FlowRunFilter.model_validate(asked["flow_runs"])
                assert asked["flows"] == {"name": {"any_": [paint_and_judge.name]}}
                return 200, [{"id": PAINTING}]
            case ["flow_runs", "filter"]:
                FlowRunFilter.model_validate(asked["flow_runs"])
                like = asked["flow_runs"]["name"]["like_"]
                return 200, [self.look(run) for run in self.runs.values() if like in run["name"]]
            case ["flow_runs", run, "set_state"]:
                assert asked["state"] == {"type": "CANCELLING"}
                self.left[run] = ["CANCELLING", "CANCELLED"]
                return 201, {"status": "ACCEPT"}
            case ["flow_runs", run]:
                if self.outages:
                    self.outages -= 1
                    return 500, {}
                return 200, self.look(self.runs[run])
            case ["artifacts", "filter"]:
                ArtifactFilter.model_validate(asked["artifacts"])
                if "type" in asked["artifacts"]:
                    assert PAINTING in asked["artifacts"]["flow_run_id"]["any_"]
                    return 200, [{"description": PROGRESS}]
                data = f"## sweep (ran, 3.0 s)\n`{self.dataset}`\n\ndigest `abc`, 3 files"
                return 200, [{"data": data}] if self.dataset else []
        raise AssertionError(path)

    def add(self, name: str, course: tuple[str, ...]) -> dict[str, Any]:
        run = {
            "id": str(UUID(int=len(self.runs))),
            "name": name,
            "state": {"message": "as it was"},
            "total_run_time": 60.0,
        }
        self.runs[run["id"]] = run
        self.left[run["id"]] = list(course)
        return self.look(run)

    def look(self, run: dict[str, Any]) -> dict[str, Any]:
        left = self.left[run["id"]]
        run["state_type"] = left.pop(0) if len(left) > 1 else left[0]
        return run


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Prefect]:
    found = Prefect({"sweep/flips-shapes", "sweep/other-shapes", "sweep/dpo-shapes"})

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def do_GET(self) -> None:
            self.reply({})

        def reply(self, asked: dict[str, Any]) -> None:
            status, answer = found.answer(self.path, asked)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing."""

    monkeypatch.setattr(flow_runs, "POLL_S", 0.01)
    monkeypatch.setattr(flow_runs, "TELL_S", 0.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found.port = server.server_port
        settings = StackSettings(tmp_path / "state", found.port, found.port)
        monkeypatch.setattr(claim_runs, "current_settings", lambda: settings)
        yield found
        server.shutdown()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect: Prefect) -> Path:
    """A project with the claim `flips`, whose sweep is in a store."""
    root = tmp_path / "project"
    lay_out(root, monkeypatch)
    writer = store.writer(str(tmp_path / "store"), "sweep", 1, {"x": 1})
    shards = [
        writer.write_table("outcomes.parquet", outcomes().to_arrow()),
        writer.write_bytes("report.json", json.dumps(REPORT).encode()),
    ]
    prefect.dataset = writer.commit(shards, {}).uri
    # The signal handler that `main` sets is the test runner's own again.
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return root


def test_a_claim_is_run_kept_and_written(project: Path, prefect: Prefect, capsys: pytest.CaptureFixture[str]) -> None:
    assert claim_runs.main(["--claim", "flips", "--max-parallel", "2"]) == 0
    assert prefect.started == [("sweep/flips-shapes", {"max_parallel": 2})]
    (name,) = [run["name"] for run in prefect.runs.values()]
    assert name.startswith("claim flips-shapes ")
    found = results.read(project / "pipeline_lib" / "claims" / "outcomes" / "flips-shapes")
    assert found.machine.seconds == 60.0
    assert found.outcomes.height == 2 * 3 * 64 * 3
    text = (project / "CLAIMS.md").read_text()
    assert "1 reproduced, 1 undecided" in text
    said = capsys.readouterr().out
    assert PROGRESS in said
    assert "flips        shapes            9     1.0  1 reproduced, 1 undecided" in said
    assert "Wrote CLAIMS.md" in said


def test_a_second_time_nothing_changes(project: Path, prefect: Prefect, capsys: pytest.CaptureFixture[str]) -> None:
    assert claim_runs.main([]) == 0
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    assert claim_runs.main([]) == 0
    assert len(prefect.started) == 2, "the stages find out what is finished"
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before
    said = capsys.readouterr().out
    assert "flips        shapes            9     2.0  1" in said, "the time of both runs here, not the record's"


def test_time_is_that_of_all_runs_and_a_live_one_is_awaited(
    project: Path, prefect: Prefect, capsys: pytest.CaptureFixture[str]
) -> None:
    prefect.add("claim flips-shapes cancelled", ("CANCELLED",))
    prefect.add("claim flips-shapes alive", ("RUNNING", "RUNNING", "RUNNING", "CANCELLED"))
    prefect.add("claim flips-shapes-2 else", ("RUNNING",))
    assert claim_runs.main(["--claim", "flips"]) == 0
    assert "claim flips-shapes alive is running already: waiting for it" in capsys.readouterr().out
    assert results.read(project / "pipeline_lib" / "claims" / "outcomes" / "flips-shapes").machine.seconds == 180.0


def test_a_failed_claim_does_not_stop_the_others(
    project: Path, prefect: Prefect, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project / "pipeline_lib" / "presets" / "claims" / "flips.yaml"
    path.with_name("a-first.yaml").write_text(path.read_text())
    assert claim_runs.main([]) == 1
    said = capsys.readouterr()
    assert "There is no deployment sweep/a-first-shapes" in said.err and "make deploy" in said.err
    assert "Failed: a-first" in said.err
    assert "1 reproduced, 1 undecided" in said.out
    assert "2 not run" in (project / "CLAIMS.md").read_text()


@pytest.mark.parametrize(
    ("course", "dataset", "problem"),
    [
        (("RUNNING", "FAILED"), True, "ended failed: as it was"),
        (("RUNNING", "CRASHED"), True, "ended crashed"),
        (("RUNNING", "COMPLETED"), False, "left no artifact sweep-dataset"),
    ],
)
def test_a_run_without_an_answer_is_said(
    project: Path,
    prefect: Prefect,
    capsys: pytest.CaptureFixture[str],
    course: tuple[str, ...],
    dataset: bool,
    problem: str,
) -> None:
    prefect.course, prefect.dataset = course, prefect.dataset if dataset else ""
    assert claim_runs.main(["--claim", "flips"]) == 1
    assert problem in capsys.readouterr().err
    assert not list((project / "pipeline_lib" / "claims" / "outcomes").iterdir())


def test_parameters_that_the_server_refuses_are_said(
    project: Path, prefect: Prefect, capsys: pytest.CaptureFixture[str]
) -> None:
    assert claim_runs.main(["--claim", "flips", "--max-parallel", "0"]) == 1
    assert "was refused" in capsys.readouterr().err


def test_an_unknown_claim_runs_nothing(project: Path, prefect: Prefect, capsys: pytest.CaptureFixture[str]) -> None:
    put_claim(project)
    assert claim_runs.main(["--claim", "flips", "--claim", "flip"]) == 1
    assert "Did you mean 'flips'" in capsys.readouterr().err
    assert not prefect.started


def test_a_claim_of_other_presets_is_left_out_or_refused(
    project: Path, prefect: Prefect, capsys: pytest.CaptureFixture[str]
) -> None:
    put_claim(project, presets=["sd15"])
    assert claim_runs.main([]) == 0
    assert claim_runs.main(["--claim", "flips"]) == 1
    assert "cannot be tested on shapes" in capsys.readouterr().err
    assert not prefect.started


def test_a_server_that_is_away_for_a_while_is_borne_with(project: Path, prefect: Prefect) -> None:
    prefect.outages = 3
    assert claim_runs.main(["--claim", "flips"]) == 0
    assert not prefect.outages


def test_a_server_that_stays_away_is_an_error(
    project: Path, prefect: Prefect, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prefect.outages = 10**9
    monkeypatch.setattr(flow_runs, "PATIENCE_S", 0.05)
    assert claim_runs.main(["--claim", "flips"]) == 1
    assert "500" in capsys.readouterr().err


def test_without_a_dataset_the_run_is_named(prefect: Prefect, tmp_path: Path) -> None:
    settings = StackSettings(tmp_path, prefect.port, prefect.port)
    run = flow_runs.FlowRun(str(UUID(int=0)), "claim x", "COMPLETED", "", 0.0)
    with pytest.raises(StackError, match="claim x left no artifact sweep-dataset"):
        flow_runs.dataset_of(settings, run, "sweep")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_cancels_the_run(prefect: Prefect, tmp_path: Path, number: signal.Signals) -> None:
    """In a process of its own, with a claim of the project; nothing is kept."""
    prefect.course = ("RUNNING",)
    environment = {
        **os.environ,
        "PIPELINE_STATE": str(tmp_path / "none"),
        "PIPELINE_PREFECT_PORT": str(prefect.port),
        "PIPELINE_MLFLOW_PORT": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "deploy.claim_runs", "--claim", "dpo"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        for line in process.stdout:
            if line.strip() == "running":
                break
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "cancelling claim dpo-shapes " in said
    assert "`make claims` continues where it stopped" in said
    (run,) = prefect.runs.values()
    assert run["state_type"] == "CANCELLED"


def test_a_cancelled_run_that_does_not_end_is_left_to_the_worker(
    prefect: Prefect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = StackSettings(tmp_path, prefect.port, prefect.port)
    run = flow_runs.start(settings, "sweep/dpo-shapes", "claim dpo-shapes x", {})
    monkeypatch.setattr(claim_runs, "GIVE_UP_S", 0.0)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(claim_runs, "follow", interrupt)
    with pytest.raises(KeyboardInterrupt):
        claim_runs._follow(settings, run)
    assert prefect.left[run.id][-1] == "CANCELLED"
