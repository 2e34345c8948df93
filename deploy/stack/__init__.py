"""The local stack: Prefect server, MLflow server and a process worker on 127.0.0.1, under one small supervisor.

Command line: `python -m deploy.stack up|down|status|logs|env|exec`. As a library: `environment()` for the running
stack of this checkout, `running_stack(folder)` for one of one's own.
"""

from deploy.stack.control import current_settings, down, environment, running_stack, status, up
from deploy.stack.settings import ROOT, WORK_POOL, StackError, StackSettings, process_environment

__all__ = [
    "ROOT",
    "WORK_POOL",
    "StackError",
    "StackSettings",
    "current_settings",
    "down",
    "environment",
    "process_environment",
    "running_stack",
    "status",
    "up",
]
