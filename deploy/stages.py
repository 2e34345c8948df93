"""How far a run of `align` is, stage by stage: its subflows as Prefect's API shows them, and what they report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from deploy.flow_runs import FlowRun, ask
from deploy.stack import StackSettings

NAMES = ("ingest", "score", "label", "encode", "train", "evaluate", "register")


@dataclass(frozen=True)
class Stage:
    """A stage of the chain. `state` is Prefect's type of its subflow's state, empty before it begins."""

    name: str
    state: str = ""
    seconds: float = 0.0
    percent: float = 0.0
    """Of the part that is at work: a stage may have several, such as painting and judging."""
    words: str = ""
    """What that part reports: what is done of what, the rate, the time left."""


@dataclass
class Watched:
    """Reads the stages of one run again and again; what has ended is not asked for twice."""

    settings: StackSettings
    flows: dict[str, str] = field(default_factory=dict)
    """Names of flows by id."""
    ended: dict[str, Stage] = field(default_factory=dict)

    def stages(self, run: FlowRun) -> list[Stage]:
        """All stages, in their order.

        Raises:
            OSError: the server does not answer.
        """
        found = dict(self.ended)
        for raw in self._below([run.id]):
            name = self._flow(raw["flow_id"]).partition("-")[0]  # train-balanced
            if name not in NAMES or name in self.ended:
                continue
            state, seconds = raw["state_type"], float(raw["estimated_run_time"])
            found[name] = Stage(name, state, seconds)
            if state == "COMPLETED":
                self.ended[name] = found[name]
            elif state == "RUNNING":
                percent, words = self._progress(raw["id"])
                found[name] = Stage(name, state, seconds, percent, words.removeprefix(f"{name}: "))
        return [found.get(name, Stage(name)) for name in NAMES]

    def _progress(self, run_id: str) -> tuple[float, str]:
        """What the run, or the one that moved last of those below it, has reported."""
        runs = [run_id, *(raw["id"] for raw in self._below([run_id]))]
        wanted = {"flow_run_id": {"any_": runs}, "type": {"any_": ["progress"]}}
        query = {"artifacts": wanted, "sort": "UPDATED_DESC", "limit": 1}
        for artifact in ask(self.settings, "artifacts/filter", query):
            words = str(artifact["description"])
            if any(map(str.isdigit, words)):  # none before the first report
                return float(artifact["data"]), words
        return 0.0, ""

    def _below(self, parents: list[str]) -> Iterator[dict[str, Any]]:
        query = {"flow_runs": {"parent_flow_run_id": {"any_": parents}}, "sort": "START_TIME_ASC"}
        yield from ask(self.settings, "flow_runs/filter", query)

    def _flow(self, flow_id: str) -> str:
        if flow_id not in self.flows:
            self.flows[flow_id] = str(ask(self.settings, f"flows/{flow_id}")["name"])
        return self.flows[flow_id]
