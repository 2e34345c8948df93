"""Schedules with parameters that their deployment would refuse: the server asks nobody before it makes their runs."""

from collections.abc import Iterator, Mapping
from typing import Any

from deploy.doctor.findings import Finding, error, ok
from deploy.doctor.servers import Server
from deploy.doctor.surroundings import Surroundings

CHECK = "schedules' parameters"
SHOWN = 300
"""Characters of what the server says; it repeats the value."""


def scheduled_parameters(surroundings: Surroundings) -> Iterator[Finding]:
    """One finding per schedule; else how many have parameters of their own."""
    if not (server := surroundings.prefect):
        return
    own, wrong = 0, 0
    for deployment in server.every("deployments/filter", {}):
        for schedule in deployment["schedules"]:
            if not schedule["parameters"]:
                continue
            own += 1
            if why := refusal(server, deployment, schedule):
                wrong += 1
                flow = server.ask(f"flows/{deployment['flow_id']}")["name"]
                name = f"{flow}/{deployment['name']}"
                remedy = f"prefect deployment schedule delete {name} {schedule['id']}  # its runs go with it"
                yield error(CHECK, f"a schedule of {name} has parameters that it refuses: {why[:SHOWN]}", remedy)
    if not wrong:
        yield ok(CHECK, f"{own} schedules have some, all are taken")


def refusal(server: Server, deployment: Mapping[str, Any], schedule: Mapping[str, Any]) -> str | None:
    """What the deployment's form has against a schedule's parameters."""
    values = {**deployment["parameters"], **schedule["parameters"]}
    asked = {"schema": deployment["parameter_openapi_schema"] or {}, "values": values}
    answer = server.ask("ui/schemas/validate", asked)
    return None if answer["valid"] else "; ".join(map(_said, answer["errors"]))


def _said(problem: Any) -> str:
    """`{property, errors}`, `{index, errors}` or a text, as the server gives it."""
    if isinstance(problem, str):
        return problem
    where = problem.get("property", problem.get("index"))
    return f"{where}: {'; '.join(map(_said, problem['errors']))}"
