"""The checks, in the order in which they are printed. A new one is a file beside this and a line here."""

from collections.abc import Callable, Iterable

from deploy.doctor.findings import Finding
from deploy.doctor.surroundings import Surroundings
from pipeline_lib.core.registry import Registry

Check = Callable[[Surroundings], Iterable[Finding]]

CHECKS: Registry[Check] = Registry(
    "check",
    {
        "versions": "deploy.doctor.versions:versions",
        "database": "deploy.doctor.database:databases",
        "work pools": "deploy.doctor.pools:pools",
        "schedules": "deploy.doctor.schedules:schedules",
        "schedules' parameters": "deploy.doctor.forms:scheduled_parameters",
        "flow runs": "deploy.doctor.runs:flow_runs",
        "slots": "deploy.doctor.slots:slots",
        "left open": "deploy.doctor.leftovers:leftovers",
        "gpu": "deploy.doctor.gpu:gpus",
        "logins": "deploy.doctor.logins:logins",
        "disk": "deploy.doctor.disk:disks",
        "hub": "deploy.doctor.hub:hub",
        "github": "deploy.doctor.github:github",
        "s3": "deploy.doctor.s3:s3",
    },
)
