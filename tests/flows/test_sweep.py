"""A sweep's cells against a real (temporary) Prefect API: one that fails, one flow that is told to stop, refusals."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from mlflow import MlflowClient
from prefect import flow
from prefect.exceptions import ParameterTypeError
from prefect.utilities.callables import parameter_schema

from flows import sweep as module
from flows.sweep import CELL_PARAMETERS, Inputs, sweep, train_all
from flows.train import TRAINING_FLOWS, Trained
from pipeline_lib.core.errors import ConfigError, SweepError, TrainingError, UnknownNameError
from pipeline_lib.presets import PRESETS, preset
from pipeline_lib.sweeps import claim as claims
from pipeline_lib.sweeps.plan import cells_of
from pipeline_lib.sweeps.question import Question, ask
from pipeline_lib.training.launch.job import Stopped
from tasks import sweep_tracking, tracking
from tasks.outcome import Outcome
from tasks.stopping import asked_to_stop
from tasks.sweep import Finished, ready

SHAPES = preset("shapes")
WAIT_S = 60.0


def question(name: str) -> Question:
    """One of its own for every test: MLflow finds runs again by what was asked."""
    settings = {f"{name} a": {"beta": 1}, f"{name} b": {"beta": 2}}
    return ask("shapes", SHAPES.evaluate, SHAPES.scorers, True, settings=settings, common={"method": "dpo"})


def train_with(patch: pytest.MonkeyPatch, train: Callable[[float, int], None]) -> None:
    """In the place of the training flow of dpo: `train(beta, seed)`."""

    @flow(name="train-stand-in")
    def stand_in(preset: str, seed: int, beta: float, pairs: str, **others: Any) -> Trained:
        train(beta, seed)
        run = tracking.open_run("stand-in", "t", {"stand-in": f"{beta} {seed}"}, "", {})
        return Trained(Outcome("train", f"model/{beta:g}-{seed}", "", "ran", 0.0), pairs, run)

    patch.setattr(module, "TRAINING_FLOWS", {"dpo": stand_in})


def trained(asked: Question, room: int) -> list[Finished]:
    @flow(name="cells")
    def cells() -> list[Finished]:
        own = [ready(cell, "shapes") for cell in asked.cells]
        inputs = [Inputs("pairs", {}, "encoded", None, SHAPES.base)] * len(own)
        return train_all(asked, own, inputs, room, sweep_tracking.open_sweep(asked), None, None)

    return cells()


@pytest.fixture
def tracked(stack: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, str]]:
    """Status by name of the sweep's runs whose names begin so."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", stack["MLFLOW_TRACKING_URI"])

    def statuses(name: str) -> dict[str, str]:
        client = MlflowClient(stack["MLFLOW_TRACKING_URI"])
        experiment = client.get_experiment_by_name("sweep")
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id])
        return {run.info.run_name: run.info.status for run in found if run.info.run_name.startswith(name)}

    return statuses


RUNNABLE = [(claim, name) for claim in claims.names() for name in PRESETS if claims.load(claim).runs_on(name)]


@pytest.mark.parametrize(("claim", "name"), RUNNABLE)
def test_every_model_of_a_claim_can_be_given_to_its_training_flow(claim: str, name: str) -> None:
    found = claims.load(claim)
    for cell in cells_of(found.settings, found.seeds):
        flow, given = TRAINING_FLOWS[cell.setting.method], cell.parameters(name)
        own = {key: value for key, value in given.items() if key in CELL_PARAMETERS}
        assert set(given) - set(own) <= {"method", "seed"}
        assert flow.validate_parameters({"preset": name, "seed": cell.seed, **own})


