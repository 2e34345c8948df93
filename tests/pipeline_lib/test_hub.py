"""Repositories from folders and mirrors, and what is said when the hub cannot be reached."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline_lib.errors import HubError
from pipeline_lib.hub import snapshot

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror/org/name"
    (folder / "unet").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "unet/weights.safetensors").write_bytes(b"")
    return tmp_path / "mirror"


def test_mirror_folder(mirror: Path) -> None:
    assert snapshot("org/name", mirror=str(mirror)) == mirror / "org/name"
    assert snapshot("org/name", "abc", ["config.json", "unet/*.safetensors"], str(mirror)) == mirror / "org/name"


def test_missing_file_is_named(mirror: Path) -> None:
    with pytest.raises(HubError, match=r"org/name .* lacks vae/\*"):
        snapshot("org/name", files=["config.json", "vae/*"], mirror=str(mirror))


def test_missing_repository_is_named(mirror: Path) -> None:
    with pytest.raises(HubError, match="no folder org/other"):
        snapshot("org/other", mirror=str(mirror))


def test_local_folder_is_a_repository(mirror: Path) -> None:
    assert snapshot(str(mirror / "org/name"), mirror="hub") == mirror / "org/name"


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("offline", ["0", "1"])
def test_unreachable_hub_is_a_short_typed_error_soon(tmp_path: Path, offline: str) -> None:
    """For weights and for pairs, in a new process: the client reads its environment when it is imported."""
    program = (
        "from pipeline_lib.config import IngestConfig\n"
        "from pipeline_lib.errors import HubError\n"
        "from pipeline_lib.hub import snapshot\n"
        "from pipeline_lib.ingest import ingest\n"
        "for attempt in (\n"
        "    lambda: snapshot('org/name', 'main', ['config.json']),\n"
        "    lambda: ingest('unused', IngestConfig(source='hf://datasets/org/name@main')),\n"
        "):\n"
        "    try:\n"
        "        attempt()\n"
        "    except HubError as error:\n"
        "        print(error)\n"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{closed_port()}",
        "HF_HUB_OFFLINE": offline,
        "HF_HOME": str(tmp_path),
    }
    began = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.strip().splitlines()
    assert [line.partition(":")[0] for line in lines[::2]] == [
        "Cannot read org/name@main",
        "Cannot read datasets/org/name@main",
    ]
    assert all("the model hub cannot be reached" in line for line in lines[::2])
    assert all(line.startswith("-> Check the network, proxy and HF_ENDPOINT") for line in lines[1::2])
    assert time.monotonic() - began < 60
