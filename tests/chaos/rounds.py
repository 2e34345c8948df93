"""Rounds: `align/shapes` from an empty store to its end, however often its processes are killed meanwhile."""

from __future__ import annotations

import logging
import random
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from deploy.stack.api import call
from tests.chaos.site import KINDS, SERVERS, Site

DEPLOYMENT = "align/shapes"
SIZE: dict[str, Any] = {"limit": 600, "steps": 60, "num_prompts": 24, "train": {"checkpoint_every": 10}}
PAUSE_S = (0.5, 30.0)
"""How long the flow's process lives between injections."""
KILLS_PER_ROUND = 6
"""Then a round may come to its end, and the next begins: the later stages are reached in each."""
S3_PAUSE_S = (2.0, 8.0)
WINDOW_S = 120.0
"""Within this time the stack must notice that a run's processes are gone, and close the run."""
ROUND_S = 1200.0
TICK_S = 0.3
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

logger = logging.getLogger(__name__)


class ChaosError(Exception):
    """The pipeline did not come back by itself."""


@dataclass
class Injection:
    """One kill, and what became of it; `at` is seconds since the program started, `recovered` since the kill."""

    number: int
    at: float
    kind: str
    pid: int
    with_children: bool
    stage: str
    run: str
    state: str = ""
    recovered: float | None = None
    killed: float = field(default_factory=time.monotonic)


@dataclass
class Chaos:
    """The injections so far, and those that are left: kinds in random order."""

    rng: random.Random
    deck: list[str]
    done: list[Injection] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def draw(self, alive: dict[str, Any]) -> str | None:
        """The next kind to kill: a trainer if there is one, as it lives in one stage only, else the deck's next."""
        choice = [kind for kind in self.deck if kind in alive]
        if "trainer" in choice and self.rng.random() < 0.5:
            return "trainer"
        return choice[0] if choice else None


def deck(injections: int, rng: random.Random) -> list[str]:
    """`injections` kinds in random order, each as often as the others (at most once more)."""
    kinds = [KINDS[i % len(KINDS)] for i in range(injections)]
    rng.shuffle(kinds)
    return kinds


def undisturbed(site: Site, store: str) -> dict[str, Any]:
    """A completed run that nothing was done to."""
    return _round(site, store, Chaos(random.Random(0), []), 0.0)


def disturbed(site: Site, store: str, chaos: Chaos, span: float) -> dict[str, Any]:
    """The run that completed in the end, after others of the same parameters that were killed or failed.

    The first kill comes at any moment of the `span` seconds that an undisturbed run takes.
    """
    return _round(site, store, chaos, chaos.rng.uniform(PAUSE_S[0], span))


def _round(site: Site, store: str, chaos: Chaos, pause: float) -> dict[str, Any]:
    begun = seen = now = time.monotonic()
    last_kill = len(chaos.done) + KILLS_PER_ROUND
    run = start(site, store)
    while True:
        site.tend()
        alive = site.alive()
        _note_recoveries(chaos, alive)
        last, now = now, time.monotonic()
        pause -= now - last if "flow" in alive else 0.0
        state = _state(site, run)
        if state is None or state == "SCHEDULED" or "flow" in alive:
            seen = now
        if state in ENDED:
            for one in chaos.done:
                one.state = one.state or (state if one.run == run else "")
            if state == "COMPLETED":
                return site.deployments.flow_run(run)
            if not chaos.done:
                logs = site.deployments.logs(site.deployments.flow_run(run))
                raise ChaosError(f"{run} is {state}, and nothing was killed:\n{logs}")
            run, seen = start(site, store), time.monotonic()
        if now - seen > WINDOW_S:
            raise ChaosError(f"{run} is {state}, and for {WINDOW_S:.0f} s no process of it has been alive")
        if now - begun > ROUND_S:
            raise ChaosError(f"{run} is {state}: {store} is not complete after {ROUND_S:.0f} s")
        if pause <= 0:
            if len(chaos.done) < last_kill and (kind := chaos.draw(alive)):
                _inject(site, chaos, kind, run)
            pause = chaos.rng.uniform(*PAUSE_S)
        time.sleep(TICK_S)


def start(site: Site, store: str) -> str:
    """Run the deployment as a user does who finds the server down: try again until it is created. The run's name."""
    name = f"chaos-{uuid.uuid4().hex[:8]}"
    parameters = {"store": store, **SIZE}
    deadline = time.monotonic() + WINDOW_S
    while True:
        site.tend()
        try:
            deployment = call(f"{site.settings.prefect_url}/api/deployments/name/{DEPLOYMENT}", attempts=1)
            body = {"name": name, "idempotency_key": name, "parameters": parameters, "state": {"type": "SCHEDULED"}}
            site.deployments.post(f"deployments/{deployment['id']}/create_flow_run", body)
            return name
        except OSError as error:
            if time.monotonic() > deadline:
                raise ChaosError(f"the Prefect server does not take a run after {WINDOW_S:.0f} s: {error}") from error
            time.sleep(TICK_S)


def _inject(site: Site, chaos: Chaos, kind: str, run: str) -> None:
    stage = _stage(site, run)
    process = site.alive().get(kind)
    if process is None:  # it has ended since
        return
    # A server's or a worker's death with all they started is a machine's; alone, an orphan is left behind.
    with_children = kind in (*SERVERS, "worker") and chaos.rng.random() < 0.5
    at = time.monotonic() - chaos.started
    injection = Injection(len(chaos.done) + 1, at, kind, process.pid, with_children, stage, run)
    site.kill(kind, process, with_children, chaos.rng.uniform(*S3_PAUSE_S))
    chaos.deck.remove(kind)
    chaos.done.append(injection)
    logger.info("%.0f s: killed %s (process %d) in %s", at, kind, process.pid, stage)


def _note_recoveries(chaos: Chaos, alive: dict[str, Any]) -> None:
    for one in chaos.done:
        if one.recovered is None and one.kind in alive and alive[one.kind].pid != one.pid:
            one.recovered = time.monotonic() - one.killed


def _state(site: Site, run: str) -> str | None:
    """The run's state type; None while the server does not answer."""
    try:
        (found,) = _ask(site, "flow_runs/filter", {"flow_runs": {"name": {"any_": [run]}}})
    except OSError:
        return None
    return str(found["state_type"])


def _stage(site: Site, run: str) -> str:
    """The stages whose flows run, "start" before the first; "?" while the Prefect server does not answer."""
    try:
        (parent,) = _ask(site, "flow_runs/filter", {"flow_runs": {"name": {"any_": [run]}}})
        wanted = {"parent_flow_run_id": {"any_": [parent["id"]]}, "state": {"type": {"any_": ["RUNNING"]}}}
        flows = _ask(site, "flows/filter", {"flow_runs": wanted})
    except OSError:
        return "?"
    return "+".join(sorted(flow["name"] for flow in flows)) or "start"


def _ask(site: Site, path: str, payload: dict[str, Any]) -> list[dict[str, Any]]:
    return list(call(f"{site.settings.prefect_url}/api/{path}", payload, timeout_s=3.0, attempts=1))
