"""How a caller without Prefect's and MLflow's clients logs in to their servers: the headers that these would send."""

import base64
import os
from collections.abc import Mapping


def prefect_headers(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """By PREFECT_API_AUTH_STRING (`name:password`), else PREFECT_API_KEY; empty without either."""
    if login := variables.get("PREFECT_API_AUTH_STRING", ""):
        return {"Authorization": _basic(login)}
    key = variables.get("PREFECT_API_KEY", "")
    return {"Authorization": f"Bearer {key}"} if key else {}


def mlflow_headers(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """By MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, else MLFLOW_TRACKING_TOKEN; empty without."""
    if name := variables.get("MLFLOW_TRACKING_USERNAME", ""):
        return {"Authorization": _basic(f"{name}:{variables.get('MLFLOW_TRACKING_PASSWORD', '')}")}
    token = variables.get("MLFLOW_TRACKING_TOKEN", "")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _basic(login: str) -> str:
    return f"Basic {base64.b64encode(login.encode()).decode()}"