@pytest.mark.integration
@pytest.mark.usefixtures("api")
def test_a_cell_that_fails_does_not_stop_the_others_and_all_failures_are_named(
    tracked: Callable[[str], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, now, most = threading.Lock(), 0, 0
    both = threading.Barrier(2, timeout=WAIT_S)
    asked = question("fails")

    def train(beta: float, seed: int) -> None:
        nonlocal now, most
        with lock:
            now, most = now + 1, max(most, now + 1)
        if seed == 0:
            both.wait()  # the first two are at work at once
        with lock:
            now -= 1
        if beta == 2 and seed < 2:
            raise TrainingError("The disk is wet.", "Dry it.")

    train_with(monkeypatch, train)
    with pytest.raises(SweepError) as failed:
        trained(asked, 2)
    assert most == 2, "two at a time, never three"
    assert "2 of 6 models could not be trained" in failed.value.problem
    assert "; ".join(f"fails b, seed {seed}" for seed in (0, 1)) + ": The disk is wet.\n-> Dry it." in str(
        failed.value
    )
    wet = {f"fails b, seed {seed}" for seed in (0, 1)}
    assert tracked("fails") == {cell.name: "FAILED" if cell.name in wet else "FINISHED" for cell in asked.cells}

    train_with(monkeypatch, lambda beta, seed: None)
    found = trained(asked, 3)
    assert [one.cell for one in found] == asked.cells, "in order, whichever ended first"
    assert [one.model for one in found[:2]] == ["model/1-0", "model/2-0"]
    assert set(tracked("fails").values()) == {"FINISHED"}


@pytest.mark.integration
@pytest.mark.usefixtures("api")
def test_a_flow_that_is_told_to_stop_stops_its_cells_and_waits_for_them(
    tracked: Callable[[str], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = question("stops")
    begun, ends = threading.Event(), []

    def train(beta: float, seed: int) -> None:
        """What `job.train` does in a thread; the first two cells end at once."""
        if seed == 0:
            return
        begun.set()
        deadline = time.monotonic() + WAIT_S
        while not asked_to_stop():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)  # the checkpoint
        ends.append((beta, seed))
        raise Stopped("asked to stop")

    def told(*_: Any) -> Callable[..., None]:
        done = []

        def report(*given: int) -> None:
            done.append(given)
            if len(done) == 2:
                assert begun.wait(WAIT_S)
                raise KeyboardInterrupt  # as SIGTERM's exception, in this thread

        return report

    train_with(monkeypatch, train)
    monkeypatch.setattr(module, "reporter", told)
    with pytest.raises(KeyboardInterrupt):
        trained(asked, 2)
    assert ends == [(1, 1)], "it was waited for"
    assert not asked_to_stop()
    assert tracked("stops") == {
        "stops a, seed 0": "FINISHED",
        "stops b, seed 0": "FINISHED",
        "stops a, seed 1": "KILLED",
    }


@pytest.mark.integration
@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({}, ConfigError, "has no settings"),
        ({"max_parallel": 0}, ParameterTypeError, "max_parallel"),
        ({"claim": "flipss"}, UnknownNameError, "'flips'"),
        ({"claim": "flips", "grid": {"beta": [1]}}, ConfigError, "grid cannot change"),
        ({"grid": {"bta": [1]}}, UnknownNameError, "'beta'"),
        ({"grid": {"recipe": ["humann"]}}, UnknownNameError, "'human'"),
        ({"grid": {"beta": [1]}, "measures": ["win/clap"]}, UnknownNameError, "'clip'"),
        ({"grid": {"beta": [1]}, "seeds": [3]}, ConfigError, "2 or more"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_made(
    given: dict[str, Any], error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        sweep(store=str(tmp_path), **given)
    assert not list(tmp_path.iterdir())


LOGIN = "s3://key:secret@bucket/pairs"


@pytest.mark.parametrize(
    "given",
    [
        {"common": {"source": LOGIN}},
        {"settings": {"one": {"base": LOGIN}}},
        {"grid": {"source": ["shapes://pairs", LOGIN]}},
        {"heldout": LOGIN},
    ],
)
def test_an_address_with_a_login_is_refused_when_the_run_is_created(given: dict[str, Any]) -> None:
    schema = parameter_schema(sweep).model_dump()
    jsonschema.validate({"common": {"source": "s3://bucket/pairs", "beta": 3}, "grid": {"base": ["a/b"]}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(given, schema)
