"""Held-out pairs on which nothing could be measured are refused before models paint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline_lib import evaluation
from pipeline_lib.core import schemas, store
from pipeline_lib.core.errors import EvaluationError
from pipeline_lib.core.store import Dataset
from pipeline_lib.evaluation import stage
from pipeline_lib.evaluation.implicit import check_unseen
from pipeline_lib.presets import preset
from tasks.compare import check_models
from tasks.contenders import Contender
from tasks.held_out import check_held_out

Row = tuple[str, float | None]


def pairs(root: Path, rows: Sequence[Row]) -> Dataset:
    """An ingest dataset with one pair per (prompt, label)."""
    table = [
        {"pair_id": str(i), "prompt_id": prompt.lower(), "prompt": prompt, "image_0": "a", "image_1": "b"}
        | {"split": "train", "label_0": label}
        for i, (prompt, label) in enumerate(rows)
    ]
    writer = store.writer(str(root), "ingest", 1, {"rows": [list(row) for row in rows]})
    return writer.commit([writer.write_table("pairs/part-00000.parquet", pa.Table.from_pylist(table, schemas.PAIRS))])


TRAINED: list[Row] = [("a cat", 1.0), ("a dog", 0.0), ("a house", None)]
REFUSED: list[tuple[list[Row], str]] = [
    ([("A  Cat", 1.0), ("a dog", 0.0)], "Only 0 prompts .* of 2 of 2 pairs were trained on"),
    ([("a cat", 1.0), ("a tree", 1.0), ("a tree", 0.0)], "Only 1 prompts .* of 1 of 3 pairs were trained on"),
    ([("a tree", 0.5), ("a boat", None), ("a house", 1.0)], "Only 0 prompts .* of 1 of 1 pairs"),
    ([("a tree", 0.5), ("a boat", None)], "People decided none of the 2 pairs"),
]


@pytest.mark.parametrize(("rows", "says"), REFUSED)
def test_held_out_pairs_must_leave_two_prompts(tmp_path: Path, rows: list[Row], says: str) -> None:
    trained, held_out = pairs(tmp_path, TRAINED), pairs(tmp_path, rows)
    with pytest.raises(EvaluationError, match=says):
        check_unseen(held_out, [pairs(tmp_path, [("a bird", 1.0)]), trained])
    with pytest.raises(EvaluationError, match=says):
        check_held_out.fn(held_out.uri, [trained.uri])


def test_two_prompts_are_enough(tmp_path: Path) -> None:
    check_unseen(pairs(tmp_path, [("a tree", 1.0), ("a boat", 0.0), ("a cat", 1.0)]), [pairs(tmp_path, TRAINED)])


def test_nothing_is_painted_judged_or_loaded_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, held_out = pairs(tmp_path, TRAINED), pairs(tmp_path, [("a dog", 1.0)])
    writer = store.writer(str(tmp_path), "model", 1, {"train": {"method": "dpo"}}, [trained])
    model = writer.commit([writer.write_bytes("metrics.jsonl", b"")])
    chosen = preset("shapes")

    def touched(*args: Any, **named: Any) -> None:
        raise AssertionError("it began")

    for name in ("rewards_by_model", "scorer_identities", "generate"):
        monkeypatch.setattr(stage, name, touched)
    models = {"base": None, "aligned": model}
    given = (chosen.base, chosen.evaluate, chosen.scorers, chosen.weights, [trained])
    with pytest.raises(EvaluationError, match="Only 0 prompts"):
        evaluation.evaluate(str(tmp_path), models, *given, held_out=held_out)
    with pytest.raises(AssertionError, match="it began"):
        evaluation.evaluate(str(tmp_path), models, *given, held_out=pairs(tmp_path, [("x", 1.0), ("y", 1.0)]))
    monkeypatch.setattr("tasks.compare.check_comparable", lambda *_: None)
    contenders = [Contender("base", chosen.base), Contender("aligned", chosen.base, model.uri)]
    with pytest.raises(EvaluationError, match="Only 0 prompts"):
        check_models.fn(contenders, held_out.uri)
    assert check_models.fn(contenders) == [trained.uri]
