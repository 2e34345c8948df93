"""Addresses that lead a browser from MLflow to Prefect and back."""

from __future__ import annotations

import os

from prefect.artifacts import create_link_artifact, create_markdown_artifact
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
    return f"Prefect: {markdown(tags['prefect.flow_run_name'], tags['prefect.flow_run_url'])}{by}"


def mlflow_url(path: str) -> str:
    """The page `path` of MLflow's UI, such as `experiments/1/runs/<id>`."""
    server = os.environ.get(MLFLOW_UI) or os.environ.get("MLFLOW_TRACKING_URI", "")
    return f"{server.rstrip('/')}/#/{path}"


def version_url(uri: str) -> str:
    """The page of a registered version, `models:/<name>/<version>`."""
    name, _, version = uri.removeprefix("models:/").rpartition("/")
    return mlflow_url(f"models/{name}/versions/{version}")


def run_url(experiment_id: str, run_id: str, file: str = "") -> str:
    """The page of an MLflow run, or of one of its files."""
    return mlflow_url(f"experiments/{experiment_id}/runs/{run_id}" + (f"/artifacts/{file}" if file else ""))


def markdown(text: str, page: str) -> str:
    """A link in Markdown; the text alone where a browser cannot open `page` (a server without an address, a file)."""
    return f"[{text}]({page})" if page.startswith(("http://", "https://")) else text


def link(page: str, text: str, key: str, description: str | None = None) -> None:
    """Publish `text` as the flow run's artifact `key`: a link where a browser can open `page`."""
    if markdown(text, page) == text:
        create_markdown_artifact(text, key=key, description=description)
    else:
        create_link_artifact(page, text, key=key, description=description)
