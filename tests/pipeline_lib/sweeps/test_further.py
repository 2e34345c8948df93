"""Training metrics and label shares of a model, from datasets as the stages leave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline_lib.core import store
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.store import Dataset
from pipeline_lib.sweeps.further import labelled, made_from, trained
from pipeline_lib.sweeps.measures import measure_of


def model(root: Path, records: list[dict[str, Any]], *inputs: Dataset) -> Dataset:
    writer = store.writer(str(root), "model", 1, {}, inputs)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    return writer.commit([writer.write_bytes("metrics.jsonl", lines.encode())])


def labels(root: Path, frame: pl.DataFrame, counts: dict[str, int]) -> Dataset:
    writer = store.writer(str(root), "labels", 1, {})
    return writer.commit([writer.write_table("part-00000.parquet", frame.to_arrow())], counts)


def measured(kind: Any, dataset: Dataset, *names: str) -> dict[str, float]:
    return {name: values[""] for name, values in kind(dataset, map(measure_of, names)).items()}


def test_a_training_metric_is_its_mean_over_the_second_half(tmp_path: Path) -> None:
    records = [{"step": step, "loss": float(step), "u_auroc": 0.5 if step == 6 else None} for step in range(1, 7)]
    made = model(tmp_path, [{k: v for k, v in record.items() if v is not None} for record in records])
    found = measured(trained, made, "train/loss", "train/u_auroc", "train/margin", "win/average", "labels/tied")
    assert found == {"train/loss": 5.0, "train/u_auroc": 0.5}, "steps 4 to 6; no margin was logged"


def test_counts_are_shares_of_the_pairs_kept_and_agreement_is_over_what_both_decide(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "target": pl.Series([1.0, 0.0, 0.9, 0.5, 1.0], dtype=pl.Float32),
            "human": pl.Series([1.0, 1.0, 0.5, 1.0, None], dtype=pl.Float32),
            "vote_clip": pl.Series([1, -1, -1, 1, 0], dtype=pl.Int8),
        }
    )
    found = measured(
        labelled,
        labels(tmp_path, frame, {"kept": 5, "tied": 1, "flipped": 2}),
        *("labels/tied", "labels/flipped", "labels/n_u", "train/loss"),
        *("labels/agreement/clip", "labels/agreement/human", "labels/agreement/hpsv2"),
    )
    assert found == {
        "labels/tied": 0.2,
        "labels/flipped": 0.4,
        "labels/agreement/clip": pytest.approx(2 / 3),
        "labels/agreement/human": 0.5,
    }


def test_what_a_model_was_made_from_is_found_by_its_stage(tmp_path: Path) -> None:
    writer = store.writer(str(tmp_path), "ingest", 1, {})
    pairs = writer.commit([writer.write_bytes("a", b"a")])
    made = model(tmp_path, [], pairs)
    assert made_from(made, "ingest") == pairs
    with pytest.raises(ConfigError, match="of stage labels"):
        made_from(made, "labels")
