"""The benchmark of evaluation: what it times, and that both of its sides paint the same images."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.bench import evaluate as bench


def test_the_stopwatch_counts_calls_within_calls_once() -> None:
    def work(seconds: float) -> float:
        started = time.thread_time()
        while time.thread_time() - started < seconds:
            pass
        return seconds

    module = SimpleNamespace(inner=lambda: work(0.05))
    module.outer = lambda: (work(0.05), module.inner())
    watch = bench.Stopwatch()
    watch.wrap(module, "inner")
    watch.wrap(module, "outer")
    assert module.outer() == (0.05, 0.05)
    assert 0.1 <= watch.seconds < 0.15
    time.sleep(0.1)
    module.inner()
    assert 0.15 <= watch.seconds < 0.2, "what is neither within a call nor on the processor does not count"


@pytest.mark.slow
def test_both_sides_paint_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("ours", "plain"):
        function = getattr(bench, side)
        monkeypatch.setattr(bench, side, lambda *given, function=function, steps=1: function(*given, steps=1))
    found = bench.measure(tmp_path, prompts=2, checkpoints=2)
    assert found["max_difference"] <= 1
    assert (found["images"], found["plain_images"]) == (6, 8)
    assert found["passes_ratio"] == 1.333
    assert 0 < found["compute_share"] < 1
