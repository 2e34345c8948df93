"""Every link that a finished `align/shapes` left in Prefect and in MLflow."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Mapping
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.integration.deployments import Deployments

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

LINK = re.compile(r"\]\(([^)]*)\)")
"""Where a link in Markdown leads."""
ADDRESS = re.compile(r"[a-z0-9+]+://[^\s)\"'`,}]+")


def test_every_link_of_a_finished_align_opens(deployments: Deployments, aligned: dict[str, Any]) -> None:
    texts = {**in_prefect(deployments, aligned), **in_mlflow(deployments)}
    assert not [where for where, text in texts.items() if "file://" in text]
    found = {where: LINK.findall(text) for where, text in texts.items()}
    assert {"evaluate report", "evaluate mlflow-run", "train-balanced mlflow-run", "register mlflow-version"} <= {
        where for where, pages in found.items() if pages
    }
    pages = {page for here in found.values() for page in here} | addresses(texts)
    assert pages
    for page in pages:
        request = urllib.request.Request(page, headers={"Accept": "text/html"})  # as browsers ask
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200 and "text/html" in answer.headers["Content-Type"], page
        opens(deployments, page)


def in_prefect(deployments: Deployments, aligned: Mapping[str, Any]) -> dict[str, str]:
    """`<flow> <key of the artifact>` -> all that it says, of the run and those below it."""
    runs = [dict(aligned), *deployments.children(aligned)]
    found = {}
    for run in runs:
        query = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
        for artifact in deployments.post("artifacts/filter", query):
            flow = run["name"].partition(" ")[0]
            found[f"{flow} {artifact['key']}"] = f"{artifact['data']} {artifact['description']}"
    return found


def in_mlflow(deployments: Deployments) -> dict[str, str]:
    """Notes and tags of the runs and versions of `balanced-shapes`."""
    client = MlflowClient(deployments.env["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("balanced-shapes")
    assert experiment is not None
    found = {
        f"run {run.info.run_name}": json.dumps(run.data.tags) for run in client.search_runs([experiment.experiment_id])
    }
    for version in client.search_model_versions("name = 'balanced-shapes'"):
        found[f"version {version.version}"] = f"{version.description} {json.dumps(version.tags)}"
    return found


def addresses(texts: Mapping[str, str]) -> set[str]:
    """Web addresses that are tags' values."""
    return {page for text in texts.values() for page in ADDRESS.findall(text) if page.startswith("http")}


def opens(deployments: Deployments, page: str) -> None:
    """What the page is about is there; the page itself is the same program for all."""
    api, mlflow = deployments.env["PREFECT_API_URL"], deployments.env["MLFLOW_TRACKING_URI"]
    if page.startswith(f"{mlflow}/#/"):
        client = MlflowClient(mlflow)
        kind, *parts = page.removeprefix(f"{mlflow}/#/").split("/")
        if kind == "models":
            assert client.get_model_version(parts[0], parts[2]).status == "READY"
            return
        run = client.get_run(parts[2])
        assert run.info.experiment_id == parts[0]
        if parts[3:]:
            folder, name = "/".join(parts[4:-1]), "/".join(parts[4:])
            assert name in [file.path for file in client.list_artifacts(parts[2], folder)]
    else:
        run_id = page.removeprefix(f"{api.removesuffix('/api')}/runs/flow-run/")
        with urllib.request.urlopen(f"{api}/flow_runs/{run_id}", timeout=60) as answer:
            assert json.load(answer)["id"] == run_id
