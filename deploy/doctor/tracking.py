"""MLflow runs that claim to run although the flow run that they belong to is over."""

from collections.abc import Iterator
from typing import Any

from deploy.doctor.findings import Finding, ok, warning
from deploy.doctor.runs import over
from deploy.doctor.servers import Server
from deploy.doctor.surroundings import Surroundings

CHECK = "mlflow runs"
TAG = "prefect.flow_run_id"
"""tasks/train.py sets it."""
STATUS = {"COMPLETED": "FINISHED", "FAILED": "FAILED", "CRASHED": "FAILED", "CANCELLED": "KILLED"}


def mlflow_runs(surroundings: Surroundings) -> Iterator[Finding]:
    """A line for each; needs both servers."""
    if not surroundings.prefect or not surroundings.mlflow:
        return
    running = running_runs(surroundings.mlflow)
    of_flow = {run: tags[TAG] for run, tags in running.items() if TAG in tags}
    ended = over(surroundings.prefect, sorted(set(of_flow.values())))
    wrong = [run for run, flow in of_flow.items() if flow in ended]
    for run in wrong:
        kind = ended[of_flow[run]]
        name = running[run].get("mlflow.runName", run)
        close = f"from mlflow import MlflowClient; MlflowClient().set_terminated('{run}', '{STATUS[kind]}')"
        yield warning(CHECK, f"{name} is RUNNING, but its flow run is {kind}", f'python -c "{close}"')
    if not wrong:
        yield ok(CHECK, f"{len(running)} run")


def running_runs(server: Server) -> dict[str, dict[str, str]]:
    """Run id -> tags, of all runs in status RUNNING; raises OSError."""
    found = _every(server, "experiments/search", "experiments", {"max_results": 1000})
    experiments = [one["experiment_id"] for one in found]
    if not experiments:
        return {}
    query = {"experiment_ids": experiments, "filter": "attributes.status = 'RUNNING'", "max_results": 200}
    runs = _every(server, "runs/search", "runs", query)
    return {run["info"]["run_id"]: {t["key"]: t["value"] for t in run["data"].get("tags", [])} for run in runs}


def _every(server: Server, path: str, what: str, query: dict[str, Any]) -> list[dict[str, Any]]:
    """All pages of a search of MLflow's."""
    rows: list[dict[str, Any]] = []
    while True:
        page = server.ask(f"api/2.0/mlflow/{path}", query)
        rows += page.get(what, [])
        if not (token := page.get("next_page_token")):
            return rows
        query = query | {"page_token": token}
