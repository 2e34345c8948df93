"""The hub source through the real hub client, against a server on loopback that speaks the hub's HTTP API."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from pipeline_lib.config import IngestConfig
from pipeline_lib.errors import HubError, PipelineError, SourceError
from pipeline_lib.ingest import ingest, plan, start
from tests.pipeline_lib.source_files import row, write_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "org/pairs"


class Hub(BaseHTTPRequestHandler):
    """One dataset repository at one commit; branch "main" and tag "v2" point at it."""

    folder: Path
    log: list[tuple[str, str, str]]

    def log_message(self, format: str, *args: object) -> None:
        return None

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        paths = json.loads(body)["paths"] if body.startswith("{") else re.findall(r"paths=([^&]+)", body)
        self.json([entry for entry in self.entries() if entry["path"] in paths])

    def do_GET(self) -> None:
        self.log.append((self.command, self.path, self.headers.get("Range", "")))
        path = self.path.partition("?")[0]
        if match := re.fullmatch(rf"/api/datasets/{REPO}/revision/([^/]+)", path):
            if match[1] not in ("main", "v2", COMMIT):
                return self.json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
            siblings = [{"rfilename": e["path"], "size": e["size"], "blobId": e["oid"]} for e in self.entries()]
            return self.json({"id": REPO, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False})
        if path.startswith(f"/api/datasets/{REPO}/tree/{COMMIT}"):
            return self.json(self.entries())
        if path.startswith(f"/datasets/{REPO}/resolve/{COMMIT}/"):
            return self.content(self.folder / path.partition(f"{COMMIT}/")[2])
        self.json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    def entries(self) -> list[dict[str, object]]:
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [
            {
                "type": "file",
                "path": path.relative_to(self.folder).as_posix(),
                "size": path.stat().st_size,
                "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
            }
            for path in files
        ]

    def content(self, path: Path) -> None:
        data = path.read_bytes()
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(match[1]), min(int(match[2]), len(data) - 1)) if match else (0, len(data) - 1)
        self.send_response(206 if match else 200)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[first : last + 1])

    def json(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            **(headers or {}),
        }.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server, made the client's endpoint, whose repository holds two splits in files of several row groups."""
    Hub.folder, Hub.log = tmp_path / "repo", []
    for i in range(2):
        rows = [row(j) for j in range(6 * i, 6 * i + 6)]
        write_file(Hub.folder / f"data/train-{i:05d}-of-00002.parquet", rows)
    write_file(Hub.folder / "data/validation-00000-of-00001.parquet", [row(99)])
    (Hub.folder / "README.md").write_text("pairs")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "ENDPOINT": endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(constants, name, value)
    huggingface_hub.HfFileSystem.clear_instance_cache()
    yield
    huggingface_hub.HfFileSystem.clear_instance_cache()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.usefixtures("hub")
def test_hub_dataset_equals_the_same_files_on_disk(tmp_path: Path) -> None:
    dataset = ingest(str(tmp_path / "store"), IngestConfig(source=f"hf://datasets/{REPO}@v2"))
    local = ingest(str(tmp_path / "local"), IngestConfig(source=str(Hub.folder)))
    assert dataset.digest == local.digest
    assert dataset.counts == local.counts
    assert dataset.config["source"] == f"hf://datasets/{REPO}@{COMMIT}"
    assert [name for name, _, _ in dataset.config["files"]] == [f"data/train-0000{i}-of-00002.parquet" for i in (0, 1)]
    reads = [wanted for method, path, wanted in Hub.log if "resolve" in path and method == "GET"]
    assert reads and all(wanted.startswith("bytes=") for wanted in reads), "a file was downloaded whole"
    branch = ingest(str(tmp_path / "store"), IngestConfig(source=f"hf://datasets/{REPO}"))
    assert branch.uri == dataset.uri, "a branch and a tag at the same commit are the same question"


@pytest.mark.usefixtures("hub")
def test_split_in_the_url_wins(tmp_path: Path) -> None:
    dataset = ingest(str(tmp_path / "store"), IngestConfig(source=f"hf://datasets/{REPO}@main/validation"))
    assert dataset.scan("pairs").collect()["split"].to_list() == ["validation"]


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (f"hf://datasets/{REPO}@v9", HubError, "org/pairs@v9: the hub has the repository but not this revision"),
        ("hf://datasets/org/other", HubError, "org/other@main does not exist on the hub, or is private"),
        (f"hf://datasets/{REPO}/test", SourceError, "has no files of split 'test'"),
    ],
)
def test_what_the_hub_does_not_have_is_a_typed_error(
    tmp_path: Path, source: str, error: type[PipelineError], message: str
) -> None:
    with pytest.raises(error, match=message):
        ingest(str(tmp_path), IngestConfig(source=source))


@pytest.mark.usefixtures("hub")
def test_hub_that_goes_away_while_reading_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = start(str(tmp_path), IngestConfig(source=f"hf://datasets/{REPO}"))
    monkeypatch.setattr(Hub, "content", lambda self, path: self.json({"error": "gone"}, 404))
    with pytest.raises(SourceError, match=r"Cannot (open|read) hf://datasets/org/pairs@0123456789abcdef"):
        plan(job)
