"""A server on loopback that speaks the hub's HTTP API, for tests of what is read from the hub by the real client."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import huggingface_hub
import pytest
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """One repository at one commit, as a dataset's and as a model's; branch "main" and tag "v2" point at it."""

    repo: str
    commit: str
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
        path = unquote(self.path.partition("?")[0])
        if match := re.fullmatch(rf"/api/(?:datasets|models)/{self.repo}/revision/([^/]+)", path):
            if match[1] not in ("main", "v2", self.commit):
                return self.json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
            siblings = [{"rfilename": e["path"], "size": e["size"], "blobId": e["oid"]} for e in self.entries()]
            return self.json({"id": self.repo, "sha": self.commit, "siblings": siblings, "tags": [], "private": False})
        if re.match(rf"/api/(datasets|models)/{self.repo}/tree/(main|v2|{self.commit})", path):
            return self.json(self.entries())
        if re.match(rf"(/datasets)?/{self.repo}/resolve/{self.commit}/", path):
            return self.content(self.folder / path.partition(f"{self.commit}/")[2])
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
        self.send_header("X-Repo-Commit", self.commit)
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


@contextmanager
def serve(patch: pytest.MonkeyPatch, repo: str, folder: Path, commit: str = COMMIT) -> Iterator[None]:
    """Serve `folder` as the dataset and the model `repo` at `commit`, and make the server the client's endpoint."""
    Hub.repo, Hub.commit, Hub.folder, Hub.log = repo, commit, folder, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "ENDPOINT": endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
    }.items():
        patch.setattr(constants, name, value)
    huggingface_hub.HfFileSystem.clear_instance_cache()
    yield
    huggingface_hub.HfFileSystem.clear_instance_cache()
    server.shutdown()
    thread.join()
    server.server_close()
