"""What deployments need on the server before they are registered: `python -m deploy.work_pools`.

Work pools are the files of deploy/pools, one each: its type, the template of its jobs where the worker's own will not
do, and its queues with their limits. Concurrency limits are in deploy/limits.yaml. What is missing is created; of what
is there only job templates follow their files.
"""

import difflib
import os
import sys
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from deploy.stack.settings import POOL_VARIABLES, WORK_POOL

FOLDER = Path(__file__).parent
POOLS = {path.stem: yaml.safe_load(path.read_text()) for path in (FOLDER / "pools").glob("*.yaml")}
LIMITS = yaml.safe_load((FOLDER / "limits.yaml").read_text())


def declare_pool(client: SyncPrefectClient, name: str, pool: dict[str, Any]) -> str | None:
    """Create the pool and its queues, or bring its template up to date; returns what was done, None for nothing."""
    # Without a template the first worker brings that of its version.
    template = pool.get("base_job_template", {})
    done = None
    try:
        present = client.read_work_pool(name)
        if template and present.base_job_template != template:
            client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))
            done = "job template updated"
    except ObjectNotFound:
        create = WorkPoolCreate(
            name=name, type=pool["type"], description=pool["description"], base_job_template=template
        )
        client.create_work_pool(create)
        done = f"created. {pool['description']}"
    for queue, limit in pool.get("queues", {}).items():
        try:
            client.create_work_queue(queue, concurrency_limit=limit, work_pool_name=name)
        except ObjectAlreadyExists:
            continue
    return done


def declare_limit(client: SyncPrefectClient, name: str, limit: int) -> str | None:
    """Create a concurrency limit; returns what was done, None where it is there."""
    try:
        client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=limit))
        return f"created: {limit} at a time"
    return None


def unknown_pool(client: SyncPrefectClient, name: str) -> str | None:
    """What to say about a pool that deployments are to use, None when there is nothing to say."""
    if name in POOLS:
        return None
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        close = difflib.get_close_matches(name, POOLS, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        known = f"no work pool {name}: known are {', '.join(sorted(POOLS))}.{hint}"
        return f"{known} For one of your own add deploy/pools/{name}.yaml"
    return None


def main() -> int:
    """Declare pools and limits, printing what was done; 1 when the environment names a pool that there is not."""
    with get_client(sync_client=True) as client:
        for variable in POOL_VARIABLES:
            if problem := unknown_pool(client, os.environ.get(variable, WORK_POOL)):
                print(f"error: {variable}: {problem}", file=sys.stderr)
                return 1
        for name, pool in POOLS.items():
            if done := declare_pool(client, name, pool):
                print(f"work pool {name}: {done}")
        for name, limit in LIMITS.items():
            if done := declare_limit(client, name, limit):
                print(f"concurrency limit {name}: {done}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
