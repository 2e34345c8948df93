"""When deployments run by themselves: what the file schedules.yaml declares.

A schedule that is missing is created as declared; one that is there belongs to people, whatever the file says.
"""

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule, RRuleSchedule

from deploy.registered import registered

SCHEDULES: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())


def declare(
    client: SyncPrefectClient, slug: str, declared: Mapping[str, Any], found: Mapping[str, DeploymentResponse]
) -> Iterator[str]:
    """Create the schedule for those of its deployments that lack it; one line per flow about what was done."""
    schedule = CronSchedule(**declared["schedule"])
    create: list[tuple[SCHEDULE_TYPES, bool]] = [(schedule, declared["active"])]
    said = described(schedule, declared["active"], {})
    for flow, names in groupby(declared["deployments"], key=lambda name: name.partition("/")[0]):
        lacking = [name for name in names if name in found and slug not in {one.slug for one in found[name].schedules}]
        for name in lacking:
            client.create_deployment_schedules(found[name].id, create, slug=slug)
        if lacking:
            deployments = ", ".join(name.partition("/")[2] for name in lacking)
            yield f"schedule {slug} of {flow}/{deployments}: created, {said}"


def kept(found: Mapping[str, DeploymentResponse]) -> Iterator[str]:
    """One line per schedule of our deployments that people added or changed."""
    for name, deployment in found.items():
        for present in deployment.schedules:
            said = described(present.schedule, present.active, present.parameters)
            declared = SCHEDULES.get(present.slug or "", {"deployments": []})
            if name not in declared["deployments"]:
                yield f"schedule {present.slug or present.id} of {name}: kept, {said}"
            elif not _as_declared(present, declared):
                yield f"schedule {present.slug} of {name}: kept as people set it, {said}"


def described(schedule: SCHEDULE_TYPES, active: bool, parameters: Mapping[str, Any]) -> str:
    """When it runs, with which parameters, and whether it is switched on."""
    if isinstance(schedule, CronSchedule):
        when = f"cron {schedule.cron}"
    elif isinstance(schedule, IntervalSchedule):
        when = f"every {schedule.interval}"
    else:
        when = f"rrule {schedule.rrule}" if isinstance(schedule, RRuleSchedule) else "never"
    values = " ".join(f"{key}={value}" for key, value in parameters.items() if value is not None)
    return " ".join(filter(None, ["on," if active else "off,", when, getattr(schedule, "timezone", None), values]))


def _as_declared(present: DeploymentSchedule, declared: Mapping[str, Any]) -> bool:
    same_times = present.schedule == CronSchedule(**declared["schedule"])
    return same_times and present.active == declared["active"] and not present.parameters


def declare_all(client: SyncPrefectClient) -> None:
    """Declare the file's schedules, printing what was created and what was kept."""
    found = registered(client)
    for slug, declared in SCHEDULES.items():
        for line in declare(client, slug, declared, found):
            print(line)
    for line in kept(found):
        print(line)
