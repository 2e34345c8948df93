"""Rates and time left on the command line, on a simulated clock."""

from __future__ import annotations

from pipeline_lib.cli.bars import paces


def test_what_the_first_report_found_done_is_no_speed() -> None:
    now = 0.0
    pace = paces(lambda: now)
    assert pace("encode", 400, 500) == ""
    said = []
    for done in range(401, 501):
        now += 30.0
        said.append(pace("encode", done, 500))
    assert said[2] == "2.0 shards/min, 48 min left"
    assert said[-1] == "", "nothing is left"
    assert pace("train", 1, 300) == "", "another stage has a clock of its own"
