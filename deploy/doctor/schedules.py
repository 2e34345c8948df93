"""Schedules that are switched on and of which no run comes: the server's scheduler may fail without a sign."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from deploy.doctor.findings import Finding, error, ok
from deploy.doctor.servers import Server
from deploy.doctor.surroundings import Surroundings

CHECK = "schedules"
PATIENCE = timedelta(minutes=2)
"""The scheduler comes round every 60 s, and every 5 s to deployments that have changed."""
HORIZON = timedelta(days=90)
"""Runs are made for the next 100 days: of a schedule that comes less often there may be none."""
RARE = re.compile(r"UNTIL|COUNT|YEARLY|BYMONTH=", re.IGNORECASE)
FAILED = re.compile(r"ERROR.*\bschedule_(?:recent_)?deployments\b")
REASON = re.compile(r"[\w.]+(?:Error|Exception): .*")
LOG_BYTES = 2**20


def schedules(surroundings: Surroundings, now: datetime | None = None) -> Iterator[Finding]:
    """One finding per deployment with a schedule that should have runs to come and has none; else how many are on."""
    if not (server := surroundings.prefect):
        return
    moment = now or datetime.now(UTC)
    deployments = {one["id"]: one for one in server.every("deployments/filter", {}) if not one["paused"]}
    active = [one for deployment in deployments.values() for one in deployment["schedules"] if one["active"]]
    to_come = _to_come(server) if active else set()
    missing: dict[str, Mapping[str, Any]] = {}
    for schedule in active:
        deployment = deployments[schedule["deployment_id"]]
        changed = max(datetime.fromisoformat(one["updated"]) for one in (schedule, deployment))
        if schedule["id"] not in to_come and moment - changed > PATIENCE and is_due(schedule["schedule"]):
            missing[deployment["id"]] = schedule
    for deployment_id, schedule in missing.items():
        flow = server.ask(f"flows/{deployments[deployment_id]['flow_id']}")["name"]
        name = f"{flow}/{deployments[deployment_id]['name']}"
        yield error(
            CHECK,
            f"{name} is scheduled ({_when(schedule['schedule'])}), and no run of it comes",
            _remedy(surroundings),
        )
    if not missing:
        yield ok(CHECK, f"{len(active)} are on, none waits for its runs in vain")


def _to_come(server: Server) -> set[str]:
    """Ids of schedules of which a run waits for its time."""
    query = {"state": {"type": {"any_": ["SCHEDULED"]}}, "deployment_id": {"is_null_": False}}
    runs = server.every("flow_runs/filter", {"flow_runs": query})
    return {run["created_by"]["id"] for run in runs if run["auto_scheduled"] and run["created_by"]}


def is_due(schedule: Mapping[str, Any]) -> bool:
    """Whether the schedule surely has a time within the horizon."""
    if cron := schedule.get("cron"):
        fields = cron.split()
        return cron not in ("@yearly", "@annually") and (len(fields) < 5 or fields[3] == "*")
    if interval := schedule.get("interval"):
        return timedelta(seconds=interval) < HORIZON
    return not RARE.search(schedule["rrule"])


def _when(schedule: Mapping[str, Any]) -> str:
    kind = next(kind for kind in ("cron", "interval", "rrule") if schedule.get(kind))
    return f"{kind} {schedule[kind]}{' s' if kind == 'interval' else ''}"


def _remedy(surroundings: Surroundings) -> str:
    """What the server's log says, where it is a file of this machine, and what to do."""
    assert surroundings.prefect
    log = surroundings.state / "logs" / "prefect.log"
    said = _failure(log) if surroundings.prefect.is_loopback else None
    seen = f"{log} says: {said}" if said else "see what the server's log (`make logs`) says of schedule_deployments"
    cause = "the server needs SQLAlchemy below 2.1 and PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED not false"
    return f"{seen}; {cause}: `make setup`, `make down`, `make up`; a team's server: build its image again"


def _failure(log: Path) -> str | None:
    """Why the scheduler failed last, by the end of the server's log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return None
    failures = [number for number, line in enumerate(lines) if FAILED.search(line)]
    after = lines[failures[-1] + 1 :] if failures else []
    return next((line.strip()[:200] for line in after if REASON.match(line)), None)
