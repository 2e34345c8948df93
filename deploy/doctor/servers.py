"""Whether Prefect and MLflow can be reached, let this caller in, and are of the installed versions."""

import re
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit

from deploy.doctor.findings import Finding, error, ok, warning
from deploy.stack.api import call
from deploy.stack.logins import mlflow_headers, prefect_headers
from deploy.stack.rows import every

TIMEOUT_S = 5.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")
START = "start the local stack with `make up`, or export the address and login of your team's server"
PREFECT_LOGIN = (
    "export PREFECT_API_AUTH_STRING=<name>:<password> as the server's PREFECT_SERVER_API_AUTH_STRING has it "
    "(PREFECT_AUTH in docker/.env)"
)
MLFLOW_LOGIN = "export MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of a user of that server"


@dataclass(frozen=True)
class Server:
    """A server that has answered: its URL (Prefect's ends in /api) without a slash, and the login."""

    url: str
    headers: Mapping[str, str]

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def is_loopback(self) -> bool:
        return self.host in LOOPBACK

    def ask(self, path: str, payload: object = None) -> Any:
        """The answer to a GET, or to a POST where there is a payload; raises OSError."""
        return call(f"{self.url}/{path}", payload, TIMEOUT_S, 2, self.headers)

    def every(self, path: str, payload: Mapping[str, Any]) -> list[dict[str, Any]]:
        """All rows of a filter query of Prefect's, without those that it cannot write; raises OSError."""
        return every(self.ask, path, payload).rows


def reach_prefect(variables: Mapping[str, str]) -> tuple[Server | None, Finding]:
    """Asks for the server's version, which needs the login (/health does not)."""
    name = "prefect server"
    url = variables.get("PREFECT_API_URL", "").rstrip("/")
    if not url:
        return None, error(name, "PREFECT_API_URL is not set, and no local stack runs", START)
    server = Server(url, prefect_headers(variables))
    try:
        found = str(server.ask("admin/version"))
    except (OSError, ValueError) as problem:
        return None, _unusable(name, server, problem, PREFECT_LOGIN)
    if not re.fullmatch(r"\d+\.\d+\S*", found):
        return None, error(name, f"{url} is no Prefect API", "PREFECT_API_URL ends in /api: check the address")
    return server, _version(name, url, "prefect", found)


def reach_mlflow(variables: Mapping[str, str]) -> tuple[Server | None, Finding]:
    """Asks for experiments: /health and /version answer also those whom the server would turn away."""
    name = "mlflow server"
    url = variables.get("MLFLOW_TRACKING_URI", "").rstrip("/")
    if not url:
        return None, error(name, "MLFLOW_TRACKING_URI is not set, and no local stack runs", START)
    if not url.startswith(("http://", "https://")):
        return None, error(name, f"{url} is no server: runs on several processes would race on it", START)
    server = Server(url, mlflow_headers(variables))
    try:
        answer = server.ask("api/2.0/mlflow/experiments/search", {"max_results": 1})
        found = str(server.ask("version"))
    except (OSError, ValueError) as problem:
        return None, _unusable(name, server, problem, MLFLOW_LOGIN)
    if not isinstance(answer, dict) or not re.fullmatch(r"\d+\.\d+\S*", found):
        return None, error(name, f"{url} is no MLflow server", "check MLFLOW_TRACKING_URI: the address without a path")
    return server, _version(name, url, "mlflow", found)


def _unusable(name: str, server: Server, problem: Exception, login: str) -> Finding:
    if not isinstance(problem, urllib.error.HTTPError):
        reason = getattr(problem, "reason", problem)
        return error(name, f"{server.url} does not answer: {reason}", START)
    if problem.code == 401:
        what = "refuses the login" if server.headers else "wants a login, and none is set"
        return error(name, f"{server.url} {what} (401)", login)
    if problem.code == 403:
        text = problem.read().decode(errors="replace")
        if "Host header" in text:
            remedy = (
                f"name the host and port to the server and start it again: "
                f"MLFLOW_SERVER_ALLOWED_HOSTS='{server.host}:*,localhost:*,127.0.0.1:*' "
                f"(MLFLOW_ALLOWED_HOSTS in docker/.env)"
            )
            return error(name, f"{server.url} turns away this address: {text.strip()[:80]} (403)", remedy)
        return error(name, f"{server.url} does not let this user in (403)", login)
    return error(name, f"{server.url} answers {problem.code} {problem.reason}", "see the server's log: `make logs`")


def _version(name: str, url: str, package: str, found: str) -> Finding:
    try:
        installed = version(package)
    except PackageNotFoundError:
        return ok(name, f"{url}, {found}")
    if installed != found:
        remedy = f"upgrade the older side: clients here with `pip install {package}=={found}`"
        return warning(name, f"{url} is {package} {found}, installed here is {installed}", remedy)
    return ok(name, f"{url}, {found}")
