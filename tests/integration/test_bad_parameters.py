"""Runs with parameters that cannot be meant: refused by the server, or by the flow before it does anything."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError

from deploy.doctor.forms import scheduled_parameters
from deploy.doctor.runs import flow_runs
from deploy.doctor.servers import Server
from deploy.doctor.surroundings import Surroundings
from deploy.recovery import UNREADABLE, Servers, crash_unreadable_runs, tidy
from deploy.stack import current_settings, running_stack
from deploy.stack.api import call
from deploy.stack.rows import FLOW_RUNS, every
from flows import align, label, train
from pipeline_lib.core.errors import PipelineError
from tests.deploy.test_stack_integration import Runs, rows, wait_for, wait_for_restart
from tests.integration.bad_parameters import drawn
from tests.integration.deployments import Deployments

pytestmark = [pytest.mark.integration, pytest.mark.timeout(2400)]

logger = logging.getLogger(__name__)
SEED, COUNT = 22, 200
LATER = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2099-01-01T00:00:00Z"}}
FIRST_S = 2.0
"""In which a flow must have found what is wrong."""
UNWRITABLE = ('{"steps": 1' + "0" * 30 + "}", '{"train": ' + "[" * 260 + "]" * 260 + "}", '{"split": "\\ud800"}')
"""What the server stores where it is told not to enforce schemas, and cannot write again."""


def create(deployments: Deployments, known: str, parameters: str, enforce: bool = True, when: Any = LATER) -> Any:
    """(status, answer) to a run's creation with parameters as JSON text, which need not be JSON that Python writes."""
    api = deployments.env["PREFECT_API_URL"]
    rest = json.dumps({"state": when, "enforce_parameter_schema": enforce})[1:]
    request = urllib.request.Request(
        f"{api}/deployments/{known}/create_flow_run",
        data=f'{{"parameters": {parameters}, {rest}'.encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def training(deployments: Deployments) -> str:
    """The id of train-dpo/shapes."""
    return str(call(f"{deployments.env['PREFECT_API_URL']}/deployments/name/train-dpo/shapes")["id"])


def remove(deployments: Deployments, run: str) -> None:
    api = deployments.env["PREFECT_API_URL"]
    call(f"{api}/flow_runs/{run}", {"parameters": {}}, method="PATCH")
    call(f"{api}/flow_runs/{run}", method="DELETE")


def diagnosed(deployments: Deployments) -> list[str]:
    """What the doctor says about runs."""
    server = Server(deployments.env["PREFECT_API_URL"], {})
    return [finding.what for finding in flow_runs(Surroundings({}, prefect=server))]


def everything_answers(deployments: Deployments) -> None:
    """The lists of runs, and the one that workers ask for."""
    deployments.post(FLOW_RUNS, {})
    deployments.post("work_pools/local/get_scheduled_flow_runs", {})


@pytest.fixture
def no_upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    def runs(*_: Any, **__: Any) -> None:
        raise AssertionError("an upstream stage ran")

    for module in (label, train, align):
        for name in (
            "ingest_flow",
            "score",
            "encode_flow",
            "label",
            "label_task",
            "train_task",
            "base_model",
            "annotated",
        ):
            if hasattr(module, name) and module.__name__ != f"flows.{name}":
                monkeypatch.setattr(module, name, runs)


@pytest.mark.usefixtures("no_upstream")
@pytest.mark.parametrize("count", [66, pytest.param(COUNT, marks=pytest.mark.slow)])
def test_bad_parameters_are_refused_or_fail_in_words_before_anything_upstream(
    count: int, deployments: Deployments, tmp_path: Path
) -> None:
    refused: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    slowest, known = 0.0, training(deployments)
    for kind, text in drawn(count, SEED):
        status, answer = create(deployments, known, text)
        if status in (400, 409, 422):
            refused[kind] += 1
            continue
        assert status == 201, f"{status} {answer}: {text[:200]}"
        remove(deployments, answer["id"])
        begun = time.monotonic()
        with pytest.raises((PipelineError, ParameterTypeError)) as said:
            given = train.train_dpo.validate_parameters({"store": str(tmp_path / "store"), **answer["parameters"]})
            train.train_dpo.fn(**given)
        slowest = max(slowest, time.monotonic() - begun)
        assert 10 < len(str(said.value)) < 4000, text[:200]
        failed[kind] += 1
    logger.info("refused %s, failed in the flow %s, slowest %.2f s", dict(refused), dict(failed), slowest)
    assert slowest < FIRST_S and not (tmp_path / "store").exists()
    assert sum(refused.values()) > 0.7 * count and failed
    everything_answers(deployments)
    assert not [what for what in diagnosed(deployments) if "cannot write" in what]


@contextmanager
def unwritable(deployments: Deployments, when: Any = LATER) -> Iterator[list[str]]:
    """The ids of runs that the server cannot list, by the least cautious of its users."""
    before = {run["id"] for run in every(deployments.post, FLOW_RUNS, {}).rows}
    for text in UNWRITABLE[:2]:  # a lone surrogate leaves SQLite locked for a while
        create(deployments, training(deployments), text, enforce=False, when=when)
    found = every(deployments.post, FLOW_RUNS, {})
    assert {run["id"] for run in found.rows} == before, "all others are read"
    assert len(found.unreadable) == 2
    with pytest.raises(urllib.error.HTTPError):
        deployments.post(FLOW_RUNS, {})
    try:
        yield found.unreadable
    finally:
        for run in found.unreadable:
            remove(deployments, run)


def test_runs_that_the_server_cannot_list_cost_only_themselves(deployments: Deployments) -> None:
    servers = Servers(deployments.env["PREFECT_API_URL"], deployments.env["MLFLOW_TRACKING_URI"])
    with unwritable(deployments) as ids:
        said = diagnosed(deployments)
        assert all(any(run in what for what in said) for run in ids), said
        assert crash_unreadable_runs(servers) == [], "none is due"
        tidy(servers)
    everything_answers(deployments)


def test_parameters_of_a_schedule_that_no_run_would_be_given_are_found(deployments: Deployments) -> None:
    """The server asks nobody before it keeps them."""
    known, api = training(deployments), deployments.env["PREFECT_API_URL"]
    leap_day = {"active": True, "schedule": {"cron": "0 0 29 2 *"}}  # of which no run is made for now
    body = [{**leap_day, "parameters": {"steps": value}} for value in (10**30, 5)]
    made = call(f"{api}/deployments/{known}/schedules", body)
    try:
        server = Surroundings({}, prefect=Server(api, {}))
        (found,) = [one for one in scheduled_parameters(server) if one.level == "error"]
        wrong = next(one["id"] for one in made if one["parameters"]["steps"] != 5)
        assert "train-dpo/shapes" in found.what and "steps" in found.what and wrong in found.remedy
    finally:
        for one in made:
            call(f"{api}/deployments/{known}/schedules/{one['id']}", method="DELETE")


@pytest.mark.slow
def test_a_worker_gets_its_runs_and_is_restarted_whatever_is_stored(tmp_path: Path) -> None:
    with running_stack(tmp_path / "stack") as env:
        found, settings = Deployments(env), current_settings(env)
        found.register("train-dpo/shapes")
        runs = Runs.deploy(env, tmp_path)

        known = training(found)
        for kind, text in drawn(COUNT, SEED):
            status, made = create(found, known, text, when={"type": "SCHEDULED"})
            if status != 201:
                continue
            # One after the other: each is a process of its own. Its name is ours from its start on.
            wait_for(f"{kind} ends", lambda path=f"flow_runs/{made['id']}": found.get(path)["end_time"], 600)
            run = found.get(f"flow_runs/{made['id']}")
            assert run["state_type"] == "FAILED" and not found.children(run), f"{kind} {text[:200]}"
            logger.info("%s: %.1f s, %s", kind, run["total_run_time"], run["state"]["message"][:150])

        with unwritable(found, {"type": "SCHEDULED"}) as ids:
            wait_for("the supervisor lets the others pass", lambda: states(found, ids) == {"CRASHED"}, 90)
            message = call(f"{env['PREFECT_API_URL']}/flow_runs/{ids[0]}")["state"]["message"]
            assert message == UNREADABLE
        everything_answers(found)

        with unwritable(found) as ids:  # as if a worker had taken them
            for run in ids:
                state = {"state": {"type": "RUNNING"}, "force": True}
                call(f"{env['PREFECT_API_URL']}/flow_runs/{run}/set_state", state)
            endless, _, _ = runs.start_endless()
            before = rows(settings)["worker"]["pid"]
            os.kill(before, signal.SIGKILL)
            wait_for_restart(settings, "worker", before)
            assert runs.state(endless)["type"] == "CRASHED" and states(found, ids) == {"CRASHED"}
            runs.completes(runs.start())


def states(deployments: Deployments, ids: list[str]) -> set[str]:
    found = deployments.post("ui/flow_runs/history", {"flow_runs": {"id": {"any_": ids}}})
    return {run["state_type"] for run in found}
