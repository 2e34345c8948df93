"""The chaos program's checks find what is planted."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.stack import current_settings
from deploy.stack.settings import component_environment
from pipeline_lib.core.errors import DatasetCorruptError
from pipeline_lib.core.store import writer
from tests.chaos.checks import compare, orphans
from tests.chaos.evidence import Evidence, datasets_in
from tests.chaos.rounds import deck
from tests.chaos.site import KINDS

WHOLE = Evidence(
    stages={"ingest": "a", "train": "b"},
    datasets={"ingest/0": "a", "model/0": "b"},
    strays=[],
    counts={"rows": 3, "rejected:image": 1},
    curves={"train/loss": [(1, 0.7), (2, 0.6)]},
    params={"train.steps": "2"},
    artifacts=["evaluation/report.html"],
    model={"unet/weights": "c"},
    registry={"versions": {"1": {"tag": "x"}}, "aliases": {"candidate": "1"}, "models": ["READY"]},
    status="FINISHED",
)
DEFECTS: list[dict[str, Any]] = [
    {"stages": {"ingest": "a", "train": "other"}},
    {"datasets": {"ingest/0": "a"}},
    {"datasets": {**WHOLE.datasets, "model/1": "b"}},
    {"strays": ["ingest/0/.part.tmp"]},
    {"counts": {"rows": 3}},
    {"curves": {"train/loss": [(1, 0.7)]}},
    {"curves": {"train/loss": [(1, 0.7), (1, 0.7), (2, 0.6)]}},
    {"params": {}},
    {"artifacts": []},
    {"model": {"unet/weights": "other"}},
    {"registry": {**WHOLE.registry, "models": ["PENDING", "READY"]}},
    {"status": "RUNNING"},
]


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: next(iter(defect)))
def test_each_difference_is_found_by_its_check(defect: dict[str, Any]) -> None:
    assert all(check.holds for check in compare(WHOLE, WHOLE))
    wrong = [check for check in compare(replace(WHOLE, **defect), WHOLE) if not check.holds]
    assert len(wrong) == 1 and wrong[0].found


def test_files_without_a_manifest_and_changed_bytes_are_found(tmp_path: Path) -> None:
    whole = writer(str(tmp_path), "model", 1, {})
    done = whole.commit([whole.write_bytes("weights", b"x")])
    unfinished = writer(str(tmp_path), "ingest", 1, {})
    unfinished.write_bytes("rows", b"x")
    assert datasets_in(str(tmp_path)) == ({done.path(): done.digest}, [f"ingest/{unfinished.key}/rows"])
    (Path(done.uri) / "weights").write_bytes(b"y")
    with pytest.raises(DatasetCorruptError):
        datasets_in(str(tmp_path))


@pytest.mark.integration
def test_a_process_that_lost_its_component_is_found(stack: dict[str, str]) -> None:
    settings = current_settings(stack)
    assert orphans(settings) == []
    marked = component_environment(settings, "worker")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=marked) as process:
        try:
            assert [line.split()[0] for line in orphans(settings)] == [str(process.pid)]
        finally:
            process.kill()


def test_every_kind_is_killed_equally_often() -> None:
    drawn = deck(30, random.Random(0))
    assert Counter(drawn) == dict.fromkeys(KINDS, 5)
    assert drawn == deck(30, random.Random(0)) != deck(30, random.Random(1))
