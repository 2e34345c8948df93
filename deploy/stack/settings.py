"""Where a stack keeps its state, which ports it uses, and the environment of every process that talks to it."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline_lib.core.permissions import own

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
WORK_POOL = "local"
# Which pool runs what needs no GPU, and what wants one. Without an answer both are the local stack's.
POOL_VARIABLES = ("PIPELINE_CPU_POOL", "PIPELINE_GPU_POOL")
PORT_VARIABLES = {"prefect": "PIPELINE_PREFECT_PORT", "mlflow": "PIPELINE_MLFLOW_PORT"}
DEFAULT_PORTS = {"prefect": 4200, "mlflow": 5000}

# How runs bear with servers; deploy/worker.py gives it to its runs, docker/Dockerfile to those in containers.
PATIENCE = {
    # Seconds between signs of life of a run; see deploy/automations.yaml.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    # Retries wait 2, 4, 8, ... s: seven outlast a server that is down for four minutes.
    "PREFECT_CLIENT_MAX_RETRIES": "7",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "7",
}

# Every process of a stack, and whatever it starts, carries these two variables: that is how survivors of a killed
# worker or supervisor are found, whoever their parent is by then.
OWNER_VARIABLE = "PIPELINE_STACK_OWNER"
COMPONENT_VARIABLE = "PIPELINE_STACK_COMPONENT"

# Set in a user's shell, these would send the stack's processes to another server or make them fail on its credentials.
REDIRECTING_VARIABLES = (
    "PREFECT_API_AUTH_STRING",
    "PREFECT_API_DATABASE_CONNECTION_URL",
    "PREFECT_API_KEY",
    "PREFECT_PROFILE",
    "PREFECT_PROFILES_PATH",
    "PREFECT_SERVER_API_AUTH_STRING",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_USERNAME",
)


# Every line of a log names the run, the task and (tasks/logs.py) the dataset. As objects of JSON instead:
# PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER=json
_LINE = "%(asctime)s.%(msecs)03d | %(levelname)-7s | %(flow_run_name)s"
LOG_FORMATS = {
    "PREFECT_LOGGING_FORMATTERS_STANDARD_DATEFMT": "%Y-%m-%d %H:%M:%S",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_FLOW_RUN_FMT": f"{_LINE} | %(flow_name)s - %(message)s",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_TASK_RUN_FMT": f"{_LINE} | %(task_run_name)s - %(message)s",
}


class StackError(RuntimeError):
    """The local stack cannot do what was asked; the message says what is in the way and what to do."""


@dataclass(frozen=True)
class StackSettings:
    """One local stack: its state folder (absolute) and the ports of its two servers, all on 127.0.0.1."""

    state: Path
    prefect_port: int
    mlflow_port: int

    @property
    def prefect_url(self) -> str:
        return f"http://{HOST}:{self.prefect_port}"

    @property
    def mlflow_url(self) -> str:
        return f"http://{HOST}:{self.mlflow_port}"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def lock_file(self) -> Path:
        """Locked by the supervisor for as long as it lives."""
        return self.state / "stack" / "lock"

    @property
    def state_file(self) -> Path:
        return self.state / "stack" / "stack.json"


def state_folder(variables: Mapping[str, str] = os.environ) -> Path:
    """`PIPELINE_STATE`, or `.state` in the checkout; absolute."""
    return Path(variables.get("PIPELINE_STATE") or ROOT / ".state").expanduser().resolve()


@contextmanager
def private_files(settings: StackSettings) -> Iterator[None]:
    """What is created now, and by processes that are started now, is not for other users of the machine.

    Raises:
        OSError: the state folder cannot be made, or is another user's and open to all.
    """
    before = os.umask(own(settings.state))
    try:
        yield
    finally:
        os.umask(before)


def configured_port(server: str, variables: Mapping[str, str] = os.environ) -> int | None:
    """The port that the user's environment asks for, None where it says nothing.

    Raises:
        StackError: the variable does not hold a TCP port.
    """
    name = PORT_VARIABLES[server]
    text = variables.get(name, "").strip()
    if not text:
        return None
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise StackError(f"{name}={text!r} is not a TCP port: give a number from 1 to 65535")
    return int(text)


def client_environment(settings: StackSettings, variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables that point a process (a shell, a flow run, a test) at the stack, to be laid over `variables`."""
    # A proxy of the user's must not be asked for addresses on this machine.
    bypass = variables.get("NO_PROXY") or variables.get("no_proxy") or ""
    no_proxy = ",".join(dict.fromkeys([*filter(None, bypass.split(",")), HOST, "localhost"]))
    return {
        "PIPELINE_STATE": str(settings.state),
        **_pools(variables),
        "PREFECT_HOME": str(settings.state / "prefect"),
        "PREFECT_API_URL": f"{settings.prefect_url}/api",
        # Without it a client whose server is down starts a private one and appears to work.
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        **LOG_FORMATS,
        **PATIENCE,
        "MLFLOW_TRACKING_URI": settings.mlflow_url,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        # Idle OpenMP threads that spin slow every other process on a small machine down by an order of magnitude.
        "OMP_WAIT_POLICY": "PASSIVE",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
    }


def shell_environment(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The full environment of a command run against the server that the user's own PREFECT_API_URL names."""
    return {
        **variables,
        **_pools(variables),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PATH": _programs_first(variables),
    }


def process_environment(settings: StackSettings, variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The full environment of a command run against the stack: the user's less what would redirect it, plus ours.

    The virtual environment's programs come first on PATH, so that `prefect` and `accelerate` are the pinned ones.
    """
    dropped = {*REDIRECTING_VARIABLES, OWNER_VARIABLE, COMPONENT_VARIABLE}
    inherited = {name: value for name, value in variables.items() if name not in dropped}
    return inherited | client_environment(settings, variables) | {"PATH": _programs_first(variables)}


def component_environment(settings: StackSettings, component: str) -> dict[str, str]:
    """The environment of one supervised component, marked so that all it starts can be found again."""
    return process_environment(settings) | {
        OWNER_VARIABLE: str(settings.state),
        COMPONENT_VARIABLE: component,
        "PYTHONUNBUFFERED": "1",
    }


def _pools(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: variables.get(name, "").strip() or WORK_POOL for name in POOL_VARIABLES}


def _programs_first(variables: Mapping[str, str]) -> str:
    """PATH with the virtual environment's programs first."""
    return os.pathsep.join([str(Path(sys.executable).parent), *filter(None, [variables.get("PATH")])])
