"""The report of a model whose weights its training did not move."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline_lib.core.store import Dataset, writer
from pipeline_lib.evaluation.unmoved import unmoved
from tests.pipeline_lib.evaluation.test_report import HOSTILE, content, page


def model(store: Path, projected: float | None) -> Dataset:
    """What training publishes, without weights; None for a run of a few steps."""
    train = {"learning_rate": 1e-8, "steps": 2000, "batch_size": 16, "gradient_accumulation": 8}
    lines = [{"step": 19, "loss": 0.7}, {"step": 20} | ({"projected_change": projected} if projected else {})]
    target = writer(str(store), "model", 1, {"train": train, "projected": projected})
    return target.commit([target.write_bytes("metrics.jsonl", "\n".join(map(json.dumps, lines)).encode())])


def test_only_models_that_were_trained_and_did_not_move_are_named(tmp_path: Path) -> None:
    target = writer(str(tmp_path), "model", 1, {"from": "elsewhere"})
    foreign = target.commit([target.write_bytes("model/a.txt", b"a")])
    models = {"base": None, "foreign": foreign, "short": model(tmp_path, None), "moved": model(tmp_path, 0.02)}
    assert unmoved(models) == {}
    found = unmoved({**models, "still": model(tmp_path, 4e-5)})
    assert list(found) == ["still"]
    assert "1e-8 moves weights by 4e-5 of their length in 2000 steps" in found["still"]
    assert "with 128 pairs per step 1e-8 means 1.28e-6" in found["still"]


def test_the_page_says_it_of_that_model() -> None:
    report = content(names=("aligned", "other"))
    plain, _ = page(report)
    html, parsed = page({**report, "unmoved": {"other": f"The weights do not move {HOSTILE}"}})
    parsed.check()
    assert html.count("The weights do not move") == 1 and HOSTILE not in html
    assert html.index(">other against base<") < html.index("The weights do not move")
    assert plain == "".join(line for line in html.splitlines(keepends=True) if "The weights do not move" not in line)
