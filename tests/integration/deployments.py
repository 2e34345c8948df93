"""Running deployments of a real stack from tests, and reading what became of them."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.stack.api import call
from deploy.stack.settings import ROOT

SMALL = {"limit": 300, "steps": 4, "num_prompts": 16}
"""Parameters of a short `align/shapes`."""


@dataclass(frozen=True)
class Deployments:
    """A stack's environment, and its deployments."""

    env: Mapping[str, str]

    def register(self, *names: str) -> None:
        """What `make deploy` runs; of these deployments only, if any are named: each takes a second."""
        which = [part for name in names for part in ("--name", name)] or ["--all"]
        self._prefect("--no-prompt", "deploy", "--prefect-file", "deploy/prefect.yaml", *which).check_returncode()

    def start(self, deployment: str, **parameters: Any) -> str:
        """Create a flow run; returns its name."""
        name = f"test {uuid.uuid4().hex[:8]}"
        values = [item for k, v in parameters.items() for item in ("--param", f"{k}={json.dumps(v)}")]
        result = self._prefect("deployment", "run", deployment, "--flow-run-name", name, *values)
        assert result.returncode == 0, result.stdout
        return name

    def run(self, deployment: str, **parameters: Any) -> dict[str, Any]:
        """Create a flow run, wait for its end; returns it as the API shows it."""
        name = f"test {uuid.uuid4().hex[:8]}"
        values = [item for k, v in parameters.items() for item in ("--param", f"{k}={json.dumps(v)}")]
        self._prefect("deployment", "run", deployment, "--flow-run-name", name, "--watch", *values)
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

    def post(self, path: str, payload: Mapping[str, Any]) -> Any:
        """A call of the Prefect API."""
        return call(f"{self.env['PREFECT_API_URL']}/{path}", payload)

    def _prefect(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=ROOT,
            env=dict(self.env),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=1200,
        )
