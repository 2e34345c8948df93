"""Task runs, subflow runs and MLflow runs that claim to run although the flow run that they belong to is over."""

from collections.abc import Iterator

from deploy.doctor.findings import Finding, ok, warning
from deploy.doctor.surroundings import Surroundings
from deploy.recovery import SETTLED_S, Servers, open_runs, open_tracking_runs

CHECK = "left open"


def leftovers(surroundings: Surroundings, settled_s: float = SETTLED_S) -> Iterator[Finding]:
    """A line for each; needs both servers. What has ended less than `settled_s` ago may still report it."""
    prefect, mlflow = surroundings.prefect, surroundings.mlflow
    if not prefect or not mlflow:
        return
    servers = Servers(prefect.url, mlflow.url, prefect.headers, mlflow.headers)
    found = [*open_runs(servers, settled_s), *open_tracking_runs(servers, settled_s)]
    for run in found:
        remedy = "`python -m deploy.recovery` closes it (the local stack and compose run it all the time)"
        yield warning(CHECK, f"{run} is RUNNING, but its flow run is {run.ended}", remedy)
    if not found:
        yield ok(CHECK, "no run outlives its flow run")
