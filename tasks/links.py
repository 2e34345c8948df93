"""Addresses that lead a browser from MLflow to Prefect and back."""

from __future__ import annotations

import os

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.runtime import deployment
from prefect.utilities.urls import url_for

MLFLOW_UI = "PIPELINE_MLFLOW_UI_URL"
"""What browsers call the MLflow server, where that is not MLFLOW_TRACKING_URI."""


def prefect_tags() -> dict[str, str]:
    """Tags by which an MLflow run names the flow run that writes it, its address and its deployment."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None:
        return {}
    tags = {"prefect.flow_run_id": str(run.id), "prefect.flow_run_name": run.name}
    tags["prefect.flow_run_url"] = url_for("flow-run", obj_id=run.id) or ""
    if identifier := deployment.id:  # the outermost flow's; a flow that was called from Python has none
        with get_client(sync_client=True) as client:
            found = client.read_deployment(identifier)
            tags["prefect.deployment"] = f"{client.read_flow(found.flow_id).name}/{found.name}"
    return tags


def prefect_note(tags: dict[str, str]) -> str:
    """One line of Markdown that leads to the flow run of `prefect_tags`; empty outside flows."""
    if not tags:
        return ""
    by = f", deployment {tags['prefect.deployment']}" if "prefect.deployment" in tags else ""
    return f"Prefect: [{tags['prefect.flow_run_name']}]({tags['prefect.flow_run_url']}){by}"


def mlflow_url(path: str) -> str:
    """The page `path` of MLflow's UI, such as `experiments/1/runs/<id>`."""
    server = os.environ.get(MLFLOW_UI) or os.environ.get("MLFLOW_TRACKING_URI", "")
    return f"{server.rstrip('/')}/#/{path}"


def version_url(uri: str) -> str:
    """The page of a registered version, `models:/<name>/<version>`."""
    name, _, version = uri.removeprefix("models:/").rpartition("/")
    return mlflow_url(f"models/{name}/versions/{version}")
