"""What can be the name of a base model; without torch, so that a flow can look before it does anything."""

from __future__ import annotations

import re

from pipeline_lib.core.errors import ConfigError, excerpt
from pipeline_lib.core.urls import is_path, local_path

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
"""`<org>/<name>[@<revision>]` on the hub."""
MLFLOW_SCHEMES = ("models:/", "runs:/", "mlflow-artifacts:/")
"""Of models that MLflow holds: flows resolve them, as this library knows no MLflow."""


def check_base_name(name: str) -> None:
    """Raise ConfigError for what is neither a folder of this machine nor the name of a repository."""
    if not (local_path(name).is_dir() or (REPOSITORY.fullmatch(name) and not is_path(name))):
        raise ConfigError(
            f"{excerpt(name)} names no base model, and there is no such folder.",
            "Write <org>/<name>[@<revision>], a folder, or an MLflow model URI such as models:/<name>@<alias>.",
        )
