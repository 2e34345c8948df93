"""The main job at reduced size, through a real Prefect server, worker and MLflow server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from prefect.settings import PREFECT_API_URL, temporary_settings

from deploy.stack.settings import ROOT
from flows.evaluate import evaluate
from flows.register import register
from pipeline_lib.core.lineage import lineage
from pipeline_lib.core.store import open_dataset, verify
from pipeline_lib.presets import ALL_SCORERS
from tasks.evaluation_runs import EVALUATION_TAG
from tasks.settings import store_url
from tasks.tracking import KEY_TAG, PARENT
from tests import planted
from tests.integration.deployments import SMALL, Deployments

STAGES = ["ingest", "score", "label", "encode", "train", "evaluate", "register"]

CANDIDATE = "models:/balanced-shapes@candidate"

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

LOAD_AND_GENERATE = """
import sys, mlflow
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained(mlflow.artifacts.download_artifacts(sys.argv[1], dst_path=sys.argv[2]))
image = pipe("a large red circle on a white background", num_inference_steps=2).images[0]
print("generated", image.size)
"""


def test_align_ends_in_a_registered_champion_and_a_second_run_skips_and_leaves_a_withdrawal(
    deployments: Deployments, aligned: dict[str, Any], tmp_path: Path
) -> None:
    stages = deployments.stages(aligned)
    assert list(stages) == STAGES
    assert {row["status"] for row in stages.values()} == {"ran"}
    names = {child_flow(deployments, child) for child in deployments.children(aligned)}
    assert names == {"ingest", "score", "label", "encode", "train-balanced", "evaluate", "register"}
    called = {child["name"] for child in deployments.children(aligned)}
    assert {re.sub(r" shapes [0-9a-f]{6}$", "", name) for name in called} == names, called
    for stage in ("ingest", "label", "encode", "train", "evaluate"):
        verify(open_dataset(stages[stage]["uri"]))

    check_registry(deployments, stages)

    client = MlflowClient(deployments.env["MLFLOW_TRACKING_URI"])
    client.delete_registered_model_alias("balanced-shapes", "champion")
    again = deployments.run("align/shapes", **SMALL)
    assert again["state_type"] == "COMPLETED", deployments.logs(again)
    repeated = deployments.stages(again)
    assert {repeated[s]["status"] for s in STAGES} == {"skipped"}
    assert {s: row["digest"] for s, row in repeated.items()} == {s: row["digest"] for s, row in stages.items()}
    assert repeated["register"]["uri"] == stages["register"]["uri"], "registering again must not add a version"
    assert "champion" not in client.get_registered_model("balanced-shapes").aliases, "people withdrew it"
    (registering,) = [run for run in deployments.children(again) if run["name"].startswith("register ")]
    assert "nothing is built" in deployments.logs(registering)

    loaded = subprocess.run(
        [sys.executable, "-c", LOAD_AND_GENERATE, "models:/balanced-shapes@candidate", str(tmp_path)],
        env=dict(deployments.env),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "generated (32, 32)" in loaded.stdout, loaded.stderr


def test_prefect_and_mlflow_lead_to_each_other(deployments: Deployments, aligned: dict[str, Any]) -> None:
    client = MlflowClient(deployments.env["MLFLOW_TRACKING_URI"])
    version = client.get_model_version_by_alias("balanced-shapes", "candidate")
    logged = client.get_run(client.get_logged_model(version.source.removeprefix("models:/")).source_run_id)
    wanted = {"flow_runs": {"id": {"any_": [logged.data.tags["prefect.flow_run_id"]]}}}
    (training,) = deployments.post("flow_runs/filter", wanted)  # the last one that asked for this model
    assert re.fullmatch("train-balanced shapes [0-9a-f]{6}", training["name"])
    page = f"{deployments.env['PREFECT_API_URL'].removesuffix('/api')}/runs/flow-run/{training['id']}"
    assert logged.data.tags["prefect.flow_run_name"] == training["name"]
    assert logged.data.tags["prefect.deployment"] == "align/shapes"
    assert f"[{training['name']}]({page})" in logged.data.tags["mlflow.note.content"]
    assert "(" + version.tags["prefect.flow_run_url"] + ")" in version.description
    mlflow = deployments.env["MLFLOW_TRACKING_URI"]
    assert link(deployments, training, "mlflow-run") == (
        f"{mlflow}/#/experiments/{logged.info.experiment_id}/runs/{logged.info.run_id}"
    )
    (registering,) = [run for run in deployments.children(aligned) if run["name"].startswith("register ")]
    assert link(deployments, registering, "mlflow-version").endswith(
        f"#/models/balanced-shapes/versions/{version.version}"
    )
    lines = Path(deployments.env["PIPELINE_STATE"], "logs", "worker.log").read_text()
    model = deployments.stages(aligned)["train"]["uri"].rpartition("/model/")[2]
    assert re.search(rf"\| {training['name']} \| train-\w+ - .*model/{model}", lines)


@pytest.mark.usefixtures("aligned")
def test_no_secret_of_the_environment_is_written_anywhere(deployments: Deployments) -> None:
    assert planted.LOCAL.items() <= deployments.env.items()
    state = Path(deployments.env["PIPELINE_STATE"])
    kinds = {path.name for path in state.rglob("*")}
    assert {"worker.log", "prefect.db", "mlflow.db", "manifest.json", "report.html", "model_index.json"} <= kinds
    assert planted.holders(state, planted.LOCAL.values()) == {}


def link(deployments: Deployments, run: dict[str, Any], key: str) -> str:
    """Where a link artifact of a flow run leads."""
    query = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}, "key": {"any_": [key]}}}
    (artifact,) = deployments.post("artifacts/filter", query)
    found = re.search(r"\((\S+)\)", artifact["data"])
    assert found
    return found[1]


@pytest.mark.usefixtures("aligned")
def test_a_registered_model_is_the_base_of_another_run_named_by_its_loss(deployments: Deployments) -> None:
    logged = trained_by_ipo(deployments)
    client = MlflowClient(deployments.env["MLFLOW_TRACKING_URI"])
    version = client.get_model_version_by_alias("balanced-shapes", "candidate").version
    assert logged.data.params["model.repo"] == f"balanced-shapes/{version}"
    assert logged.data.params["train.method"] == "ipo"
    assert [m.step for m in client.get_metric_history(logged.info.run_id, "train/loss")] == [1, 2]


@pytest.mark.slow
@pytest.mark.usefixtures("aligned")
def test_what_ipo_trained_is_evaluated_and_registered_under_its_name(
    deployments: Deployments, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = trained_by_ipo(deployments)
    for name in ("PIPELINE_STATE", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, deployments.env[name])
    model = f"{store_url(None)}/model/{logged.data.tags[KEY_TAG]}"
    (pairs,) = [found.uri for found in lineage([open_dataset(model)]) if found.stage == "ingest"]
    with temporary_settings({PREFECT_API_URL: deployments.env["PREFECT_API_URL"]}):
        judged = evaluate("shapes", "dpo", num_prompts=4, steps=2, model=model, pairs=pairs, base=CANDIDATE)
        assert register("shapes", "dpo", model, judged.uri, base=CANDIDATE) == "models:/ipo-shapes/1"
    client = MlflowClient(deployments.env["MLFLOW_TRACKING_URI"])
    (nested,) = client.search_runs([logged.info.experiment_id], f"tags.`{EVALUATION_TAG}` != ''")
    assert nested.data.tags[PARENT] == logged.info.run_id


def trained_by_ipo(deployments: Deployments) -> Run:
    """The MLflow run of `train-dpo` with another loss."""
    given = {"base": CANDIDATE, "limit": SMALL["limit"], "steps": 2, "train": {"method": "ipo"}}
    run = deployments.run("train-dpo/shapes", **given)
    assert run["state_type"] == "COMPLETED", deployments.logs(run)
    client = MlflowClient(deployments.env["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("ipo-shapes")
    assert experiment is not None
    (logged,) = client.search_runs([experiment.experiment_id], f"tags.`{KEY_TAG}` != ''")
    return logged


def child_flow(deployments: Deployments, child: dict[str, object]) -> str:
    (flow,) = deployments.post("flows/filter", {"flows": {"id": {"any_": [child["flow_id"]]}}})
    return str(flow["name"])


def check_registry(deployments: Deployments, stages: dict[str, dict[str, object]]) -> None:
    client = MlflowClient(deployments.env["MLFLOW_TRACKING_URI"])
    version = client.get_model_version_by_alias("balanced-shapes", "candidate")
    assert f"models:/balanced-shapes/{version.version}" == stages["register"]["uri"]
    assert version.tags["pipeline.model_digest"] == stages["train"]["digest"]
    aliases = client.get_registered_model("balanced-shapes").aliases
    assert str(aliases["champion"]) == str(version.version) and version.tags["pipeline.gate"] == "passed"
    assert "the gate against base: average win rate" in version.tags["pipeline.gate_reason"]
    logged = client.get_logged_model(version.source.removeprefix("models:/"))
    assert {f"eval/win_rate/{name}" for name in (*ALL_SCORERS, "true")} <= {m.key for m in logged.metrics}
    run = client.get_run(logged.source_run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.method"] == "balanced-dpo"
    assert [m.step for m in client.get_metric_history(run.info.run_id, "train/loss")][-1] == SMALL["steps"]
    digests = {
        tag.value for source in run.inputs.dataset_inputs for tag in source.tags if tag.key == "pipeline.digest"
    }
    assert {stages[s]["digest"] for s in ("ingest", "label", "encode", "evaluate")} <= digests
    assert "evaluation/report.html" in [a.path for a in client.list_artifacts(run.info.run_id, "evaluation")]


def test_an_unreachable_hub_fails_with_one_clear_error(deployments: Deployments) -> None:
    run = deployments.run("train-balanced/sdxl")
    assert run["state_type"] == "FAILED"
    message = run["state"]["message"]
    assert "Error" in message and "liuhuohuo2/pick-a-pic-v2" in message and "->" in message, message
    assert len(message) < 1500


@pytest.mark.parametrize(
    ("deployment", "wrong", "choice"),
    [("align/shapes", 'method="balnced"', "balanced"), ("score/shapes", 'runner="rays"', "thread")],
)
def test_wrong_parameters_are_refused_at_creation(
    deployments: Deployments, deployment: str, wrong: str, choice: str
) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "prefect", "deployment", "run", deployment, "--param", wrong],
        env=dict(deployments.env) | {"COLUMNS": "500"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode != 0
    said = result.stdout + result.stderr
    assert wrong.partition("=")[0] in said and choice in said, said


def test_real_pairs_are_ingested_scored_and_labelled(deployments: Deployments) -> None:
    data = Path(os.environ.get("PREFERENCE_DATA", ROOT.parent / "shared" / "data")) / "mj-bench-objects"
    if not data.is_dir():
        pytest.skip(f"{data} is absent: set PREFERENCE_DATA to the folder with the real pairs")
    run = deployments.run("label/shapes", source=str(data))
    assert run["state_type"] == "COMPLETED", deployments.logs(run)
    children = deployments.children(run)
    assert {child_flow(deployments, child) for child in children} == {"ingest", "score"}
    query = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}, "key": {"any_": ["label-dataset"]}}}
    (artifact,) = deployments.post("artifacts/filter", query)
    labels = open_dataset(artifact["data"].splitlines()[1].strip("`"))
    assert labels.scan().collect().height == 100
    assert labels.counts["kept"] == 100
