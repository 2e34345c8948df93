"""Running deployments of a real stack from tests, and reading what became of them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from deploy.stack.api import RETRY_S, call
from deploy.stack.logins import prefect_headers
from deploy.stack.settings import ROOT

SMALL = {"limit": 300, "steps": 4, "num_prompts": 16, "gate_average": 0.01, "gate_scorer": 0.0}
"""Parameters of a short `align/shapes`, whose model passes the gate."""
SCHEDULED_S = 90.0
"""What the scheduler gets to make the runs of a new schedule; on a quiet machine it takes 5 s."""


@dataclass(frozen=True)
class Deployments:
    """A stack's environment, and its deployments."""

    env: Mapping[str, str]

    def register(self, *names: str) -> str:
        """What `make deploy` runs, for these deployments or all; returns what it says."""
        done = self._module("deploy.deployments", *names)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def start(self, deployment: str, **parameters: Any) -> str:
        """Create a flow run; returns its name."""
        name = f"test {uuid.uuid4().hex[:8]}"
        values = [item for k, v in parameters.items() for item in ("--param", f"{k}={json.dumps(v)}")]
        result = self.prefect("deployment", "run", deployment, "--flow-run-name", name, *values)
        assert result.returncode == 0, result.stdout
        return name

    def run(self, deployment: str, **parameters: Any) -> dict[str, Any]:
        """Create a flow run, wait for its end; returns it as the API shows it."""
        name = f"test {uuid.uuid4().hex[:8]}"
        values = [item for k, v in parameters.items() for item in ("--param", f"{k}={json.dumps(v)}")]
        self.prefect("deployment", "run", deployment, "--flow-run-name", name, "--watch", *values)
        return self.flow_run(name)

    def flow_run(self, name: str) -> dict[str, Any]:
        """A flow run by name."""
        found = self.post("flow_runs/filter", {"flow_runs": {"name": {"any_": [name]}}})
        assert len(found) == 1, f"{name}: {len(found)} flow runs"
        return dict(found[0])

    def children(self, run: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The subflow runs of a flow run."""
        return list(self.post("flow_runs/filter", {"flow_runs": {"parent_flow_run_id": {"any_": [run["id"]]}}}))

    def stages(self, run: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The stages table that `align` published, by stage."""
        query = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}, "key": {"any_": ["stages"]}}}
        (artifact,) = self.post("artifacts/filter", query)
        return {row["stage"]: row for row in json.loads(artifact["data"])}

    def logs(self, run: Mapping[str, Any]) -> str:
        """Everything a flow run and its tasks logged."""
        rows = self.post("logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "limit": 200})
        return "\n".join(row["message"] for row in rows)

    def post(self, path: str, payload: object) -> Any:
        """A call of the Prefect API."""
        return call(f"{self.env['PREFECT_API_URL']}/{path}", payload, headers=prefect_headers(self.env))

    def get(self, path: str) -> Any:
        """What the Prefect API has there."""
        return call(f"{self.env['PREFECT_API_URL']}/{path}", headers=prefect_headers(self.env))

    def delete(self, path: str) -> None:
        """Delete what the Prefect API has there; asked again while SQLite is busy."""
        url, login = f"{self.env['PREFECT_API_URL']}/{path}", prefect_headers(self.env)
        request = urllib.request.Request(url, headers=login, method="DELETE")
        for last in (*[False] * 9, True):
            try:
                return urllib.request.urlopen(request).close()
            except urllib.error.HTTPError as error:
                if error.code != 503 or last:
                    raise
                time.sleep(RETRY_S)

    @contextmanager
    def unscheduled(self, deployment: str) -> Iterator[str]:
        """The deployment's id; the schedules that it has at the end are removed, and the runs to come with them."""
        found = str(self.get(f"deployments/name/{deployment}")["id"])
        try:
            yield found
        finally:
            for schedule in self.get(f"deployments/{found}/schedules"):
                self.delete(f"deployments/{found}/schedules/{schedule['id']}")

    def schedule(self, deployment: str, *when: str) -> dict[str, Any]:
        """Make a schedule by command; returns it as the API shows it."""
        result = self.prefect("deployment", "schedule", "create", deployment, *when)
        assert result.returncode == 0, result.stdout
        (schedule,) = self.get(f"deployments/{self.get(f'deployments/name/{deployment}')['id']}/schedules")
        return dict(schedule)

    def ended(self, run: str, timeout_s: float = 400.0) -> dict[str, Any]:
        """A flow run by id, when it has ended."""
        deadline = time.monotonic() + timeout_s
        while (found := self.get(f"flow_runs/{run}"))["end_time"] is None:
            assert time.monotonic() < deadline, found["state"]
            time.sleep(0.5)
        return dict(found)

    def completed(self, schedule: Mapping[str, Any], count: int, timeout_s: float = 400.0) -> list[dict[str, Any]]:
        """The first runs of a schedule, when they have ended well."""
        query = {"deployments": {"id": {"any_": [schedule["deployment_id"]]}}, "sort": "EXPECTED_START_TIME_ASC"}
        begun = time.monotonic()
        while True:
            runs = [run for run in self.post("flow_runs/filter", query) if run["created_by"]]
            runs = [run for run in runs if run["created_by"]["id"] == schedule["id"]]
            done = [run for run in runs if run["state_type"] == "COMPLETED"]
            if len(done) >= count:
                return done[:count]
            states = {run["state_type"] for run in runs}
            assert states <= {"SCHEDULED", "PENDING", "RUNNING", "COMPLETED"}, states
            waited = time.monotonic() - begun
            assert runs or waited < SCHEDULED_S, f"no run was made of the schedule in {waited:.0f} s"
            assert waited < timeout_s, f"{len(runs)} runs of the schedule, {len(done)} completed"
            time.sleep(1)

    def prefect(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Prefect's command line."""
        return self._module("prefect", *arguments)

    def _module(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=dict(self.env),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=1200,
        )
