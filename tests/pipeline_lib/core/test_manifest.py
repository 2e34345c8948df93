"""Manifests that are old, empty, cut, edited, newer, foreign: read, or refused by an error that names the file."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core import digest as digests
from pipeline_lib.core.digest import digest
from pipeline_lib.core.errors import DatasetCorruptError, ManifestError
from pipeline_lib.core.garbage import delete, garbage
from pipeline_lib.core.lineage import lineage
from pipeline_lib.core.store import Dataset, check, open_dataset, verify, writer
from pipeline_lib.core.store.manifest import LIMIT, read_manifest
from pipeline_lib.core.store_tools import main


def made(store: Path, stage: str = "labels", number: int = 0, *inputs: Dataset) -> Dataset:
    w = writer(str(store), stage, 1, {"number": number}, inputs)
    files = {"model/weights": b"w%d" % number, "model/base.json": b"{}", "report.html": b"<p>%d</p>" % number}
    return w.commit([w.write_bytes(path, content) for path, content in files.items()], {"kept": number})


def as_version_0(manifest: Path) -> dict[str, Any]:
    """What releases before versions wrote."""
    said = json.loads(manifest.read_text())
    del said["manifest_version"], said["manifest_digest"]
    said["code_version"] = said.pop("code")["release"]
    manifest.write_text(json.dumps(said, indent=1, sort_keys=True))
    return dict(said)


def resigned(said: dict[str, Any], **changes: Any) -> str:
    """A manifest with other fields and the digest that belongs to them."""
    content = {name: value for name, value in {**said, **changes}.items() if name != "manifest_digest"}
    return json.dumps({**content, "manifest_digest": digest(content)})


def test_a_manifest_without_version_is_read(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    as_version_0(Path(dataset.uri, "manifest.json"))
    assert open_dataset(dataset.uri) == dataset
    assert writer(str(tmp_path), "labels", 1, {"number": 0}).finished() == dataset


def test_what_a_later_release_adds_to_this_version_does_no_harm(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    path = Path(dataset.uri, "manifest.json")
    path.write_text(resigned(json.loads(path.read_text()), code={"release": "9", "modules": "abc"}, notes=["x"]))
    assert open_dataset(dataset.uri).code == {"release": "9", "modules": "abc"}
    assert open_dataset(dataset.uri).digest == dataset.digest


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], str | bytes], str]] = {
    "empty": (lambda said: "", "is empty"),
    "blanks": (lambda said: " \n", "is empty"),
    "zeros": (lambda said: bytes(4096), "is not JSON"),
    "cut": (lambda said: json.dumps(said)[:-30], "is not JSON, or only a part of it"),
    "text": (lambda said: "<html>Not found</html>", "is not JSON"),
    "latin-1": (lambda said: json.dumps({"stage": "é"}, ensure_ascii=False).encode("latin-1"), "is not JSON"),
    "nested": (lambda said: "[" * 100_000, "is not JSON"),
    "array": (lambda said: json.dumps([said]), "holds a JSON array, not an object"),
    "number": (lambda said: "1e9", "holds a JSON number"),
    "null": (lambda said: "null", "holds a JSON null"),
    "web app": (lambda said: '{"name": "app", "icons": [], "start_url": "/"}', "is no dataset's manifest"),
    "docker": (lambda said: '{"schemaVersion": 2, "layers": []}', "is no dataset's manifest"),
    "newer": (lambda said: resigned(said, manifest_version=2), "has version 2, and this release reads up to 1"),
    "version as text": (lambda said: resigned(said, manifest_version="1"), "is no dataset's manifest"),
    "version taken out": (
        lambda said: json.dumps({k: v for k, v in said.items() if k != "manifest_version"}),
        "is no dataset's manifest",
    ),
    "digest taken out": (
        lambda said: json.dumps({k: v for k, v in said.items() if k != "manifest_digest"}),
        "was edited",
    ),
    "config": (lambda said: json.dumps({**said, "config": {"number": 7}}), "was edited"),
    "inputs": (lambda said: json.dumps({**said, "inputs": [{"uri": "a/b", "digest": "c"}]}), "was edited"),
    "not a number": (lambda said: json.dumps({**said, "created": float("nan")}), "does not say what a manifest says"),
    "shard lost": (lambda said: resigned(said, shards=said["shards"][1:]), "was edited"),
    "shards of text": (lambda said: resigned(said, shards=["a"]), "does not say what a manifest says"),
    "shards missing": (
        lambda said: resigned({k: v for k, v in said.items() if k != "shards"}),
        "does not say what a manifest says",
    ),
    "outside": (
        lambda said: resigned(said, shards=[{**said["shards"][0], "path": "../../secret"}]),
        "does not say what a manifest says",
    ),
    "another's": (lambda said: resigned(said, key="0" * 16), "is that of another dataset"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_others_are_refused_by_name(tmp_path: Path, name: str) -> None:
    dataset = made(tmp_path)
    path = Path(dataset.uri, "manifest.json")
    content, problem = BROKEN[name]
    broken = content(json.loads(path.read_text()))
    path.write_bytes(broken if isinstance(broken, bytes) else broken.encode())
    for use in (lambda: open_dataset(dataset.uri), writer(str(tmp_path), "labels", 1, {"number": 0}).finished):
        with pytest.raises(ManifestError, match=problem) as refused:
            use()
        assert str(path) in refused.value.problem and refused.value.remedy and len(str(refused.value)) < 1000


def test_an_endless_manifest_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="more than 256 MiB"):
        read_manifest(b" " * (LIMIT + 1), "manifest.json")


@pytest.mark.parametrize("field", ["shards", "digest", "stage"])
def test_a_manifest_without_version_must_agree_with_itself(tmp_path: Path, field: str) -> None:
    dataset = made(tmp_path)
    path = Path(dataset.uri, "manifest.json")
    said = as_version_0(path)
    said[field] = said[field][1:]
    path.write_text(json.dumps(said))
    with pytest.raises(ManifestError):
        open_dataset(dataset.uri)


def test_a_folder_under_another_key_answers_another_question(tmp_path: Path) -> None:
    one, two = made(tmp_path, number=1), made(tmp_path, number=2)
    shutil.rmtree(two.uri)
    shutil.copytree(one.uri, two.uri)
    with pytest.raises(ManifestError, match=rf"another dataset, {one.path()}"):
        open_dataset(two.uri)


def test_a_linked_folder_is_the_dataset_that_it_is_linked_as(tmp_path: Path) -> None:
    dataset = made(tmp_path / "store")
    moved = tmp_path / "large-disk"
    shutil.move(dataset.uri, moved)
    os.symlink(moved, dataset.uri)
    assert open_dataset(dataset.uri).digest == dataset.digest
    with pytest.raises(ManifestError, match="another dataset"):
        open_dataset(str(moved))


@pytest.mark.parametrize("name", ["empty", "cut", "web app", "newer", "config", "another's"])
def test_garbage_lists_what_cannot_be_read_and_goes_on(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = made(tmp_path, "ingest")
    broken, unneeded = made(tmp_path, "labels", 1, source), made(tmp_path, "model", 2)
    path = Path(broken.uri, "manifest.json")
    content = BROKEN[name][0](json.loads(path.read_text()))
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = {item.path: item for item in garbage(str(tmp_path))}
    assert found[broken.path()].why == "unreadable" and str(path) in found[broken.path()].problem
    assert found[unneeded.path()].why == "unreferenced"
    assert (source.path() in found) == (name in ("empty", "web app")), "kept, as far as the manifest still names it"
    assert main(["garbage", str(tmp_path)]) == 0
    assert str(path) in capsys.readouterr().out
    delete(str(tmp_path), [broken.path()])
    assert not Path(broken.uri).exists()


def test_lineage_leaves_out_what_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = made(tmp_path, "ingest")
    labels = made(tmp_path, "labels", 1, source)
    Path(source.uri, "manifest.json").write_text("{}")
    assert lineage([labels]) == [labels]
    assert source.uri in caplog.text


def test_verify_notices_an_edited_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = made(tmp_path, number=3)
    path = Path(dataset.uri, "manifest.json")
    path.write_text(path.read_text().replace('"kept": 3', '"kept": 4'))
    assert main(["verify", dataset.uri]) == 1
    assert f"{path} was edited" in capsys.readouterr().err


def count_hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are hashed from now on."""
    hashed, whole = list[Path](), digests.file_sha256

    def counted(path: Path) -> str:
        hashed.append(path)
        return whole(path)

    monkeypatch.setattr(digests, "file_sha256", counted)
    return hashed


