"""Whose something is in MLflow: what somebody else registered is not used before somebody vouches for it.

Tags and the name of a run's user are what clients say. MLflow's permissions are what its server knows: who creates a
model or an experiment gets MANAGE on it, and nobody else may add versions or files. Where the server asks for no
login, all is everybody's.
"""

from __future__ import annotations

import os

import mlflow
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from pipeline_lib.core.errors import HubError
from tasks.tracking import client

PERMISSIONS = "/api/3.0/mlflow/users/current/permissions"
NONE = ("DENY", "NO_PERMISSIONS")


def check_owner(uri: str) -> None:
    """Check that this process's user made what a URI of MLflow is about, or was given a permission for it.

    Args:
        uri: `models:/<name>...`, `models:/<id of a logged model>`, `runs:/<id>...` or
            `mlflow-artifacts:/<experiment>...`.

    Raises:
        HubError: it is another user's.
        MlflowException, OSError: there is none, or the server does not answer.
    """
    server = client()
    address = mlflow.get_tracking_uri()
    if not address.startswith(("http://", "https://")):
        return
    answer = http_request(get_default_host_creds(address), PERMISSIONS, "GET", raise_on_status=False)
    if answer.status_code == 404:  # no logins
        return
    answer.raise_for_status()
    given = answer.json()
    kind, name = _subject(server, uri)
    if given["is_admin"] or any(
        row["resource_type"] == kind and row["resource_pattern"] in (name, "*") and row["permission"] not in NONE
        for row in given["permissions"]
    ):
        return
    user = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    raise HubError(
        f"{uri} is another user's than {user!r} in {address}: somebody else made the {kind.replace('_', ' ')} "
        f"{name!r}, and nothing says that its files can be trusted.",
        f"Have an administrator of MLflow look at it and give {user!r} READ on it, or delete or rename it; or name "
        "another model.",
    )


def _subject(server: mlflow.MlflowClient, uri: str) -> tuple[str, str]:
    """The type of resource, as MLflow's permissions call it, and its name or id."""
    scheme, _, path = uri.partition(":")
    first = path.strip("/").partition("/")[0].partition("@")[0]
    if scheme == "runs":
        return "experiment", str(server.get_run(first).info.experiment_id)
    if scheme == "mlflow-artifacts":
        return "experiment", first
    if first.startswith("m-") and path.strip("/") == first:
        return "experiment", str(server.get_logged_model(first).experiment_id)
    return "registered_model", first
