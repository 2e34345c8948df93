"""Work pools: whether somebody serves those that deployments are registered on."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from deploy.doctor.findings import Finding, error, ok, warning
from deploy.doctor.servers import Server
from deploy.doctor.surroundings import Surroundings
from deploy.stack.settings import WORK_POOL

CHECK = "work pools"


def live_workers(server: Server) -> list[tuple[str, str]]:
    """(pool, worker) of all workers that the server has heard of lately; raises OSError."""
    found = []
    for pool in server.every("work_pools/filter", {}):
        for worker in server.every(f"work_pools/{pool['name']}/workers/filter", {}):
            if worker["status"] == "ONLINE":
                found.append((pool["name"], worker["name"]))
    return found


def pools(surroundings: Surroundings) -> Iterator[Finding]:
    """A line for each pool that has deployments or workers; pools that nothing uses need nobody."""
    if not (server := surroundings.prefect):
        return
    deployments = Counter(str(one["work_pool_name"]) for one in server.every("deployments/filter", {}))
    workers = Counter(pool for pool, _ in live_workers(server))
    present = {pool["name"]: pool for pool in server.every("work_pools/filter", {})}
    if not deployments:
        yield warning(CHECK, "no deployments are registered", "`make deploy`")
    for name, pool in present.items():
        if deployments[name] or workers[name]:
            yield _pool(pool, deployments[name], workers[name])
    for queue in server.every("work_queues/filter", {}):
        if queue["is_paused"] and deployments[queue["work_pool_name"]]:
            resume = f"prefect work-queue resume '{queue['name']}' --pool '{queue['work_pool_name']}'"
            what = f"{queue['work_pool_name']}: the queue {queue['name']} is paused, its runs wait"
            yield warning(CHECK, what, resume)


def _pool(pool: Mapping[str, Any], deployments: int, workers: int) -> Finding:
    name, kind = pool["name"], pool["type"]
    if pool["is_paused"]:
        return warning(CHECK, f"{name} is paused: its runs wait", f"prefect work-pool resume '{name}'")
    if workers == 0 and not kind.endswith((":push", ":managed")):
        program = "python -m deploy.worker" if kind == "process" else "prefect worker start"
        start = f"{program} --pool '{name}' --type {kind}" + (" --limit 1" if name.startswith("gpu") else "")
        start = f"`make up`, or {start}" if name == WORK_POOL else f"on the machine that is to run them: {start}"
        return error(CHECK, f"{name}: {deployments} deployments and no live worker: their runs wait for ever", start)
    return ok(CHECK, f"{name}: {deployments} deployments, {workers} workers")
