"""The score flow against a real (temporary) Prefect API: threads, a real Ray cluster, a worker killed by SIGKILL."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ParameterTypeError

from flows.score import score
from pipeline_lib import scoring
from pipeline_lib.core import resident
from pipeline_lib.core.errors import ConfigError, SourceError
from pipeline_lib.core.store import open_dataset, verify
from pipeline_lib.presets import PICKAPIC_V2
from pipeline_lib.scoring import engine
from pipeline_lib.shapes import pairs_dir
from tasks import runners
from tasks.outcome import Outcome
from tests.flows.artifacts import artifact
from tests.flows.ray_cluster import stopped_in, two_nodes

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), pytest.mark.usefixtures("api")]
SHARDS, PAIRS = 6, 230
SCORERS = ["clip"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The first pairs of the built-in world, in as many files, and so shards, as the tests want."""
    table = pq.read_table(min(Path(pairs_dir()).rglob("train-*.parquet")))
    folder = tmp_path_factory.mktemp("source")
    for index in range(SHARDS):
        pq.write_table(table.slice(index * PAIRS, PAIRS), folder / f"train-{index:05d}-of-{SHARDS:05d}.parquet")
    return str(folder)


@pytest.fixture(scope="module")
def expected(source: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What threads make of it."""
    return score(source=source, scorers=SCORERS, store=str(tmp_path_factory.mktemp("expected")))


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster of two nodes."""
    with two_nodes() as nodes:
        yield nodes.address


def digests(outcomes: dict[str, Outcome]) -> dict[str, str]:
    for outcome in outcomes.values():
        verify(open_dataset(outcome.uri))
    return {name: outcome.digest for name, outcome in outcomes.items()}


def shard_name(index: int) -> str:
    return f"part-{index:05d}.parquet"


def published(store: Path) -> dict[str, int]:
    """Modification times of the finished score shards."""
    return {path.name: path.stat().st_mtime_ns for path in store.glob("scores-clip/*/part-*.parquet")}


def scored_by() -> dict[str, int]:
    """Name of the shard's file -> the process that scored it, by what the newest run's tasks have logged."""
    with get_client(sync_client=True) as client:
        named = FlowFilter(name=FlowFilterName(any_=["score-shards"]))
        (run,) = client.read_flow_runs(flow_filter=named, sort=FlowRunSort.START_TIME_DESC, limit=1)
        lines = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])), limit=200)
    found = [re.search(r"shard (\d+): .*, process (\d+), cpu", line.message) for line in lines]
    return {shard_name(int(match[1])): int(match[2]) for match in found if match}


def test_shards_are_tasks_that_share_one_load(
    tmp_path: Path, source: str, expected: dict[str, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = threading.Lock()
    now = most = failures = loads = 0
    original_score, original_load = scoring.score_shard, engine.load_scorers

    def counting(work: Any, loaded: Any, ingested: Any, index: int) -> Any:
        nonlocal now, most, failures
        with lock:
            now, most = now + 1, max(most, now + 1)
        try:
            if index == 3 and not failures:
                failures = 1
                raise ConnectionResetError("the store is away for a moment")
            time.sleep(0.2)
            return original_score(work, loaded, ingested, index)
        finally:
            with lock:
                now -= 1

    def load(*args: Any) -> Any:
        nonlocal loads
        loads += 1
        return original_load(*args)

    monkeypatch.setattr(scoring, "score_shard", counting)
    monkeypatch.setattr(engine, "load_scorers", load)
    store = str(tmp_path / "store")
    outcomes = score(source=source, scorers=SCORERS, max_workers=2, store=store)
    assert (most, loads) == (2, 1)
    assert failures == 1, "an I/O error was retried"
    assert digests(outcomes) == digests(expected)
    assert not resident._resident, "what comes next has the memory"
    progress = artifact("score-progress")
    assert progress.data == 100.0 and f"{SHARDS} of {SHARDS} shards" in progress.description
    again = score(source=source, scorers=SCORERS, store=store)
    assert again["clip"].status == "skipped" and digests(again) == digests(expected)
    assert loads == 1, "nothing is loaded for a finished dataset"


def test_one_shard_at_a_time_and_a_failed_run_is_continued(
    tmp_path: Path, source: str, expected: dict[str, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    original = scoring.score_shard

    def failing(work: Any, loaded: Any, ingested: Any, index: int) -> Any:
        seen.append(index)
        if index == 2:
            raise SourceError("not what it was", "Look at it.")
        return original(work, loaded, ingested, index)

    monkeypatch.setattr(scoring, "score_shard", failing)
    with pytest.raises(SourceError, match="not what it was"):
        score(source=source, scorers=SCORERS, store=str(tmp_path))
    assert seen == [0, 1, 2], "one CPU is one slot; no retry of what is no I/O error; nothing is started after it"
    before = published(tmp_path)
    assert sorted(before) == [shard_name(0), shard_name(1)]
    monkeypatch.setattr(scoring, "score_shard", original)
    assert digests(score(source=source, scorers=SCORERS, store=str(tmp_path))) == digests(expected)
    assert before.items() <= published(tmp_path).items(), "a finished shard was written again"


def kill_a_scoring_worker(store: Path, killed: dict[int, set[str]]) -> None:
    """In the middle of the run, stop a worker in its tracks, see what it is doing, and kill it if it is scoring."""
    process = stopped_in("score-shard", psutil.Process(), lambda: 1 < len(published(store)) < SHARDS - 1)
    killed[process.pid] = set(published(store))
    process.kill()


def test_ray_gives_the_same_bytes_although_a_worker_is_killed(
    tmp_path: Path, source: str, expected: dict[str, Outcome], cluster: str
) -> None:
    killed: dict[int, set[str]] = {}
    killer = threading.Thread(target=kill_a_scoring_worker, args=(tmp_path, killed), daemon=True)
    killer.start()
    outcomes = score(source=source, scorers=SCORERS, runner="ray", address=cluster, store=str(tmp_path))
    ((victim, before),) = killed.items()
    assert digests(outcomes) == digests(expected)
    processes = scored_by()
    late = {shard: process for shard, process in processes.items() if shard not in before}
    assert late.keys() == {shard_name(index) for index in range(SHARDS)} - before
    assert victim not in late.values() and os.getpid() not in processes.values()


def test_what_cannot_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = str(tmp_path)
    with pytest.raises(ParameterTypeError, match="max_workers"):
        score(max_workers=0, store=store)
    with pytest.raises(ConfigError, match="runner=thread takes no address"):
        score(address="auto", store=store)
    with pytest.raises(ConfigError, match=r"No Ray cluster answers at 127.0.0.1:9"):
        score(runner="ray", address="127.0.0.1:9", store=store)
    monkeypatch.setattr(runners, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install -e '.\[ray\]'"):
        score(runner="ray", store=store)
    assert not list(tmp_path.iterdir()), "refused before anything was read"


def test_deployment_of_pickapic_reads_the_pinned_mirror() -> None:
    text = (Path(__file__).resolve().parents[2] / "deploy" / "prefect.yaml").read_text()
    found = [d for d in yaml.safe_load(text)["deployments"] if d["entrypoint"] == "flows/score.py:score"]
    assert {d["name"]: d["parameters"].get("source") for d in found} == {"shapes": None, "pickapic-v2": PICKAPIC_V2}
