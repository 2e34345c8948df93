"""What the checks look at: the environment, and the two servers as far as they can be used."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.doctor.findings import Finding
from deploy.doctor.servers import Server, reach_mlflow, reach_prefect
from deploy.stack import current_settings, process_environment
from deploy.stack.control import recorded_state
from deploy.stack.settings import state_folder
from pipeline_lib.core.store import absolute


@dataclass(frozen=True)
class Surroundings:
    """`prefect` and `mlflow` are None where they cannot be used; `findings` says why."""

    variables: Mapping[str, str]
    preset: str = "shapes"
    prefect: Server | None = None
    mlflow: Server | None = None
    findings: tuple[Finding, ...] = field(default=())

    @property
    def state(self) -> Path:
        """The folder with servers, datasets, checkpoints of this machine."""
        return state_folder(self.variables)

    @property
    def store(self) -> str:
        """URL or absolute path of the dataset store."""
        return absolute(self.variables.get("PIPELINE_STORE") or str(self.state / "store"))


def look_around(variables: Mapping[str, str] = os.environ, preset: str = "shapes") -> Surroundings:
    """Knock at both servers: those that `variables` name, or the local stack where they name no Prefect server."""
    if not variables.get("PREFECT_API_URL") and recorded_state(settings := current_settings(variables)):
        variables = process_environment(settings, variables)
    prefect, about_prefect = reach_prefect(variables)
    mlflow, about_mlflow = reach_mlflow(variables)
    return Surroundings(variables, preset, prefect, mlflow, (about_prefect, about_mlflow))
