"""`import-scores` and `agreement` against a real (temporary) Prefect API."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.agreement import agreement
from flows.import_scores import import_scores
from flows.score import score
from pipeline_lib.core.store import open_dataset
from tests.flows.artifacts import artifact
from tests.pipeline_lib.source_files import row, write_source

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("api")]


def test_imported_scores_are_compared(tmp_path: Path) -> None:
    rows = [row(i) for i in range(4)]
    source, store = str(write_source(tmp_path / "source", rows)), str(tmp_path / "store")
    records = [
        {
            "image_uid": pair[f"image_{side}_uid"],
            "prompt": pair["caption"],
            "score": score * (1 if scorer == "their.best" else -1),
            "scorer": scorer,
        }
        for scorer in ("their.best", "other")
        for pair in rows
        for side, score in ((0, pair["label_0"]), (1, pair["label_1"]))
    ]
    file = tmp_path / "scores.jsonl"
    file.write_text("\n".join(json.dumps(record) for record in [*records, {**records[0], "image_uid": "nobody"}]))
    imported = import_scores(str(file), source=source, store=store)
    assert {name: outcome.status for name, outcome in imported.items()} == {"other": "ran", "their.best": "ran"}
    assert open_dataset(imported["their.best"].uri).counts["unknown_image"] == 1
    assert "unknown_image" in artifact("score-their-best-dataset").data

    scores = {name: outcome.uri for name, outcome in imported.items()}
    done = agreement(source=source, scores=scores, store=store)
    assert open_dataset(done.uri).stage == "agreement"
    best, other = sorted(json.loads(artifact("scorer-agreement").data), key=lambda line: line["accuracy"])[::-1]
    assert (best["scorer"], best["accuracy"], best["kappa, Human"]) == ("their.best", "100.0%", "none")
    assert (other["accuracy"], other["pairs"], other["missing"]) == ("0.0%", 4, 0)
    assert f"`{done.uri}/report.html`" in artifact("agreement-report").data
    assert agreement(source=source, scores=scores, store=store).status == "skipped"


def test_the_score_flow_ends_with_a_comparison(tmp_path: Path) -> None:
    store = str(tmp_path)
    outcomes = score(scorers=["clip", "aesthetic"], limit=30, store=store)
    page = artifact("agreement-report").data
    (done,) = (tmp_path / "agreement").iterdir()
    assert f"`{done}/report.html`" in page
    dataset = open_dataset(str(done))
    assert {source["digest"] for source in dataset.inputs} >= {outcome.digest for outcome in outcomes.values()}
    assert {"clip_l14_openai", "aesthetic"} <= set(dataset.scan().collect().columns)
    score(scorers=["clip"], limit=30, store=store)
    assert len(list((tmp_path / "agreement").iterdir())) == 1, "a scorer alone has nobody to be compared with"
