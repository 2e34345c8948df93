"""Importing published scores: what is taken, what is refused and counted, and what cannot be imported at all."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from pipeline_lib.core.digest import text_id
from pipeline_lib.core.errors import ConfigError, SchemaError, SourceError, UnknownNameError
from pipeline_lib.core.schemas import SCORES
from pipeline_lib.core.store import verify
from pipeline_lib.labels.table import pair_table
from pipeline_lib.scoring.published import import_scores
from pipeline_lib.scoring.stage import METADATA_KEY
from tests.pipeline_lib.labels.tables import ingested

Row = dict[str, Any]


def given(image: str | None, prompt: str | None, score: Any, scorer: str = "theirs") -> Row:
    return {"image_uid": image, "prompt": prompt, "score": score, "scorer": scorer}


GOOD = [given("0-a", "p0", 1.5), given("0-b", " p0\n", 2), given("1-a", "p1", -3.0), given("1-b", "p1", 0.25)]


def write(path: Path, rows: Sequence[Row], kind: str = "parquet") -> str:
    if kind == "parquet":
        pl.DataFrame(rows, strict=False, infer_schema_length=None).write_parquet(path)
    elif kind == "json":
        path.write_text(json.dumps(list(rows)))
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    return str(path)


@pytest.mark.parametrize("kind", ["parquet", "json", "jsonl"])
def test_kinds_of_file_give_the_same_table(tmp_path: Path, kind: str) -> None:
    store = str(tmp_path)
    pairs = ingested(store, [1.0, 0.0])
    file = write(tmp_path / "scores", GOOD, kind)
    (done,) = import_scores(store, pairs, file).values()
    verify(done)
    assert done.stage == "scores-theirs" and done.inputs == [{"uri": pairs.path(), "digest": pairs.digest}]
    assert done.counts == {"scored": 4, "missing": 0, "repeated": 0}
    assert done.scan().collect().rows() == [
        ("0-a", text_id("p0"), 1.5),
        ("0-b", text_id("p0"), 2.0),
        ("1-a", text_id("p1"), -3.0),
        ("1-b", text_id("p1"), 0.25),
    ]
    schema = pq.read_schema(f"{done.uri}/part-00000.parquet")
    assert schema.remove_metadata() == SCORES
    identity = json.loads(schema.metadata[METADATA_KEY])
    assert identity == done.config
    assert identity | {"scorer": "theirs", "kind": "published", "direction": "higher", "file": "scores"} == identity
    assert identity["sha256"] == hashlib.sha256((tmp_path / "scores").read_bytes()).hexdigest()
    assert import_scores(store, pairs, file) == {"theirs": done}


def test_rows_are_refused_with_their_reason_and_counted(tmp_path: Path) -> None:
    store = str(tmp_path)
    pairs = ingested(store, [1.0, 0.0])
    bad = [
        given(None, "p0", 1.0),
        given("0-a", "  ", 1.0),
        given("0-b", "p0", math.nan),
        given("0-b", "p0", 1e300),
        given("0-b", "p0", None),
        given("9-a", "p0", 1.0),
        given("0-a", "p9", 1.0),
        given("0-a", "p1", 1.0),
        given("1-b", "p1", 9.0),
    ]
    repeated = [given("0-a", "p0", 1.5)]
    (done,) = import_scores(store, pairs, write(tmp_path / "x.parquet", [*GOOD, *bad, *repeated])).values()
    assert done.scan().select("image_uid").collect()["image_uid"].to_list() == ["0-a", "0-b", "1-a"]
    reasons = [
        "missing_uid", "missing_prompt", *["non_finite_score"] * 3, "unknown_image", "unknown_prompt", "not_asked",
        "conflicting_scores",
    ]  # fmt: skip
    refused = done.scan("quarantine").collect().rows()
    wanted = [("x.parquet, row 4", "conflicting_scores")]
    wanted += [(f"x.parquet, row {row}", reason) for row, reason in enumerate(reasons, start=5)]
    assert [row[:2] for row in refused] == wanted
    assert refused[-1][2] == f"image 1-b, prompt {text_id('p1')}: 9.0"
    counted = {reason: reasons.count(reason) for reason in reasons} | {"conflicting_scores": 2}
    assert done.counts == {"scored": 3, "missing": 1, "repeated": 1, **counted}


def test_odd_values_in_json_are_refused_row_by_row(tmp_path: Path) -> None:
    store = str(tmp_path)
    pairs = ingested(store, [1.0, 0.0])
    odd = [given("0-a", "p0", 10**400), given("0-b", "p0", True), given("1-a", "p1", "0.5"), given("\ud800", "p1", 1)]
    (done,) = import_scores(store, pairs, write(tmp_path / "x", [GOOD[3], *odd], "json")).values()
    reasons = {"non_finite_score": 3, "unknown_image": 1}
    assert done.counts == {"scored": 1, "missing": 3, "repeated": 0, **reasons}


def test_scores_of_images_alone_and_by_prompt_id(tmp_path: Path) -> None:
    store = str(tmp_path)
    pairs = ingested(store, [1.0])
    rows = [{"image_uid": "0-a", "score": 1.0}, {"image_uid": "0-b", "score": 3.0}]
    (alone,) = import_scores(store, pairs, write(tmp_path / "a", rows), ["taste"]).values()
    assert alone.scan().collect().rows() == [("0-a", None, 1.0), ("0-b", None, 3.0)]
    by_id = [row | {"prompt_id": text_id("p0")} for row in rows]
    (other,) = import_scores(store, pairs, write(tmp_path / "b", by_id), ["other"]).values()
    mixed = [*GOOD[:2], *(row | {"scorer": "taste", "prompt": None} for row in rows)]
    found = import_scores(store, pairs, write(tmp_path / "c", mixed))
    assert list(found) == ["taste", "theirs"] and found["taste"].scan().collect()["prompt_id"].null_count() == 2
    table = pair_table(pairs, {"taste": alone, "other": other, **{f"{k}2": v for k, v in found.items()}})
    assert table.select("d_taste", "d_other", "d_taste2", "d_theirs2").rows() == [(-2.0, -2.0, -2.0, -0.5)]


def test_lower_is_better_is_negated_and_recorded(tmp_path: Path) -> None:
    store = str(tmp_path)
    pairs = ingested(store, [1.0, 0.0])
    file = write(tmp_path / "x", [*GOOD, *(row | {"scorer": "distance"} for row in GOOD)])
    found = import_scores(store, pairs, file, lower_is_better=["distance"])
    assert found["distance"].scan().collect()["score"].to_list() == [-1.5, -2.0, 3.0, -0.25]
    assert found["theirs"].scan().collect()["score"].to_list() == [1.5, 2.0, -3.0, 0.25]
    assert [found[name].config["direction"] for name in ("distance", "theirs")] == ["lower", "higher"]
    assert import_scores(store, pairs, file, ["distance"])["distance"].key != found["distance"].key


def test_files_that_cannot_be_imported(tmp_path: Path) -> None:
    store = str(tmp_path)
    pairs = ingested(store, [1.0, 0.0])
    with pytest.raises(SchemaError, match=r"missing column\(s\) score; found image_uid, scores"):
        import_scores(store, pairs, write(tmp_path / "a", [{"image_uid": "0-a", "scores": 1.0}]), ["x"])
    with pytest.raises(SourceError, match="Cannot read"):
        import_scores(store, pairs, str(tmp_path / "nowhere.json"))
    (tmp_path / "b").write_text('{"image_uid": "0-a",\n')
    with pytest.raises(SourceError, match="neither Parquet nor JSON"):
        import_scores(store, pairs, str(tmp_path / "b"))
    (tmp_path / "c").write_text("[1, 2]")
    with pytest.raises(SchemaError, match="not records"):
        import_scores(store, pairs, str(tmp_path / "c"))
    (tmp_path / "d").write_bytes(b"PAR1 broken")
    with pytest.raises(SourceError, match="not readable Parquet"):
        import_scores(store, pairs, str(tmp_path / "d"))
    with pytest.raises(SourceError, match=r"None of the 1 rows of theirs in e fits the pairs .* unknown_image 1"):
        import_scores(store, pairs, write(tmp_path / "e", [given("9-a", "p0", 1.0)]))
    with pytest.raises(SchemaError, match="1 rows have no scorer"):
        import_scores(store, pairs, write(tmp_path / "f", [*GOOD, given("0-a", "p0", 1.5) | {"scorer": None}]))
    pl.DataFrame(GOOD).head(0).write_parquet(tmp_path / "h")
    with pytest.raises(SourceError, match="holds no rows"):
        import_scores(store, pairs, str(tmp_path / "h"))
    with pytest.raises(SchemaError):
        import_scores(store, pairs, write(tmp_path / "g", [{"image_uid": "0-a", "score": [1.0]}]), ["x"])


def test_names_that_do_not_fit(tmp_path: Path) -> None:
    store = str(tmp_path)
    pairs = ingested(store, [1.0, 0.0])
    good = write(tmp_path / "good", GOOD)
    with pytest.raises(UnknownNameError, match="their"):
        import_scores(store, pairs, good, ["their"])
    with pytest.raises(UnknownNameError):
        import_scores(store, pairs, good, lower_is_better=["clip"])
    plain = write(tmp_path / "plain", [{k: v for k, v in row.items() if k != "scorer"} for row in GOOD])
    for names in (None, ["a", "b"]):
        with pytest.raises(ConfigError, match="no column scorer"):
            import_scores(store, pairs, plain, names)
    with pytest.raises(ConfigError, match="cannot name a dataset"):
        import_scores(store, pairs, plain, ["../x"])
