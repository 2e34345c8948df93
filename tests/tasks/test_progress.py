"""What the reporter says while work goes on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tasks import progress


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
    assert lines[-1] in (", 8 min left", ", 9 min left", ", 10 min left"), "ten more, one a minute"


def test_time_left_follows_the_clock_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress, "get_run_logger", lambda: SimpleNamespace(info=lambda *_: None))
    monkeypatch.setattr(progress, "create_progress_artifact", lambda *_, **__: "id")
    monkeypatch.setattr(progress, "update_progress_artifact", lambda *_, description: said.append(description))
    monkeypatch.setattr(progress, "ARTIFACT_SECONDS", 0.0)
    tell = progress.reporter("train", "steps")
    for step in range(1, 4):  # all within a moment here, as they are read together
        tell(step, 100, clock=2.0 * step)
    assert said[-1] == "train: 3 of 100 steps, 30.0 steps/min, 3 min left"
