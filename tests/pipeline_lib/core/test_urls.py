"""Addresses with a login in them are refused, and the refusal does not repeat it; so are those that no store is on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.errors import ConfigError, UnknownNameError
from pipeline_lib.core.store import absolute, open_dataset, writer
from pipeline_lib.core.urls import FILE, LOCATION, PATTERN, SOURCE, STORE, place, refuse_elsewhere, refuse_login
from pipeline_lib.data.sources import open_source
from pipeline_lib.scoring.published import read_scores

FORM, STORES, LOCATIONS, SOURCES, FILES = (
    TypeAdapter(Annotated[str, Field(pattern=pattern)]) for pattern in (PATTERN, STORE, LOCATION, SOURCE, FILE)
)
SECRETS = [
    "s3://AKIA:planted@bucket/prefix",
    "s3://AKIA:pla/nted@bucket/prefix",
    "s3://planted@bucket",
    "https://user:planted@example.org/pairs",
    "hf://planted@datasets/org/name",
    "http://user:planted@[::1]:9000/x",
    "simplecache::s3://AKIA:planted@bucket",
]
PLAIN = [
    "/data/pairs",
    "~/a:b/c@d",
    "pairs",
    "s3://bucket",
    "s3://bucket/prefix@2",
    "hf://datasets/org/name@f602d48/train",
    "http://example.org:9000/a:b@c",
    "models:/balanced-sdxl@champion",
    "runs:/0123/model",
    "org/name@main",
    "shapes://pairs",
    "model/0123",
    "simplecache::s3://bucket/x",
    "file:///data",
]


@pytest.mark.parametrize("url", PLAIN)
def test_addresses_without_a_login_pass(url: str) -> None:
    assert refuse_login(url) == FORM.validate_python(url) == url


@pytest.mark.parametrize("url", SECRETS)
def test_a_login_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="AWS_SECRET_ACCESS_KEY") as refused:
        refuse_login(url)
    assert "planted" not in str(refused.value) and "nted" not in str(refused.value)
    with pytest.raises(ValidationError):
        FORM.validate_python(url)


def test_stores_and_sources_refuse_it() -> None:
    for use in (
        lambda: absolute(SECRETS[0]),
        lambda: writer(SECRETS[0], "labels", 1, {}),
        lambda: open_source(IngestConfig(source=SECRETS[4])),
    ):
        with pytest.raises(ConfigError, match="login"):
            use()


ON_A_STORE = ["/data/pairs", "~/a:b/c@d", "pairs", "s3://bucket", "s3://bucket/prefix@2", "file:///data", "model/0123"]
ON_A_STORE += ["models:/balanced-sdxl@champion", "runs:/0123/model", "org/name@main", "a:", "/", "s3://b/x:y/"]
ELSEWHERE = [
    "http://{0}/labels/0123",
    "https://{0}/labels/0123",
    "HTTP://{0}/x",
    "ftp://{0}/x",
    "simplecache::http://{0}/x",
    "filecache::http://{0}/x",
    "blockcache::s3://bucket/x",
    "zip://labels::http://{0}/x.zip",
    "zip::/data/x.zip",
    "s3://bucket/x::http://{0}/x",
    "/data/x::http://{0}/x",
    "a:::b",
    "reference::http://{0}/x.json",
    "github://org:repo@main/x",
    "memory://x",
    "file://{0}/x",
    "file:/x::http://{0}/x",
    "local://x",
    "s3a://bucket/x",
    "s3://",
    "s3://bucket:9000/x",
    "gs://bucket/x",
    "mlflow-artifacts://{0}/0/run/artifacts",
    "models://{0}/x",
    "webhdfs://{0}/x",
    "sftp://{0}/x",
]


@pytest.fixture(scope="module")
def asked() -> Iterator[tuple[str, list[str]]]:
    """An HTTP server of this machine, and the paths that it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", paths
    server.shutdown()


@pytest.mark.parametrize("url", ON_A_STORE)
def test_stores_pass(url: str) -> None:
    assert refuse_elsewhere(url) == url
    for form in (STORES, LOCATIONS, SOURCES):
        assert form.validate_python(url) == url


def test_the_built_in_world_and_the_hub_are_sources_and_no_stores() -> None:
    assert LOCATIONS.validate_python("shapes://hub") == SOURCES.validate_python("shapes://hub")
    SOURCES.validate_python("hf://datasets/org/name@f602d48/train")
    for form, url in ((STORES, "shapes://hub"), (STORES, "hf://datasets/x"), (LOCATIONS, "hf://datasets/x")):
        with pytest.raises(ValidationError):
            form.validate_python(url)


@pytest.mark.parametrize("path", ["/data/a::b.parquet", "~/x::y/z", "/::", "/a:/b::c:"])
def test_a_path_from_the_root_may_hold_colons_where_it_is_opened_as_one(path: str) -> None:
    assert FILES.validate_python(path) == SOURCES.validate_python(path) == path
    assert place(path) == str(Path(path).expanduser())
    for form in (STORES, LOCATIONS):
        with pytest.raises(ValidationError):
            form.validate_python(path)
    with pytest.raises(ConfigError):
        absolute(path)


@pytest.mark.parametrize("url", ELSEWHERE)
def test_nothing_asks_an_address_that_no_store_is_on(url: str, asked: tuple[str, list[str]]) -> None:
    where, paths = asked
    url = url.format(where)
    for form in (STORES, LOCATIONS, SOURCES, FILES):
        with pytest.raises(ValidationError):
            form.validate_python(url)
    for use in (
        lambda: place(url),
        lambda: open_dataset(url),
        lambda: absolute(url),
        lambda: writer(url, "labels", 1, {}),
        lambda: read_scores(url),
    ):
        with pytest.raises(ConfigError):
            use()
    with pytest.raises((ConfigError, UnknownNameError)):
        open_source(IngestConfig(source=url))
    assert paths == []


def test_a_path_is_a_path_whatever_it_begins_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsspec takes what begins with `data:` for the content itself."""
    monkeypatch.chdir(tmp_path)
    done = writer("data:store", "labels", 1, {}).commit([])
    assert Path(done.uri) == tmp_path / "data:store" / "labels" / done.key
    assert open_dataset(f"data:store/labels/{done.key}") == done
