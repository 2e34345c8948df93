"""Packages: a known vulnerability and a licence that nobody allowed fail the check; a silent database does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from deploy.packages import audit, licences
from deploy.stack.processes import free_port

VULNERABLE = {
    "id": "GHSA-test",
    "summary": "made up",
    "affected": [
        {
            "package": {"name": "toml", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "0.10.3"}]}],
        }
    ],
}


class Database(BaseHTTPRequestHandler):
    """Answers as OSV does; it knows of one vulnerable package."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["package"]["name"] == "broken":
            return self.send_error(500)
        body = json.dumps({"vulns": [VULNERABLE]} if asked["package"]["name"] == "toml" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a database; `audit.main` asks it about a list of two packages and keeps its answer apart."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Database)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1/query"
    for name in ("CONSTRAINTS", "ACCEPTED"):
        monkeypatch.setattr(audit, name, tmp_path / name)
    audit.CONSTRAINTS.write_text("six==1.17.0\ntoml==0.10.2\n")
    audit.ACCEPTED.write_text("")
    monkeypatch.setattr(audit, "SERVICE", url)
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "state"))
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield url
    server.shutdown()
    server.server_close()


def test_a_known_vulnerability_fails_until_it_is_accepted(service: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert audit.main() == 1
    assert "GHSA-test" in capfd.readouterr().err
    audit.ACCEPTED.write_text("GHSA-test  # nothing here reads TOML of others\n")
    assert audit.main() == 0
    assert "but 1 accepted" in capfd.readouterr().out
    audit.CONSTRAINTS.write_text("six==1.17.0\n")
    audit.ACCEPTED.write_text("")
    assert audit.main() == 0
    assert "packages: no known vulnerability\n" in capfd.readouterr().out


def test_an_answer_holds_for_a_day(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    audit.CONSTRAINTS.write_text("six==1.17.0\n")
    assert audit.main() == 0
    monkeypatch.setattr(audit, "audit", lambda *_: pytest.fail("asked again"))
    assert audit.main() == 0
    audit.CONSTRAINTS.write_text("six==1.17.0\ntoml==0.10.2\n")
    with pytest.raises(pytest.fail.Exception, match="asked again"):
        audit.main()


@pytest.mark.usefixtures("service")
def test_without_a_database_the_check_says_so_and_passes(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    monkeypatch.setattr(audit, "SERVICE", f"http://127.0.0.1:{port}/v1/query")
    assert audit.main() == 0
    said = f"packages: NOT checked for known vulnerabilities, 127.0.0.1:{port} cannot be reached\n"
    assert capfd.readouterr().out == said


@pytest.mark.usefixtures("service")
def test_a_database_that_fails_is_no_finding(capfd: pytest.CaptureFixture[str]) -> None:
    audit.CONSTRAINTS.write_text("broken==1.0\n")
    assert audit.main() == 0
    assert capfd.readouterr().out.startswith("packages: NOT checked for known vulnerabilities, ")


def test_what_is_accepted_has_a_reason() -> None:
    audit.accepted(audit.ACCEPTED.read_text())
    with pytest.raises(ValueError, match="reason"):
        audit.accepted("GHSA-1\n")


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("MIT", False),
        ("GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", True),
        ("MIT OR GPL-3.0-only", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", False),
        ("SSPL-1.0 AND (Apache-2.0 OR MIT)", True),
        ("unknown", True),
    ],
)
def test_licences_outside_the_list_are_refused(expression: str, wrong: bool) -> None:
    assert licences.refused("some-package", expression) is wrong


def test_every_pinned_package_is_listed_with_an_allowed_licence() -> None:
    names = licences.pinned((licences.ROOT / "constraints.txt").read_text())
    lines, wrong = licences.table(names)
    listed = licences.entries(licences.LIST.read_text().splitlines())
    assert wrong == [] and licences.stale(listed, licences.entries(lines), names) == []
    assert set(listed) == set(names), "those of extras too"
    assert licences.stale({"six": "GPL", "gone": "MIT"}, {"six": "MIT"}, ["six"]) == [
        "six: listed as 'GPL', is 'MIT'",
        "gone: listed, but not pinned",
    ]
