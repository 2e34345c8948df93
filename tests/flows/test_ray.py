"""Ingest, score and encode on two Ray nodes, of which one is lost in the middle of every stage."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from flows.encode import encode
from flows.ingest import ingest
from flows.score import score
from pipeline_lib.core.store import Dataset, open_dataset, verify
from pipeline_lib.shapes import pairs_dir
from tests.flows.ray_cluster import add_node, raylet, stopped_in, two_nodes

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("api"),
]
SHARDS, PAIRS = 8, 100
Run = Callable[..., Dataset]


def ingested(source: str, store: str, **where: Any) -> Dataset:
    return open_dataset(ingest(source=source, store=store, **where).uri)


def scored(source: str, store: str, **where: Any) -> Dataset:
    pairs = ingested(source, store).uri
    return open_dataset(score(pairs=pairs, scorers=["clip"], store=store, **where)["clip"].uri)


def encoded(source: str, store: str, **where: Any) -> Dataset:
    return open_dataset(encode(pairs=ingested(source, store).uri, store=store, **where).uri)


STAGES: dict[str, tuple[Run, str, str]] = {
    "ingest": (ingested, "ingest-unit", "ingest/*/images"),
    "score": (scored, "score-shard", "scores-clip/*"),
    "encode": (encoded, "encode-shard", "encoded/*/latents"),
}
"""Stage -> how it runs, the task that makes a shard, where the shards lie in the store."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The first pairs of the built-in world, in as many files, and so shards, as the tests want."""
    table = pq.read_table(min(Path(pairs_dir()).rglob("train-*.parquet")))
    folder = tmp_path_factory.mktemp("source")
    for index in range(SHARDS):
        pq.write_table(table.slice(index * PAIRS, PAIRS), folder / f"train-{index:05d}-of-{SHARDS:05d}.parquet")
    return str(folder)


@pytest.fixture(scope="module")
def threads(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store for what threads make."""
    return str(tmp_path_factory.mktemp("threads"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_nodes() as nodes:
        yield nodes


def lose_a_node(cluster: Any, task: str, shards: Callable[[], int], lost: list[tuple[int, int]]) -> None:
    """SIGKILL the second raylet and its workers, one of which is in the middle of a shard; notes that worker, and how
    many shards there were."""
    (node,) = cluster.worker_nodes
    parent = raylet(node)
    worker = stopped_in(task, parent, lambda: 0 < shards() < SHARDS - 1)
    lost.append((worker.pid, shards()))
    for process in [parent, *parent.children(recursive=True)]:
        process.kill()


@pytest.mark.parametrize("stage", STAGES)
def test_a_node_lost_in_the_middle_costs_no_row(
    stage: str, tmp_path: Path, source: str, threads: str, cluster: Any
) -> None:
    run, task, folder = STAGES[stage]
    expected = run(source, threads)
    if not cluster.worker_nodes:
        add_node(cluster)
    (node,) = cluster.worker_nodes
    lost: list[tuple[int, int]] = []

    def shards() -> int:
        return len(list(tmp_path.glob(f"{folder}/part-*.parquet")))

    killer = threading.Thread(target=lose_a_node, args=(cluster, task, shards, lost), daemon=True)
    killer.start()
    dataset = run(source, str(tmp_path), runner="ray", address=cluster.address)
    killer.join(120)
    ((worker, there),) = lost
    assert 0 < there < SHARDS - 1 and not psutil.pid_exists(worker), "a node was lost in the middle"
    cluster.remove_node(node, allow_graceful=False)
    verify(dataset)
    assert dataset.digest == expected.digest
    assert dataset.counts == expected.counts
    assert [(shard.path, shard.rows) for shard in dataset.shards] == [(s.path, s.rows) for s in expected.shards]
