"""What the servers keep their records in: SQLite has one writer, and is enough for one machine with one worker."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import psutil

from deploy.doctor.findings import Finding, ok, warning
from deploy.doctor.pools import live_workers
from deploy.doctor.servers import Server
from deploy.doctor.surroundings import Surroundings
from deploy.stack.processes import port_holders

CHECK = "database"
OPTION = "--backend-store-uri"
VARIABLES = {
    "prefect": ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL"),
    "mlflow": ("MLFLOW_BACKEND_STORE_URI", "_MLFLOW_SERVER_FILE_STORE"),
}
DRIVER = "PREFECT_SERVER_DATABASE_DRIVER"


def databases(surroundings: Surroundings) -> Iterator[Finding]:
    """The kind of each server's database, as far as this machine can see the server's process."""
    servers = {"prefect": surroundings.prefect, "mlflow": surroundings.mlflow}
    workers = len(live_workers(surroundings.prefect)) if surroundings.prefect else 0
    for name, server in servers.items():
        if server:
            yield judge(name, kind(name, server), server.is_loopback, workers)


def judge(name: str, kind: str, on_loopback: bool, workers: int) -> Finding:
    """`kind` is a database's scheme, empty where it cannot be told."""
    if not kind:
        return ok(CHECK, f"{name}: not visible from here; on the server's machine the doctor sees it")
    if kind != "sqlite":
        return ok(CHECK, f"{name}: {kind}")
    if on_loopback and workers <= 1:
        return ok(CHECK, f"{name}: sqlite, enough for one machine")
    why = f"{workers} workers" if workers > 1 else "other machines"
    remedy = "run the servers on PostgreSQL: docker/compose.yaml does (docs/team.md)"
    return warning(CHECK, f"{name}: sqlite with {why}: writes queue up and time out", remedy)


def kind(name: str, server: Server) -> str:
    """`postgresql`, `sqlite`, ...: by the command line and environment of the process behind the server's port."""
    port = urlsplit(server.url).port
    for listener in port_holders(port) if port and is_local(server.host) else []:
        with contextlib.suppress(psutil.Error, OSError):
            # The parent too: MLflow's children do not carry its options.
            for process in (listener, *listener.parents()[:1]):
                if found := _kind(name, process.cmdline(), process.environ()):
                    return found
    return ""


def is_local(host: str) -> bool:
    """Whether `host` is an address of this machine."""
    addresses = {address.address for interface in psutil.net_if_addrs().values() for address in interface}
    return host == "localhost" or host in addresses


def _kind(name: str, words: list[str], variables: Mapping[str, str]) -> str:
    if not any(name in word for word in words):
        return ""  # a proxy, Docker's for instance
    url = next((variables[key] for key in VARIABLES[name] if variables.get(key)), "")
    if OPTION in words[:-1]:
        url = words[words.index(OPTION) + 1]
    if name == "prefect" and not url:
        url = variables.get(DRIVER, "")
    scheme = url.partition(":")[0].partition("+")[0].lower()
    return scheme if scheme not in ("", "file") and os.sep not in scheme else "sqlite"
