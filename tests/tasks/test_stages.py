"""What the log of a flow says of the stages it runs."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline_lib.core import store
from tasks import stages
from tasks.stages import followed


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the present flow run, "own", logs."""
    found: list[str] = []

    def info(text: str, *values: object) -> None:
        found.append(text % values)

    def warning(text: str, *values: object) -> None:
        found.append("WARNING " + text % values)
        logging.getLogger("prefect.flow_runs").warning(text, *values, extra={"flow_run_id": "own"})  # as Prefect does

    monkeypatch.setattr(stages, "get_run_logger", lambda: SimpleNamespace(info=info, warning=warning))
    monkeypatch.setattr(stages, "flow_run", SimpleNamespace(id="own"))
    return found


def test_a_line_when_a_stage_begins_and_one_when_it_ends(lines: list[str], tmp_path: Path) -> None:
    writer = store.writer(str(tmp_path), "labels", 1, {})
    made = writer.commit([writer.write_bytes("a.txt", b"a")], {"kept": 5411, "pairs": 5598})
    with followed() as told:
        told.begin("label")
        told.end("ran", [made.uri], [made.digest])
        told.begin("register")
        told.end("skipped", ["models:/dpo-shapes/3"], [made.digest])
    assert lines == [
        "label: begins",
        f"label: ran, 0 s: {made.path()} (kept 5,411, pairs 5,598)",
        "register: begins",
        "register: skipped, 0 s: models:/dpo-shapes/3",
    ]
    assert [(row["stage"], row["status"], row["uri"]) for row in told.rows] == [
        ("label", "ran", made.uri),
        ("register", "skipped", "models:/dpo-shapes/3"),
    ]


def test_warnings_of_other_runs_are_passed_on_once(lines: list[str]) -> None:
    theirs, own = {"flow_run_id": "another"}, {"flow_run_id": "own"}
    with followed() as told:
        told.begin("train")
        for name in ("prefect.task_runs", "prefect.flow_runs"):
            logging.getLogger(name).warning("The weights do not move: %s", 1e-8, extra=theirs)
        logging.getLogger("prefect.task_runs").warning("it is here already", extra=own)
        logging.getLogger("prefect.task_runs").info("step 3", extra=theirs)
        logging.getLogger("prefect.task_runs").error("it failed", extra=theirs)
    logging.getLogger("prefect.task_runs").warning("too late", extra=theirs)
    assert lines == ["train: begins", "WARNING train: The weights do not move: 1e-08"]
