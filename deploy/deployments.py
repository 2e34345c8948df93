"""Registers the deployments of prefect.yaml: `python -m deploy.deployments [name ...]`; `make deploy` registers all.

`prefect deploy` reads the same file, but takes half a second of processor time and ten lines for each deployment, and
wakes what people have paused: here that stays as it was, and what is as declared is not written again. Schedules
follow.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect._internal.versioning import get_inferred_version_info
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.utilities.templating import apply_values

from deploy import schedules
from deploy.forms import with_fixed
from deploy.registered import CONFIGURATION, DECLARED, every
from deploy.stack.settings import POOL_VARIABLES, ROOT, WORK_POOL, StackError

DEFAULT_QUEUE = "default"
"""Of every work pool."""
Present = Mapping[tuple[UUID, str], DeploymentResponse]
"""What the server has, by the flow's id and the deployment's name."""


@cache
def flow_at(entrypoint: str) -> Flow[..., Any]:
    """The flow, loaded as a worker loads it."""
    return load_flow_from_entrypoint(f"{ROOT}/{entrypoint}", use_placeholder_flow=False)


def full_name(one: Mapping[str, Any]) -> str:
    """`<flow>/<deployment>` of an entry of prefect.yaml."""
    return f"{flow_at(one['entrypoint']).name}/{one['name']}"


def chosen(names: Sequence[str]) -> list[dict[str, Any]]:
    """The entries of prefect.yaml that are named `<flow>/<deployment>`; all without names.

    Raises:
        StackError: there is none of that name.
    """
    if not names:
        return DECLARED
    wanted = {name.rpartition("/")[2] for name in names}
    known = {full_name(one): one for one in DECLARED if one["name"] in wanted}
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, map(full_name, DECLARED), n=3)
            hint = f"Did you mean {' or '.join(close)}?" if close else "deploy/prefect.yaml lists them."
            raise StackError(f"There is no deployment {name}. {hint}")
    return [known[name] for name in names]


def fields(one: Mapping[str, Any], version: str | None) -> dict[str, Any]:
    """What the server is to hold of an entry of prefect.yaml, by Prefect's names: all but the flow and the name.

    An entry's keys that have no place of their own here (`concurrency_limit`, `job_variables`, ...) go as they are.

    Raises:
        StackError: Prefect knows no such field of a deployment.
    """
    entry = {key: value for key, value in one.items() if key not in ("name", "work_pool")}
    if unknown := entry.keys() - DeploymentUpdate.model_fields.keys():
        raise StackError(f"deploy/prefect.yaml: deployments have no {', '.join(unknown)}, as {one['name']} has")
    flow, pool = flow_at(one["entrypoint"]), apply_values(one["work_pool"], {})  # with what the environment names
    parameters = entry.get("parameters", {})
    return {
        "version": version or flow.version,
        "description": flow.description,
        "parameters": parameters,
        "parameter_openapi_schema": with_fixed(parameter_schema(flow).model_dump(exclude_unset=True), parameters),
        "enforce_parameter_schema": True,
        "work_pool_name": pool["name"],
        "work_queue_name": pool.get("work_queue_name", DEFAULT_QUEUE),
        "job_variables": {},
        "pull_steps": CONFIGURATION["pull"],
        "tags": [],
        **entry,
    }


def register(client: SyncPrefectClient, flow_id: UUID, name: str, wanted: Mapping[str, Any], present: Present) -> str:
    """Create a deployment, or bring it up to date; returns what became of it."""
    there = present.get((flow_id, name))
    if there is None:
        client.create_deployment(flow_id, name, **wanted)
        return "new"
    if all(getattr(there, field) == value for field, value in wanted.items()):
        return "as they were"
    # Neither `paused` nor `schedules` is among them: the server leaves what it is not given.
    client.update_deployment(there.id, DeploymentUpdate(**wanted))
    return "changed"


def check_pools(client: SyncPrefectClient, names: Iterable[str]) -> None:
    """Raise where the server has no such work pool: no worker would ever take the runs.

    Raises:
        StackError: a pool is missing.
    """
    for name in sorted(set(names)):
        try:
            client.read_work_pool(name)
        except ObjectNotFound as error:
            remedy = "-> make deploy, or python -m deploy.work_pools, creates those of deploy/pools"
            raise StackError(f"The server has no work pool {name}.\n{remedy}") from error


def register_all(client: SyncPrefectClient, entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Register these entries of prefect.yaml; one line per flow, and one for each deployment that is paused."""
    # What `prefect deploy` gives: the commit, where there is one.
    inferred = asyncio.run(get_inferred_version_info())
    by_flow: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for one in entries:
        wanted = fields(one, inferred.version if inferred else None)
        by_flow.setdefault(flow_at(one["entrypoint"]).name, []).append((one["name"], wanted))
    check_pools(client, (wanted["work_pool_name"] for some in by_flow.values() for _, wanted in some))
    present = {(one.flow_id, one.name): one for one in every(client)}
    for flow, some in by_flow.items():
        flow_id = client.create_flow_from_name(flow)
        done = Counter(register(client, flow_id, name, wanted, present) for name, wanted in some)
        yield f"deployments of {flow}: {', '.join(f'{count} {what}' for what, count in done.items())}"
        for name, wanted in some:
            if (there := present.get((flow_id, name))) and there.paused:
                yield f"deployment {name} of {wanted['entrypoint']}: stays paused"


def main(names: Sequence[str] = ()) -> int:
    """Register those named `<flow>/<deployment>`, or all, and declare their schedules; the exit status."""
    for variable in POOL_VARIABLES:
        os.environ[variable] = os.environ.get(variable, "").strip() or WORK_POOL
    try:
        with get_client(sync_client=True) as client:
            for line in register_all(client, chosen(names)):
                print(line, flush=True)
            schedules.declare_all(client)
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m deploy.deployments", description="Register deployments.")
    parser.add_argument("names", nargs="*", metavar="flow/deployment", help="which (default: all)")
    sys.exit(main(parser.parse_args().names))
