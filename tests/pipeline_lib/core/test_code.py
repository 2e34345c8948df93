"""Datasets that other code made: known by the stage's modules, used with a line in the log, made again by force."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline_lib import __version__
from pipeline_lib.core import code
from pipeline_lib.core.digest import digest
from pipeline_lib.core.store import Dataset, DatasetWriter, begun, open_dataset, writer

FILES = {
    "stage.py": "from pipeline_lib.losses import (\n    dpo,\n    ipo,\n)\nfrom pipeline_lib import reader  # late\n",
    "losses/__init__.py": "",
    "losses/dpo.py": "def f():\n    import pipeline_lib.deep\n",
    "losses/ipo.py": "SCORERS = {'clip': 'pipeline_lib.scoring.clip:locate'}\n",
    "deep.py": "",
    "reader.py": "x = 1\n",
    "scoring/__init__.py": "",
    "scoring/clip.py": "",
    "elsewhere.py": "from pipeline_lib import stage\n",
}
Edit = Callable[[str, str], None]


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Edit]:
    """A package in the place of this one, and a function that writes a file of it, as seen by a new process."""

    def write(name: str, text: str) -> None:
        path = tmp_path / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        code._said.clear()
        for cached in (code.modules, code._named_in):
            cached.cache_clear()

    for name, text in FILES.items():
        write(name, text)
    monkeypatch.setattr(code, "ROOT", tmp_path / "package")
    yield write
    write("stage.py", "")  # nothing of it stays in the caches


def stage(root: Path) -> DatasetWriter:
    return writer(str(root / "store"), "stage", 1, {"a": 1}, modules=["pipeline_lib.stage"])


def run(root: Path, content: bytes) -> Dataset:
    """What every stage does."""
    w = stage(root)
    return w.finished() or w.commit([w.write_bytes("file", content)])


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def content(dataset: Dataset) -> bytes:
    with dataset.open("file") as file:
        return file.read()


def test_a_stage_consists_of_all_that_it_imports_or_names(edit: Edit) -> None:
    names = ["deep", "losses", "losses.dpo", "losses.ipo", "reader", "scoring", "scoring.clip", "stage"]
    assert list(code.modules("pipeline_lib.stage")) == [f"pipeline_lib.{name}" for name in names]


def test_this_package_s_stages_have_what_decides_their_results() -> None:
    training = code.modules("pipeline_lib.training.launch.job", "pipeline_lib.training.__main__")
    assert {f"pipeline_lib.training.{name}" for name in ("losses", "step", "batches", "adaptive")} <= training.keys()
    assert "pipeline_lib.training.losses" not in code.modules("pipeline_lib.data.ingest.stage")
    scoring = code.modules("pipeline_lib.scoring.stage")
    assert {f"pipeline_lib.scoring.{name}" for name in ("clip", "imagereward", "preprocess")} <= scoring.keys()
    assert "pipeline_lib" not in training, "which has the number of the release"


def test_the_manifest_records_the_release_and_the_modules(edit: Edit, tmp_path: Path) -> None:
    made = run(tmp_path, b"1")
    assert made.code == {"release": __version__, **code.modules("pipeline_lib.stage")}
    assert made.digest == digest([[made.shards[0].path, made.shards[0].sha256]]), "no part of its identity"


@pytest.mark.parametrize("name", ["losses/dpo.py", "scoring/clip.py", "deep.py"])
def test_edited_code_is_not_answered_from_the_store_in_silence(
    name: str, edit: Edit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = run(tmp_path, b"1")
    edit("elsewhere.py", "y = 2")
    assert run(tmp_path, b"2") == made and not warnings(caplog), "a module of other stages"
    edit(name, FILES[name] + "# another")
    module = name.removesuffix(".py").replace("/", ".")
    assert run(tmp_path, b"2") == run(tmp_path, b"3") == made
    (said,) = warnings(caplog)
    assert said == (
        f"{made.path()} was made by other code (release {__version__}: {module}). It is used; force=true makes it "
        "again by this code."
    )


def test_force_makes_it_again_in_a_folder_of_its_own_once(
    edit: Edit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = run(tmp_path, b"1")
    with code.recomputing():
        assert run(tmp_path, b"same code") == made
    edit("losses/dpo.py", "edited")
    with code.recomputing(False):
        assert run(tmp_path, b"2") == made
    with code.recomputing():
        w = stage(tmp_path)
        assert w.finished() is None
        shard = w.write_bytes("file", b"2")  # and killed
        again = stage(tmp_path)
        assert again.existing("file") == shard
        ours = again.commit([shard])
        assert run(tmp_path, b"3") == ours, "the same code once more"
    caplog.clear()
    assert run(tmp_path, b"4") == ours and not warnings(caplog), "this very code made it"
    assert content(ours) == b"2" and content(open_dataset(made.uri)) == b"1"
    edit("losses/dpo.py", FILES["losses/dpo.py"])
    assert run(tmp_path, b"5") == made and not warnings(caplog), "the edit taken back"


def test_what_other_code_began_is_continued_and_the_log_says_so(
    edit: Edit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def both(name: str) -> Dataset:
        w = writer(str(tmp_path / name), "stage", 1, {}, modules=["pipeline_lib.stage"])
        return w.finished() or w.commit([w.existing("a") or w.write_bytes("a", b""), w.write_bytes("b", b"")])

    began = code.modules("pipeline_lib.stage")
    stage(tmp_path).write_bytes("file", b"1")  # and killed
    edit("losses/ipo.py", FILES["losses/ipo.py"] + "# edited")
    begun._noted.clear()  # as in another process
    w = stage(tmp_path)
    shard = w.existing("file")
    assert shard is not None and w.existing("file") == shard
    (said,) = warnings(caplog)
    assert said.startswith(f"{w.path()} was begun by other code (release {__version__}: losses.ipo). It is")
    made = w.commit([shard])
    assert made.code == {"release": __version__, **began}, "the older of the two"
    assert sorted(path.name for path in Path(made.uri).iterdir()) == ["file", "manifest.json"]
    caplog.clear()
    assert both("elsewhere").code.items() > code.modules("pipeline_lib.stage").items()
    assert not warnings(caplog), "begun and ended by one code"


@pytest.mark.parametrize("note", [b"", b"{", b"[1]", b"null"])
def test_a_note_of_the_beginning_that_cannot_be_read_is_unknown_code(
    note: bytes, edit: Edit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    w = stage(tmp_path)
    w.write_bytes("file", b"1")
    Path(w.uri, begun.BEGUN).write_bytes(note)
    begun._noted.clear()
    made = w.commit([w.existing("file") or w.write_bytes("file", b"2")])
    assert made.code == {"release": __version__}
    assert "its modules are not recorded" in caplog.text


def test_force_holds_where_it_was_asked_for() -> None:
    with code.recomputing(), code.recomputing(False):
        assert code.forced(), "a flow that a forced one starts"
    assert not code.forced()


def test_a_dataset_from_before_modules_were_recorded_is_used_and_the_log_says_so(
    edit: Edit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = run(tmp_path, b"1")
    path = Path(made.uri, "manifest.json")
    manifest = json.loads(path.read_text())
    del manifest["manifest_version"], manifest["manifest_digest"], manifest["code"]
    path.write_text(json.dumps({**manifest, "code_version": "0.0.9"}))
    assert content(run(tmp_path, b"2")) == b"1"
    assert "(release 0.0.9: its modules are not recorded)" in caplog.text


def test_a_dataset_that_is_named_is_used_and_the_log_says_what_was_edited_since(
    edit: Edit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = run(tmp_path, b"1")
    code.say_named(made.path(), made.code)
    assert not warnings(caplog)
    edit("deep.py", "edited")
    for _ in range(2):
        code.say_named(made.path(), made.code)
    run(tmp_path, b"2")
    (said,) = warnings(caplog)
    assert said.startswith(f"{made.path()} was made by other code (release {__version__}: deep). It is used because")
    code.say_named("stage/before", {"release": "0.0.9"})
    assert warnings(caplog)[1].startswith("stage/before was made by other code (release 0.0.9: its modules are not")


def test_a_message_names_a_few_modules(edit: Edit) -> None:
    ours = {f"pipeline_lib.m{i}": "1" for i in range(6)}
    theirs = {"release": "0.2.0", **dict.fromkeys(ours, "2")}
    assert code.told(theirs, ours) == "release 0.2.0: m0, m1, m2, m3 and 2 more"
