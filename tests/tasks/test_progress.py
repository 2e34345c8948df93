"""Rates of work that takes from a moment to hours."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tasks import progress
from tasks.progress import rate_text


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0.0, "0.0 models/s"),
        (1234.56, "1234.6 models/s"),
        (1.0, "1.0 models/s"),
        (0.5, "30.0 models/min"),
        (1 / 60, "1.0 models/min"),
        (1 / 90, "40.0 models/h"),
        (1e-5, "0.0 models/h"),
    ],
)
def test_a_rate_is_in_the_shortest_period_that_has_one(rate: float, text: str) -> None:
    assert rate_text(rate, "models") == text


def test_time_left_follows_several_parts_and_forgets_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    clock = 0.0
    monkeypatch.setattr(progress, "get_run_logger", lambda: SimpleNamespace(info=lambda *said: lines.append(said[-1])))
    monkeypatch.setattr(progress, "create_progress_artifact", lambda *_, **__: "id")
    monkeypatch.setattr(progress, "update_progress_artifact", lambda *_, **__: None)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock)
    tell = progress.reporter("sweep", "models")
    for done in range(1, 21):
        # The store has the first ten; the others take two minutes and end two by two.
        clock += 0.1 if done <= 10 else 109.0 if done % 2 else 11.0
        tell(done, 30)
    left = [float(line.removeprefix(", ").removesuffix(" s left")) for line in lines]
    assert left[-1] == pytest.approx(10 * 60.0, rel=0.2), "one a minute"
