"""What must hold after a round, and when all is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil

from deploy.stack import StackSettings
from deploy.stack.api import HELD_STATES
from deploy.stack.control import recorded_state
from deploy.stack.processes import owned_processes
from tests.chaos.evidence import Evidence, open_runs
from tests.chaos.rounds import WINDOW_S
from tests.chaos.site import Site


@dataclass(frozen=True)
class Check:
    """One thing that must hold, and what was found."""

    what: str
    holds: bool
    found: str


def compare(found: Evidence, expected: Evidence) -> list[Check]:
    """A disturbed round against the undisturbed run."""
    steps = len(expected.curves["train/loss"])
    return [
        _same("digests of the stages", found.stages, expected.stages, f"{len(expected.stages)} stages equal"),
        _same("datasets in the store, re-hashed", found.datasets, expected.datasets, f"{len(found.datasets)} equal"),
        Check("files that no manifest knows", not found.strays, ", ".join(found.strays) or "none"),
        _same("pairs kept, dropped, in quarantine", found.counts, expected.counts, f"{found.counts['rows']} rows"),
        _same(
            "metrics in MLflow, each step once",
            found.curves,
            expected.curves,
            f"{len(found.curves)} metrics, {steps} steps",
        ),
        _same("parameters of the MLflow run", found.params, expected.params, f"{len(found.params)} equal"),
        _same("files of the MLflow run", found.artifacts, expected.artifacts, f"{len(found.artifacts)} files"),
        _same("files of the model as pulled", found.model, expected.model, f"{len(found.model)} files, same bytes"),
        _same("registered versions, aliases, tags", found.registry, expected.registry, "one version"),
        Check("the MLflow run's end", found.status == "FINISHED", found.status),
    ]


def settled(site: Site) -> list[Check]:
    """What nobody may have left behind, as soon as it holds, or after the detection window."""
    checks: list[tuple[str, Callable[[], list[str]]]] = [
        ("orphan processes", lambda: orphans(site.settings) + sorted(site.jobs())),
        ("flow runs left running", lambda: _held(site, "flow_runs")),
        ("task runs left running", lambda: _held(site, "task_runs")),
        ("MLflow runs left running", lambda: open_runs(site)),
        ("files of trainings", lambda: [path.name for path in (site.settings.state / "scratch").glob("*")]),
    ]
    deadline = time.monotonic() + WINDOW_S
    while any(look() for _, look in checks) and time.monotonic() < deadline:
        time.sleep(2.0)
    return [
        Check(what, not left, f"{len(left)}: {', '.join(left)}" if left else "none")
        for what, look in checks
        for left in [look()]
    ]


def _same(what: str, found: Any, expected: Any, figure: str) -> Check:
    if found == expected:
        return Check(what, True, figure)
    if not isinstance(found, dict) or not isinstance(expected, dict):
        return Check(what, False, f"{found} instead of {expected}")
    wrong = [key for key in sorted({*found, *expected}) if found.get(key) != expected.get(key)]
    first = wrong[0]
    text = f"{len(wrong)} differ: {', '.join(wrong)}; {first}: {found.get(first)} instead of {expected.get(first)}"
    return Check(what, False, text[:2000])


def orphans(settings: StackSettings) -> list[str]:
    """Processes of the stack that are not below a component of the supervisor's."""
    components = (recorded_state(settings) or {}).get("components", {})
    pids = {one["pid"] for one in components.values()}
    left = []
    for process in owned_processes(settings):
        with suppress(psutil.NoSuchProcess):
            if not pids & {process.pid, *(parent.pid for parent in process.parents())}:
                left.append(f"{process.pid} {' '.join(process.cmdline())[:80]}")
    return left


def _held(site: Site, kind: str) -> list[str]:
    found = site.deployments.post(f"{kind}/filter", {kind: {"state": {"type": {"any_": HELD_STATES}}}})
    return [f"{run['name']} {run['state_type']}" for run in found]
