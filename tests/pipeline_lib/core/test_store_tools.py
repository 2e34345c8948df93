"""Summaries and garbage of a store."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline_lib.core.disk import size_text
from pipeline_lib.core.errors import StoreError
from pipeline_lib.core.garbage import delete, garbage
from pipeline_lib.core.pins import pin, unpin
from pipeline_lib.core.store import Dataset, open_dataset, writer
from pipeline_lib.core.store_tools import describe, main


def dataset(store: str, stage: str, inputs: tuple[Dataset, ...] = (), size: int = 10) -> Dataset:
    w = writer(store, stage, 1, {"size": size}, inputs)
    shards = [w.write_table("pairs/part-00000.parquet", pa.table({"x": range(size)}), {"pairs": size})]
    return w.commit([*shards, w.write_bytes("notes.html", b"x" * size)])


@pytest.fixture
def chain(tmp_path: Path) -> tuple[str, Dataset, Dataset, str]:
    """A store with an input, the dataset made from it, and one that was never finished."""
    store = str(tmp_path / "store")
    first = dataset(store, "ingest")
    last = dataset(store, "model", (first,))
    unfinished = writer(store, "labels", 1, {})
    unfinished.write_bytes("part-00000.parquet.notes", b"y" * 5000)
    return store, first, last, f"labels/{unfinished.key}"


def test_description_names_what_the_dataset_holds(tmp_path: Path) -> None:
    first = dataset(str(tmp_path), "ingest", size=1234)
    text = describe(dataset(str(tmp_path), "model", (first,)))
    assert f"from    {first.path()}" in text
    assert "1,234 rows in 1 shards" in describe(first)
    assert "notes.html" in text and "size             10" in text and first.digest[:16] in text


def test_unfinished_and_unreferenced_are_listed_largest_first(chain: tuple[str, Dataset, Dataset, str]) -> None:
    store, _, last, unfinished = chain
    items = garbage(store)
    assert [(item.path, item.why) for item in items] == [(unfinished, "unfinished"), (last.path(), "unreferenced")]
    assert (items[0].files, items[0].bytes) == (1, 5000)
    assert items[1].bytes == sum(path.stat().st_size for path in Path(last.uri).rglob("*") if path.is_file())
    assert [item.path for item in garbage(store, keep=[last.digest])] == [unfinished]
    assert [item.path for item in garbage(store, keep=[last.path()])] == [unfinished]


def test_only_what_is_told_and_garbage_is_deleted(chain: tuple[str, Dataset, Dataset, str]) -> None:
    store, first, last, unfinished = chain
    with pytest.raises(StoreError, match=r"ingest/.*needed by another dataset"):
        delete(store, [unfinished, first.path()])
    assert len(garbage(store)) == 2, "a refused deletion deletes nothing"
    assert [item.path for item in delete(store, [unfinished])] == [unfinished]
    assert not (Path(store) / unfinished).exists()
    assert open_dataset(last.uri) == last
    delete(store, [last.path()])
    assert [item.path for item in garbage(store)] == [first.path()], "its input is unreferenced now"


def test_command_line(chain: tuple[str, Dataset, Dataset, str], capsys: pytest.CaptureFixture[str]) -> None:
    store, first, last, unfinished = chain
    assert main(["describe", first.uri]) == 0
    assert main(["verify", first.uri]) == 0
    assert main(["garbage", store, "--keep", last.digest]) == 0
    said = capsys.readouterr().out
    assert "all 2 files are the manifest's" in said
    assert f"{unfinished}" in said and "1 datasets, 5.0 kB in all" in said
    assert main(["garbage", store, "--delete", first.path()]) == 1
    assert "Delete only what" in capsys.readouterr().err
    assert main(["garbage", store, "--delete", unfinished]) == 0
    assert "deleted" in capsys.readouterr().out
    (Path(first.uri) / "notes.html").write_bytes(b"other")
    assert main(["verify", first.uri]) == 1


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (1234, "1.2 kB"), (3.35e11, "335.0 GB")])
def test_sizes_are_readable(size: float, text: str) -> None:
    assert size_text(size) == text


def test_what_a_registered_model_rests_on_is_never_garbage(tmp_path: Path) -> None:
    store, elsewhere = str(tmp_path / "store"), str(tmp_path / "elsewhere")
    pairs = dataset(store, "ingest")
    model = dataset(store, "model", (dataset(store, "labels", (pairs,)),))
    judged = dataset(store, "evaluate", (model, dataset(store, "images", size=20)))
    rejudged = dataset(elsewhere, "evaluate", (model,), size=30)
    lost = dataset(store, "model", size=40)
    assert {item.path for item in garbage(store)} == {judged.path(), lost.path()}
    (own,) = pin("balanced-shapes", [model, judged])
    assert pin("balanced-shapes", [model, judged]) == [own], "again changes nothing"
    further = pin("dpo-shapes", [model, rejudged])
    assert [item.path for item in garbage(store)] == [lost.path()]
    assert garbage(elsewhere) == []
    for path in (judged.path(), model.path(), own.path()):
        with pytest.raises(StoreError, match="needed by another dataset"):
            delete(store, [path])
    unpin(own)
    assert {item.path for item in garbage(store)} == {judged.path(), lost.path()}
    for one in further:
        unpin(one)
    assert [item.path for item in garbage(elsewhere)] == [rejudged.path()]
