"""`force` of the flows, against a real (temporary) Prefect API: it reaches all stages that a flow runs above."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import yaml

from flows.ingest import ingest
from flows.label import label
from flows.score import score
from pipeline_lib.core import code
from pipeline_lib.core.store import open_dataset
from tests.pipeline_lib.source_files import row, write_source

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.usefixtures("api")
def test_force_reaches_every_stage_that_a_flow_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = str(write_source(tmp_path / "source", [row(i) for i in range(6)]))
    store = str(tmp_path / "store")

    def labels(force: bool = False) -> tuple[str, str]:
        """The labels' folder and that of the pairs they were made from."""
        found = open_dataset(label(source=source, recipe="human", store=store, force=force).uri)
        return found.path(), found.inputs[0]["uri"]

    before = labels()
    scored = score(source=source, scorers=["aesthetic"], store=store)["aesthetic"]
    assert labels(force=True) == before, "this code made it"
    monkeypatch.setattr(code, "modules", lambda *roots: dict.fromkeys(roots, "edited"))
    assert ingest(source=source, store=store).status == "skipped"
    assert labels() == before
    again = labels(force=True)
    assert not {*again} & {*before}
    assert labels() == again, "the same code finds it"
    forced = score(source=source, scorers=["aesthetic"], store=store, force=True)["aesthetic"]
    assert (forced.status, forced.digest) == ("ran", scored.digest) and forced.uri != scored.uri
    assert open_dataset(f"{store}/{before[0]}").digest, "what was there stays"


def test_every_flow_that_is_deployed_has_it() -> None:
    deployed = yaml.safe_load((ROOT / "deploy/prefect.yaml").read_text())["deployments"]
    entries = {one["entrypoint"] for one in deployed}
    assert len(entries) > 10
    for entry in entries:
        path, _, name = entry.partition(":")
        flow = getattr(__import__(path.removesuffix(".py").replace("/", "."), fromlist=[name]), name)
        assert inspect.signature(flow.fn).parameters["force"].default is False, entry
