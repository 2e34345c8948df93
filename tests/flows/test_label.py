"""Bad recipes end before any work: no upstream stage runs, nothing is written. A good one leaves a report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.stack import ROOT
from flows import align, label, train
from pipeline_lib.core.errors import PipelineError
from pipeline_lib.core.store import open_dataset
from tests.flows.artifacts import artifact

BAD: list[tuple[Any, str]] = [
    ([{"vot": ["clip"]}], r"Step 1: Unknown label step 'vot'\. Did you mean 'vote'"),
    ([{"filter": "ties"}, {"vote": ["clip", "pickscor"]}], r"Step 2 \(vote\): Unknown scorer 'pickscor'.*'pickscore'"),
    ([{"pseudo_label": "self-trainin"}, "dedpo"], r"(?s)Step 1 \(pseudo_label\).*Did you mean 'self-training'"),
    ([{"reveal": 0}, {"single": "human"}], r"Step 1 \(reveal\): fraction=0 is not in"),
    ("[{single: human}, {reveal: 0.5}]", r"(?s)Step 2 \(reveal\) comes after the target is set.*Move it above"),
    ("- single: human\n- dedpo", r"Step 2 \(dedpo\): step 1 \(single\) has set the target already"),
    ("[{single: human", r"not YAML"),
    ("balancd", r"Did you mean 'balanced'"),
]


@pytest.mark.integration
@pytest.mark.usefixtures("api")
def test_flow_publishes_labels_and_their_report(tmp_path: Path) -> None:
    recipe = "[{filter: [ties, unlabelled]}, {single: human}, {flip: 0.1}]"
    outcome = label.label(recipe=recipe, limit=60, store=str(tmp_path))
    report = str(artifact("label-report").data)
    labels = open_dataset(outcome.uri)
    assert labels.counts["flipped"] == round(0.1 * labels.counts["kept"])
    assert {"report.html", "report.json"} <= {shard.path for shard in labels.shards}
    assert f"{labels.counts['kept']:,} of {labels.counts['pairs']:,} pairs labelled" in report
    assert "3. flip: 10% of the labels" in report


@pytest.fixture
def no_upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    def runs(*_: Any, **__: Any) -> None:
        raise AssertionError("an upstream stage ran")

    for module in (label, train, align):
        monkeypatch.setattr(module, "check_given", lambda **_: None)
        for name in ("ingest_flow", "score", "encode_flow", "label", "label_task", "train_task"):
            if hasattr(module, name) and module.__name__ != f"flows.{name}":
                monkeypatch.setattr(module, name, runs)


@pytest.mark.parametrize(("recipe", "message"), BAD)
@pytest.mark.usefixtures("no_upstream")
def test_bad_recipe_ends_every_flow_before_any_work(recipe: Any, message: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for flow in (label.label, train.train_balanced, align.align):
        with pytest.raises(PipelineError, match=message):
            flow.fn(recipe=recipe, store=str(store))
    assert not store.exists()


@pytest.mark.usefixtures("no_upstream")
def test_scores_that_are_given_make_a_scorer_known(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="an upstream stage ran"):
        label.label.fn(recipe=[{"single": "mine"}], scores={"mine": "file"}, store=str(tmp_path))
    with pytest.raises(PipelineError, match="Unknown scorer 'mine'"):
        label.label.fn(recipe=[{"single": "mine"}], store=str(tmp_path))


@pytest.mark.parametrize("recipe", ["dedpo25", "[{vote: [human, clip, hpsv2], ties: drop}]", "FILE"])
def test_command_line_explains(recipe: str, tmp_path: Path) -> None:
    if recipe == "FILE":
        recipe = str(tmp_path / "mine.yaml")
        Path(recipe).write_text("- filter: [ties, unlabelled]\n- vote: [human, clip]\n")
    found = command("explain", recipe)
    assert found.returncode == 0 and re_numbered(found.stdout), found.stderr


def test_command_line_refuses_a_bad_recipe_with_its_step_and_remedy() -> None:
    found = command("explain", "[{filter: ties}, {vote: [human, pickscor]}]")
    assert found.returncode == 2 and found.stdout == ""
    assert "Step 2 (vote): Unknown scorer 'pickscor'" in found.stderr and "-> Use one of:" in found.stderr


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "pipeline_lib.labels", *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60)


def re_numbered(text: str) -> bool:
    lines = text.splitlines()
    return any(line.startswith("1. ") for line in lines) and lines[-1].startswith("Needs ")
