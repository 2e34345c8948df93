"""Damaged inputs end as rows or as quarantine entries, within bounded memory and time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline_lib.fuzz import MEMORY_LIMIT


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_mutated_files_and_images_become_rows_or_quarantine(tmp_path: Path, count: int) -> None:
    command = [sys.executable, "-m", "tests.pipeline_lib.fuzz", str(tmp_path), str(count), "2026"]
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=0.5 * count + 60)
    assert result.returncode == 0, f"ended with {result.returncode}\n{result.stderr[-3000:]}"
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["mutants"] == count
    assert found["silent"] == found["lost_rows"] == 0, "a file left neither rows nor quarantine entries"
    assert found["files"] >= 0.99 * count, "only a footer that says there are no rows leaves nothing"
    assert found["peak_bytes"] < MEMORY_LIMIT
    for reason in ("file-unreadable", "image-truncated", "image-undecodable", "too-many-pixels"):
        assert found[f"rejected:{reason}"] > count // 100
    assert found["pairs"] > count // 10
