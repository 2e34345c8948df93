"""The doctor finds a server whose scheduler does nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.doctor import Finding, look_around, versions
from deploy.doctor.schedules import is_due, schedules
from deploy.stack.api import answers, call
from deploy.stack.processes import free_port
from tests.deploy.test_stack_integration import wait_for

LOG = """\
17:47:53.961 | INFO    | prefect.server - ready
17:47:54.086 | ERROR   | docket.dependencies - ↩ [   323ms] schedule_recent_deployments(){schedule_recent_deployments}
Traceback (most recent call last):
  File "/venv/prefect/server/services/scheduler.py", line 348, in schedule_recent_deployments
    inserted_runs = await models.deployments._insert_scheduled_flow_runs(
sqlalchemy.exc.InvalidRequestError: Can't evaluate bulk DML statement; please supply a bulk_dml decorated function
17:47:55.100 | INFO    | prefect.server - something else
"""
"""Of a server with SQLAlchemy 2.1.9, with fewer lines of the traceback."""


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(300)
def test_a_server_that_schedules_nothing(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = {
        **os.environ,
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for("the server answers", lambda: answers(f"{url}/health"))
        flow = call(f"{url}/flows/", {"name": "label"})["id"]
        every = [{"schedule": {"cron": "* * * * *"}, "active": active} for active in (True, False)]
        call(f"{url}/deployments/", {"name": "off", "flow_id": flow, "schedules": every[1:]})
        assert [one.level for one in judged(url, tmp_path, timedelta(hours=1))] == ["ok"]
        call(f"{url}/deployments/", {"name": "on", "flow_id": flow, "schedules": every})
        assert [one.level for one in judged(url, tmp_path)] == ["ok"], "within two minutes it may come"
        (finding,) = judged(url, tmp_path, timedelta(hours=1))
        assert finding.level == "error"
        assert finding.what == "label/on is scheduled (cron * * * * *), and no run of it comes"
        assert "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED" in finding.remedy
        (tmp_path / "logs").mkdir()
        (tmp_path / "logs" / "prefect.log").write_text(LOG)
        (finding,) = judged(url, tmp_path, timedelta(hours=1))
        assert "prefect.log says: sqlalchemy.exc.InvalidRequestError: Can't evaluate bulk DML" in finding.remedy
    finally:
        server.terminate()
        server.wait(60)


def judged(url: str, state: Path, later: timedelta = timedelta()) -> list[Finding]:
    surroundings = look_around({"PREFECT_API_URL": url, "PIPELINE_STATE": str(state)})
    return list(schedules(surroundings, datetime.now(UTC) + later))


@pytest.mark.parametrize(
    ("schedule", "due"),
    [
        ({"cron": "0 2 * * *"}, True),
        ({"cron": "@daily"}, True),
        ({"cron": "0 2 1 1 *"}, False),
        ({"cron": "@yearly"}, False),
        ({"interval": 3600.0}, True),
        ({"interval": 86400.0 * 365}, False),
        ({"rrule": "FREQ=HOURLY"}, True),
        ({"rrule": "FREQ=DAILY;UNTIL=20200101T000000"}, False),
    ],
)
def test_only_what_surely_comes_soon_is_missed(schedule: dict[str, Any], due: bool) -> None:
    assert is_due(schedule) == due


@pytest.mark.parametrize(("version", "errors"), [("2.0.58", 0), ("2.1.9", 1), ("2.1.0b1", 1), ("3.0", 1)])
def test_an_sqlalchemy_that_schedules_nothing(version: str, errors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "version", lambda name: version)
    found = list(versions.scheduling())
    assert [one.level for one in found] == ["error"] * errors
    assert all(version in one.what and "SQLAlchemy<2.1" in one.remedy for one in found)
