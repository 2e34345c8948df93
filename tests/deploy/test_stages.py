"""How a run of `align` is shown while it is at work: a bar per stage, or a line now and then."""

from __future__ import annotations

import io
import re
from itertools import count

import pytest
from rich.console import Console

from deploy.bars import Bars, Lines, shown
from deploy.stages import NAMES, Stage


def looks(train: Stage) -> list[Stage]:
    """Everything before training has ended."""
    before = [Stage(name, "COMPLETED", 2.0) for name in NAMES[:4]]
    return [*before, train, Stage("evaluate"), Stage("register")]


def at(steps: int) -> Stage:
    return Stage("train", "RUNNING", 9.0, steps / 3, f"{steps} of 300 steps, 4.0 steps/s, {300 - steps} s left")


def test_a_terminal_shows_a_bar_for_each_stage_with_rate_and_time_left() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    with shown(console) as view:
        assert isinstance(view, Bars)
        view.show(looks(at(120)))
    written = console.file.getvalue()  # type: ignore[attr-defined]
    text = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", written).replace("\r", "\n")
    said = [line for line in text.splitlines() if line.startswith(NAMES)][-len(NAMES) :]
    assert [line.split()[0] for line in said] == list(NAMES)
    assert "9 s 120 of 300 steps, 4.0 steps/s, 180 s left" in said[4] and "2 s completed" in said[0]
    assert max(map(len, said)) <= 80


def test_elsewhere_a_line_tells_the_end_of_each_stage_and_quarters_of_long_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count(0.0, 4.0)  # seconds, at each look at it
    monkeypatch.setattr("deploy.bars.time.monotonic", lambda: next(clock))
    with shown(Console(file=io.StringIO())) as view:
        assert isinstance(view, Lines)
        for steps in range(0, 300):
            view.show(looks(at(steps)))
        view.show(looks(Stage("train", "FAILED", 80.0, 100.0)))
    said = capsys.readouterr().out.splitlines()
    assert said[:4] == [f"{name:<9}    2.0 s  completed" for name in NAMES[:4]]
    told = [int(line.split()[3]) for line in said[4:-1]]
    assert [step // 75 for step in told] == [1, 2, 3] and all(step % 75 < 5 for step in told)
    assert said[-1] == "train       80.0 s  failed"
