"""Slots of concurrency limits that nobody can be holding: those who wait for them wait for ever.

Leases end by themselves after five minutes, but a server that keeps them in memory forgets them when it is restarted,
and tags of task runs have none that ends.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from deploy.doctor.findings import Finding, error, ok
from deploy.doctor.surroundings import Surroundings
from deploy.stack.api import HELD_STATES

CHECK = "slots"
LEASE = timedelta(minutes=6)
OF_DEPLOYMENT, OF_TAG = "deployment:", "tag:"


def slots(surroundings: Surroundings, now: datetime | None = None) -> Iterator[Finding]:
    """Limits with more slots taken than there are runs that could hold one."""
    if not (server := surroundings.prefect):
        return
    limits = server.every("v2/concurrency_limits/filter", {})
    held: dict[str, Any] = {"state": {"type": {"any_": HELD_STATES}}}
    taken = any(limit["active_slots"] for limit in limits)
    flow_runs = server.every("flow_runs/filter", {"flow_runs": held}) if taken else []
    task_runs = server.every("task_runs/filter", {"task_runs": held}) if taken else []
    of_deployments = Counter(str(run["deployment_id"]) for run in flow_runs)
    wrong = []
    for limit in limits:
        name = limit["name"]
        own = name.removeprefix(OF_DEPLOYMENT)
        holders = of_deployments[own] if own != name else len(flow_runs) + len(task_runs)
        if is_stuck(limit, holders, now or datetime.now(UTC)):
            taken_slots = f"{limit['active_slots']:.0f} of {limit['limit']} slots are taken"
            what = f"{name}: {taken_slots}, {holders} runs could hold one"
            wrong.append(error(CHECK, what, _free(name, holders)))
    yield from wrong
    if not wrong:
        yield ok(CHECK, f"{len(limits)} concurrency limits, none is stuck")


def is_stuck(limit: Mapping[str, Any], holders: int, now: datetime) -> bool:
    """Whether slots are taken that `holders` runs cannot explain, and that no lease will give back."""
    untouched = now - datetime.fromisoformat(limit["updated"]) > LEASE
    return bool(limit["active_slots"] > holders and untouched and not limit["slot_decay_per_second"])


def _free(name: str, holders: int) -> str:
    if name.startswith(OF_TAG):
        return f"prefect concurrency-limit reset '{name.removeprefix(OF_TAG)}'"
    return f"prefect gcl update '{name}' --active-slots {holders}"
