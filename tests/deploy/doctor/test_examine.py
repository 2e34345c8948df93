"""The checks run side by side: none can break or hold up the others, and no secret is printed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from deploy.doctor import Finding, Surroundings, examine
from deploy.doctor.checks import CHECKS
from deploy.doctor.findings import ok, redacted, warning
from deploy.doctor.versions import differences, pinned
from pipeline_lib.core.registry import Registry

HERE = "tests.deploy.doctor.test_examine"
SECRETS = {"PREFECT_API_AUTH_STRING": "team:correct-horse", "AWS_SECRET_ACCESS_KEY": "battery/staple", "HOME": "/root"}


def breaks(surroundings: Surroundings) -> Iterator[Finding]:
    yield ok("breaks", "said before")
    raise KeyError("state")


def hangs(surroundings: Surroundings) -> Iterator[Finding]:
    time.sleep(30)
    yield ok("hangs", "never said")


def tells(surroundings: Surroundings) -> Iterator[Finding]:
    yield warning("tells", "http://admin:hunter2@mlflow:5000 with correct-horse", "aws configure battery/staple")


def test_checks_that_break_hang_or_tell_secrets() -> None:
    checks = Registry(
        "check", {name: f"{HERE}:{name}" for name in ("breaks", "hangs", "tells")} | {"gone": "no.such:one"}
    )
    started = time.monotonic()
    found = list(examine(Surroundings(SECRETS, findings=(ok("servers", "up"),)), checks, deadline_s=1.0))
    assert time.monotonic() - started < 10
    assert [finding.check for finding in found] == ["servers", "breaks", "breaks", "hangs", "tells", "gone"]
    assert found[2].what == "the check broke: KeyError: 'state'"
    assert found[3].what == "the check had no answer within 1 s"
    assert found[4] == warning("tells", "http://***@mlflow:5000 with ***", "aws configure ***")
    assert "ModuleNotFoundError" in found[5].what
    assert all(finding.remedy for finding in found if finding.level != "ok")


def test_what_is_secret_and_what_is_not() -> None:
    assert (
        redacted("postgresql://u:p@db/x in /root, key battery/staple", SECRETS)
        == "postgresql://***@db/x in /root, key ***"
    )
    assert redacted("team has a token", {"HF_TOKEN": "", "SOME_TOKEN": "a"}) == "team has a token"


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_of_the_list_exists(name: str) -> None:
    assert callable(CHECKS.get(name))


def test_versions_beside_their_pins() -> None:
    pins = pinned()
    assert [finding.level for finding in differences(pins)] == ["ok"]
    (older,) = differences(pins | {"fastapi": "0.1.0"})
    assert older.level == "warning" and older.what.endswith("is installed, 0.1.0 was tested")
    assert "fastapi==0.1.0" in older.remedy
    local = {name: f"{found}" for name, found in pins.items()}
    assert [finding.level for finding in differences(local)] == ["ok"]