READS: dict[str, Callable[[Dataset], object]] = {
    "open": lambda dataset: dataset.open("model/weights").read(),
    "local": lambda dataset: dataset.local("model"),
    "check": check,
}


@pytest.mark.parametrize("how", READS)
def test_a_file_that_changes_after_it_was_verified_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(digests, "SETTLED_S", 0.05)
    hashed = count_hashed(monkeypatch)
    dataset = made(tmp_path)
    time.sleep(0.1)
    for _ in range(3):
        READS[how](dataset)
    assert len(hashed) == len(set(hashed)), "each file once"
    path = Path(dataset.uri, "model/weights")
    said = path.stat()
    path.write_bytes(b"v0")  # as long as before
    os.utime(path, ns=(said.st_atime_ns, said.st_mtime_ns))
    with pytest.raises(DatasetCorruptError, match=r"1 of 3 files .*model/weights"):
        READS[how](dataset)


def test_verify_reads_what_was_verified_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "SETTLED_S", 0.0)
    dataset = made(tmp_path)
    check(dataset)
    hashed = count_hashed(monkeypatch)
    verify(dataset)
    assert len(hashed) == 3


@pytest.mark.parametrize("stray", ["model/unet/config.json", "model/pytorch_lora_weights.safetensors", "model/x"])
def test_files_beside_a_model_are_not_loaded_with_it(tmp_path: Path, stray: str) -> None:
    dataset = made(tmp_path)
    path = Path(dataset.uri, stray)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"{}")
    with pytest.raises(DatasetCorruptError, match=stray):
        dataset.local("model")
    path.unlink()
    Path(dataset.uri, "model/.weights.0123.tmp").write_bytes(b"left by a writer that was killed")
    assert dataset.local("model") == Path(dataset.uri, "model")
