"""A Ray cluster on this machine for tests: what its nodes are doing now, and how one of them is lost."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

# Bytes, of each node.
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


@contextmanager
def two_nodes() -> Iterator[Any]:
    """A cluster of two nodes with room for one task each, reachable from this machine only; skips without Ray."""
    ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
    from ray._raylet import AuthenticationTokenLoader
    from ray.cluster_utils import Cluster

    tokens = AuthenticationTokenLoader.instance()  # reads a token once per process: an earlier cluster's, by now
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(16))
        # Ray replaces 127.0.0.1 by the address of a network interface.
        head = {**NODE, "node_ip_address": "127.0.0.2", "include_dashboard": False}
        tokens.reset_cache()
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            add_node(cluster)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
            tokens.reset_cache()


def add_node(cluster: Any) -> None:
    """The cluster's second node, a raylet of its own."""
    cluster.add_node(**NODE, node_ip_address="127.0.0.3")


def raylet(node: Any) -> psutil.Process:
    """A node's own process, the parent of its workers."""
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def busy_with(task: str, among: psutil.Process) -> list[psutil.Process]:
    """The process's descendants that execute a task of that name now: Ray workers' titles say so."""
    found = []
    for process in among.children(recursive=True):
        try:
            if process.cmdline()[:1] == [f"ray::{task}"]:
                found.append(process)
        except psutil.Error:
            continue
    return found


def stopped_in(task: str, among: psutil.Process, ready: Callable[[], bool]) -> psutil.Process:
    """Once `ready` says so, stop a worker in its tracks (SIGSTOP) while it executes such a task."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        time.sleep(0.02)
        for process in busy_with(task, among) if ready() else []:
            process.suspend()
            time.sleep(0.02)
            if process.cmdline()[:1] == [f"ray::{task}"] and ready():
                return process
            process.resume()
    raise AssertionError(f"no worker executed {task}")
