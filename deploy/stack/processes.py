"""Find and end the processes of a stack, and say who holds a port."""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable

import psutil

from deploy.stack.settings import COMPONENT_VARIABLE, HOST, OWNER_VARIABLE, PORT_VARIABLES, StackError, StackSettings

PR_SET_PDEATHSIG = 1
# What a trainer gets to write a checkpoint (60 s), and a flow to report that it was stopped.
FLOW_GRACE_S = 90.0


def die_with_parent() -> Callable[[], None] | None:
    """A `preexec_fn` by which the kernel sends SIGTERM to the child when the supervisor dies; None off Linux."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def owned_processes(settings: StackSettings, component: str | None = None) -> list[psutil.Process]:
    """Live processes of this stack by the marks in their environment: orphans too, and those in their own sessions."""
    found = []
    for process in psutil.process_iter():
        # Processes end, and others' environments are not ours to read, while we look.
        with contextlib.suppress(psutil.Error, OSError):
            marks = process.environ()
            if marks.get(OWNER_VARIABLE) != str(settings.state):
                continue
            if component is None or marks.get(COMPONENT_VARIABLE) == component:
                found.append(process)
    return found


def end_processes(find: Callable[[], Iterable[psutil.Process]], grace_s: float) -> int:
    """SIGTERM what `find` returns, SIGKILL what is left after `grace_s` seconds; returns how many were signalled.

    It looks again until nothing is found: a process may have started another between the look and the signal.

    Raises:
        StackError: processes survive SIGKILL for 10 s (they hang in the kernel, on a dead network disk for instance).
    """
    signalled: set[int] = set()
    deadline = time.monotonic() + grace_s
    while processes := list(find()):
        killing = time.monotonic() >= deadline
        if time.monotonic() >= deadline + 10:
            raise StackError(
                f"processes {[p.pid for p in processes]} do not end on SIGKILL: end them by hand or reboot"
            )
        for process in processes:
            with contextlib.suppress(psutil.Error):
                if killing:
                    process.kill()
                elif process.pid not in signalled:
                    process.terminate()
            signalled.add(process.pid)
        psutil.wait_procs(processes, timeout=0.2)
    return len(signalled)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal the process group that a component leads; silent when it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def port_is_free(port: int) -> bool:
    """Whether a server could listen on the port of 127.0.0.1 now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nothing listens on at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def port_holders(port: int) -> list[psutil.Process]:
    """The processes that listen on the port, as far as the system tells this user."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:  # macOS tells only root
        return []
    pids = {
        c.pid for c in connections if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port and c.pid
    }
    found = []
    for pid in sorted(pids):
        with contextlib.suppress(psutil.Error):
            found.append(psutil.Process(pid))
    return found


def describe_port_holder(port: int) -> str:
    """`process 123 (python -m http.server ...)`, or `another process` where the system does not tell."""
    holders = port_holders(port)
    if not holders:
        return "another process (its owner is not visible to this user)"
    holder = holders[0]
    text, stack = "", None
    with contextlib.suppress(psutil.Error, OSError):
        text = " ".join(holder.cmdline())[:100]
        stack = holder.environ().get(OWNER_VARIABLE)
    return f"process {holder.pid} ({text or 'unknown command'})" + (f" of the stack in {stack}" if stack else "")


def require_free_ports(settings: StackSettings) -> None:
    """Check both servers' ports.

    Raises:
        StackError: a port is taken, or both servers were given the same one.
    """
    if settings.prefect_port == settings.mlflow_port:
        raise StackError(
            f"Prefect and MLflow cannot share port {settings.prefect_port}: "
            f"set {PORT_VARIABLES['mlflow']} to another one"
        )
    for server, port in (("prefect", settings.prefect_port), ("mlflow", settings.mlflow_port)):
        if not port_is_free(port):
            raise StackError(
                f"port {port}, meant for the {server} server, is taken by {describe_port_holder(port)}: "
                f"end that process, or choose another port with {PORT_VARIABLES[server]}=<port>"
            )
