"""The ingest flow against a real (temporary) Prefect API: units as task runs, retries, artifacts."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import yaml
from prefect.exceptions import ParameterTypeError

from flows.ingest import ingest
from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.errors import SourceError
from pipeline_lib.core.store import open_dataset
from pipeline_lib.data import ingest as library
from pipeline_lib.data.ingest import units
from pipeline_lib.presets import PICKAPIC_V2
from tasks import ingest as tasks
from tests.flows.artifacts import artifact
from tests.pipeline_lib.source_files import row, write_source

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("api")]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Twelve rows in six units, one of them broken."""
    monkeypatch.setattr(units, "UNIT_BYTES", 1)
    rows = [row(i, **({"caption": ""} if i == 5 else {})) for i in range(24)]
    return str(write_source(tmp_path / "source", rows[:12], rows[12:]))


def test_units_are_tasks_with_a_bounded_number_in_flight(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = threading.Lock()
    now = most = failures = 0
    original = library.ingest_images

    def counting(job: library.Job, unit: library.Unit) -> None:
        nonlocal now, most, failures
        with lock:
            now, most = now + 1, max(most, now + 1)
        try:
            time.sleep(0.2)
            if unit.index == 3 and not failures:
                failures = 1
                raise ConnectionResetError("the store is away for a moment")
            original(job, unit)
        finally:
            with lock:
                now -= 1

    monkeypatch.setattr(library, "ingest_images", counting)
    store = str(tmp_path / "store")
    outcome = ingest(source=source, workers=2, store=store)
    assert most == 2
    assert failures == 1, "an I/O error was retried"
    assert outcome.status == "ran"
    expected = library.ingest(str(tmp_path / "library"), IngestConfig(source=source))
    assert outcome.digest == expected.digest
    progress = artifact("ingest-progress")
    assert progress.data == 100.0
    assert (
        "24 of 24 rows" in progress.description and "rows/s" in progress.description and "B/s" in progress.description
    )
    summary = artifact("ingest-summary").data
    assert "**23 pairs** of 24 rows" in summary and "quarantined: prompt-empty | 1" in summary
    assert f"{outcome.uri}/samples.html" in summary
    again = ingest(source=source, store=store)
    assert (again.status, again.digest) == ("skipped", outcome.digest)


def test_what_is_no_io_error_is_not_retried(tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def failing(job: library.Job, unit: library.Unit) -> None:
        nonlocal calls
        calls += 1
        raise SourceError("not what it was", "Look at it.")

    monkeypatch.setattr(library, "ingest_images", failing)
    with pytest.raises(SourceError, match="not what it was"):
        ingest(source=source, workers=1, store=str(tmp_path / "store"))
    assert calls == 1
    with pytest.raises(ParameterTypeError, match="workers"):
        ingest(source=source, workers=0, store=str(tmp_path / "store"))


def test_flat_parameters_reach_the_library(tmp_path: Path, source: str) -> None:
    outcome = ingest(source=source, limit=4, models=["m0"], store=str(tmp_path / "store"))
    dataset = open_dataset(outcome.uri)
    assert dataset.config["models"] == ["m0"] and dataset.counts["not-chosen"] == dataset.counts["rows"] == 4


def test_run_that_finds_itself_overtaken_takes_the_others_dataset(tmp_path: Path, source: str) -> None:
    store = str(tmp_path / "store")
    config = IngestConfig(source=source)
    job = library.start(store, config)
    parts = library.plan(job)
    done = library.ingest(store, config)
    library.ingest_images(job, parts[0])
    assert library.finish(job, parts) == done


def test_deployment_of_pickapic_reads_the_pinned_mirror() -> None:
    text = (Path(__file__).resolve().parents[2] / "deploy" / "prefect.yaml").read_text()
    deployments = yaml.safe_load(text)["deployments"]
    (deployment,) = [
        d for d in deployments if d["entrypoint"] == "flows/ingest.py:ingest" and d["name"] == "pickapic-v2"
    ]
    assert deployment["parameters"]["source"] == PICKAPIC_V2


def test_units_tasks_do_not_carry_the_list_of_files(tmp_path: Path, source: str) -> None:
    job = library.start(str(tmp_path), IngestConfig(source=source))
    assert tasks.without_sources(job).source.files == ()
