"""Time left, on simulated clocks: right within a factor of two from the third report on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline_lib.core.progress import KEPT, Pace, duration_text, rate_text


def check(pace: Pace, ends: Sequence[float], before: int = 0, first: int = 3) -> None:
    """Report one unit more at each time in `ends`, and compare what is left from report `first` on with what comes."""
    total = before + len(ends)
    for number, time in enumerate(ends[:-1], start=1):
        pace.report(time, before + number)
        left = pace.seconds_left(total)
        if number >= first:
            assert left is not None
            assert (ends[-1] - time) / 2 <= left <= 2 * (ends[-1] - time), f"report {number} at {time}"


def test_steady_work() -> None:
    check(Pace(100.0), [100.0 + 3.0 * n for n in range(1, 50)])


def test_bursts() -> None:
    """Four workers that end together, a moment apart; the last wave is whole."""
    ends = [60.0 * wave + 0.2 * worker for wave in range(1, 11) for worker in range(4)]
    pace = Pace(0.0)
    for number, time in enumerate(ends, start=1):
        pace.report(time, number)
        if number >= 3 and number < 37:
            left, truth = pace.seconds_left(40), 600.6 - time
            assert left is not None and truth / 2 <= left <= 2 * truth, f"report {number}"


def test_a_slow_start_does_not_count_on_the_clock_of_the_work() -> None:
    """The trainer's clock stands while it loads torch and the base for 36 s; it is no clock of this process."""
    check(Pace(5000.0), [0.5 * n for n in range(1, 300)])


@pytest.mark.parametrize(("before", "now"), [(0.5, 2.0), (10.0, 0.5)])
def test_a_resumed_training_counts_its_own_steps(before: float, now: float) -> None:
    """170 steps were read again at once; the trainer has started at step 150, with a new clock and another speed."""
    pace = Pace(0.0)
    for step in range(1, 171):
        pace.report(before * step, step)
    check(pace, [now * step for step in range(21, 151)], before=170)


@pytest.mark.parametrize("found", [0.01, 0.5])
def test_what_was_there_says_nothing_about_the_rate(found: float) -> None:
    pace = Pace(0.0, there=400)
    for number in range(1, 401):
        pace.report(found * number, number)
        assert pace.seconds_left(500) is None
    began = 400 * found
    check(pace, [began + 30.0 * n for n in range(1, 101)], before=400)


def test_what_was_there_unannounced_does_not_count_for_longer_than_it_took() -> None:
    pace = Pace(0.0)
    for number in range(1, 101):
        pace.report(0.1 * number, number)
    check(pace, [10.0 + 30.0 * n for n in range(1, 51)], before=100, first=1)


@pytest.mark.parametrize("seconds", [0.5, 8.0])
def test_another_rate_is_known_when_it_has_lasted_as_long_as_the_first(seconds: float) -> None:
    pace = Pace(0.0)
    for number in range(1, 101):
        pace.report(2.0 * number, number)
    there = int(200 / seconds)
    check(pace, [200.0 + seconds * n for n in range(1, 3 * there)], before=100, first=there)


def test_memory_and_time_do_not_grow_with_the_reports() -> None:
    pace = Pace(0.0)
    for number in range(1, 100_001):
        pace.report(0.01 * number, number, 1000 * number)
    assert len(pace.marks) <= KEPT
    assert pace.rate() == pytest.approx(100) and pace.bytes_rate() == pytest.approx(100_000)
    assert pace.seconds_left(100_000) is None, "nothing is left"


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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (99.0, "99 s"), (100.0, "2 min"), (5400.0, "90 min"), (12_600.0, "3.5 h"), (2.2e6, "611 h")],
)
def test_a_duration_has_a_unit_to_read(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
