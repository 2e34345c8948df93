"""A small sweep through its deployment: killed, told to stop, cancelled, run again; its runs in MLflow."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from deploy.stack import running_stack
from deploy.stack.settings import ROOT
from pipeline_lib.core.store import open_dataset, verify
from tests.deploy.test_stack_integration import wait_for
from tests.integration.deployments import Deployments
from tests.integration.test_recovery import checkpoint_of_last_step, held
from tests.integration.test_train import ended, steps, wait_for_state

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(3000)]

SWEEP: dict[str, Any] = {
    "settings": {"low": {"beta": 250}, "high": {"beta": {"times": 2}, "recipe": [{"single": "clip"}]}},
    "common": {"method": "dpo", "limit": 200, "steps": 60, "train": {"checkpoint_every": 10}},
    "seeds": [0, 1],
    "reference": "low",
    "measures": ["win/quality", "win/average", "train/loss", "labels/tied"],
    "num_prompts": 16,
    "max_parallel": 2,
}
LONG = {**SWEEP, "common": {**SWEEP["common"], "steps": 50_000}}
CELLS = {f"{setting}, seed {seed}" for setting in ("low", "high") for seed in (0, 1)}


@pytest.fixture(scope="module")
def deployments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployments]:
    with running_stack(tmp_path_factory.mktemp("stack")) as env:
        found = Deployments(env)
        found.register("sweep/shapes")
        yield found


def test_killed_and_run_again_it_trains_what_is_missing_and_ends_in_the_same_bytes(
    deployments: Deployments, tmp_path: Path
) -> None:
    undisturbed = deployments.run("sweep/shapes", store=str(tmp_path / "undisturbed"), **SWEEP)
    assert undisturbed["state_type"] == "COMPLETED", deployments.logs(undisturbed)
    check_tracking(deployments)

    store = tmp_path / "disturbed"
    name = deployments.start("sweep/shapes", store=str(store), **SWEEP)
    wait_for("a model is finished", lambda: list(store.glob("model/*/manifest.json")), 600)
    flow = trainers(deployments, 1)[0][0].parent()
    assert flow is not None
    begun = [process for process, _ in trainers(deployments, 1)]
    flow.kill()
    ended(begun)
    wait_for_state(deployments, name, "CRASHED")
    before = {path: path.read_bytes() for path in store.glob("model/*/manifest.json")}
    assert 1 <= len(before) < len(CELLS), "killed in the middle"

    last = deployments.run("sweep/shapes", store=str(store), **SWEEP)
    assert last["state_type"] == "COMPLETED", deployments.logs(last)
    assert {path: path.read_bytes() for path in before} == before, "finished models were not trained again"
    assert digests(store) == digests(tmp_path / "undisturbed")
    check_tracking(deployments)
    (found,) = store.glob("sweep/*/manifest.json")
    verify(open_dataset(str(found.parent)))

    again = deployments.run("sweep/shapes", store=str(store), **SWEEP)
    assert again["state_type"] == "COMPLETED", deployments.logs(again)
    assert not [child for child in deployments.children(again) if child["state_type"] != "COMPLETED"]
    assert {path: path.read_bytes() for path in before} == before and digests(store) == digests(
        tmp_path / "undisturbed"
    )


def test_told_to_stop_and_cancelled_it_leaves_checkpoints_and_nothing_running(
    deployments: Deployments, tmp_path: Path
) -> None:
    long = {**LONG, "store": str(tmp_path / "store")}
    name = deployments.start("sweep/shapes", **long)
    begun = trainers(deployments, 2)
    flow = begun[0][0].parent()
    assert flow is not None and flow == begun[1][0].parent()
    flow.send_signal(signal.SIGTERM)
    ended([process for process, _ in begun])
    wait_for_state(deployments, name, "CRASHED")
    stopped = {run_dir: checkpoint_of_last_step(run_dir) for _, run_dir in begun}
    check_closed(deployments)

    name = deployments.start("sweep/shapes", **long)
    begun = trainers(deployments, 2, stopped)
    assert {run_dir for _, run_dir in begun} == set(stopped), "it goes on with the same models"
    cancel = [sys.executable, "-m", "prefect", "flow-run", "cancel", deployments.flow_run(name)["id"]]
    subprocess.run(cancel, cwd=ROOT, env=dict(deployments.env), check=True, capture_output=True, timeout=120)
    ended([process for process, _ in begun])
    wait_for_state(deployments, name, "CANCELLED")
    assert all(checkpoint_of_last_step(run_dir) > step for run_dir, step in stopped.items())
    check_closed(deployments)


def trainers(
    deployments: Deployments, count: int, after: dict[Path, int] | None = None
) -> list[tuple[psutil.Process, Path]]:
    """So many trainers of the stack with their run folders, once each has done some steps (beyond `after`)."""
    scratch = Path(deployments.env["PIPELINE_STATE"], "scratch")

    def look() -> list[tuple[psutil.Process, Path]]:
        found = []
        for process in psutil.process_iter(["cmdline"]):
            command: Any = process.info["cmdline"] or []
            if "pipeline_lib.training" not in command or not str(command[-1]).startswith(str(scratch)):
                continue
            run_dir = Path(command[-1]).parent
            if (run_dir / "metrics.jsonl").exists() and (steps(run_dir) or [0])[-1] > (after or {}).get(
                run_dir, 0
            ) + 3:
                found.append((process, run_dir))
        return found if len(found) >= count else []

    return list(wait_for(f"{count} trainers", look, 600))


def digests(store: Path) -> dict[str, str]:
    """Dataset -> digest, of what a sweep concludes from."""
    found = [json.loads(path.read_text()) for path in sorted(store.glob("*/*/manifest.json"))]
    kept = [one for one in found if one["stage"] in ("model", "labels", "images", "image-scores", "sweep")]
    assert Counter(one["stage"] for one in kept) == {
        "model": 4,
        "labels": 2,
        "images": 5,
        "image-scores": 5,
        "sweep": 1,
    }
    return {f"{one['stage']}/{one['key']}": one["digest"] for one in kept}


def runs(deployments: Deployments, experiment: str) -> list[Run]:
    client = MlflowClient(deployments.env["MLFLOW_TRACKING_URI"])
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


def check_tracking(deployments: Deployments) -> None:
    """One run for the sweep, one below it for each model, that leads to its training; all of them finished."""
    found = {run.info.run_name: run for run in runs(deployments, "sweep")}
    training = {run.info.run_id: run for run in runs(deployments, "dpo-shapes")}
    assert len(runs(deployments, "sweep")) == len(CELLS) + 1 and set(found) > CELLS, "found again, not made anew"
    assert {run.info.status for run in [*found.values(), *training.values()]} == {"FINISHED"}
    (title,) = set(found) - CELLS
    parent = found[title]
    assert title == "shapes: 2 settings, 2 seeds"
    assert 0 <= parent.data.metrics["high/win/quality_low"] <= parent.data.metrics["high/win/quality_high"] <= 1
    client = MlflowClient(deployments.env["MLFLOW_TRACKING_URI"])
    files = {file.path for file in client.list_artifacts(parent.info.run_id, "evaluation")}
    assert files == {"evaluation/report.html", "evaluation/report.json"}
    for name in CELLS:
        child = found[name]
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert training[child.data.tags["pipeline.training_run"]].data.params["train.seed"] == name[-1]
        assert set(child.data.metrics) == set(SWEEP["measures"])


def check_closed(deployments: Deployments) -> None:
    """No run of MLflow or Prefect claims to be at work; those that were stopped say so."""
    wait_for("nothing is running", lambda: not held(deployments), 120)
    every = [*runs(deployments, "sweep"), *runs(deployments, "dpo-shapes")]
    assert "RUNNING" not in {run.info.status for run in every}
    assert sum(run.info.status == "KILLED" for run in every) == 1 + 2 + 2, "the sweep, two cells, two trainings"
