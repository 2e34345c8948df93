"""When deployments run by themselves: what the file schedules.yaml declares.

A schedule that is missing is created as declared; one that is there belongs to people, whatever the file says.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.exceptions import ObjectNotFound

from deploy.registered import registered

SCHEDULES: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())


def declare(client: SyncPrefectClient, slug: str, declared: Mapping[str, Any]) -> Iterator[str]:
    """Create the schedule for those of its deployments that lack it; one line per deployment about what was done."""
    schedule = CronSchedule(**declared["schedule"])
    for name in declared["deployments"]:
        try:
            deployment = client.read_deployment_by_name(name)
        except ObjectNotFound:
            continue
        if slug not in {present.slug for present in deployment.schedules}:
            create: list[tuple[SCHEDULE_TYPES, bool]] = [(schedule, declared["active"])]
            client.create_deployment_schedules(deployment.id, create, slug=slug)
            yield f"schedule {slug} of {name}: created, {described(schedule, declared['active'], {})}"


def kept(client: SyncPrefectClient) -> Iterator[str]:
    """One line per schedule of our deployments that people added or changed."""
    for deployment in registered(client):
        if not deployment.schedules:
            continue
        name = f"{client.read_flow(deployment.flow_id).name}/{deployment.name}"
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
    for slug, declared in SCHEDULES.items():
        for line in declare(client, slug, declared):
            print(line)
    for line in kept(client):
        print(line)
