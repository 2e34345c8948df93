"""Repositories from folders and mirrors, and what is said when the hub cannot be reached."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline_lib.core.errors import HubError
from pipeline_lib.core.hub import snapshot

ROOT = Path(__file__).resolve().parents[3]


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
        "from pipeline_lib.core.config import IngestConfig\n"
        "from pipeline_lib.core.errors import HubError\n"
        "from pipeline_lib.core.hub import snapshot\n"
        "from pipeline_lib.data.ingest import ingest\n"
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


def test_a_name_is_never_a_folder_of_the_working_directory(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a mirror as on the hub: presets name repositories, and a worker's directory may hold anything."""
    shadow = tmp_path / "work/org/name"
    shadow.mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    assert snapshot("org/name", mirror=str(mirror)) == mirror / "org/name"
    (tmp_path / "work/only").mkdir()
    with pytest.raises(HubError, match="no folder only"):
        snapshot("only", mirror=str(mirror))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    with pytest.raises(HubError, match="Cannot read org/name@main"):
        snapshot("org/name")


def test_a_path_is_that_folder_whatever_mirror_and_revision_say(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = mirror / "org/name"
    monkeypatch.setenv("HOME", str(mirror / "org"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for path in (str(folder), f"{folder}/", "~/name", "../mirror/org/name"):
        for source in ("hub", "shapes://hub", str(tmp_path)):
            found = snapshot(path, "refs/pr/1", ["config.json"], source)
            assert found.is_absolute() and found.samefile(folder)
    with pytest.raises(HubError, match=r"There is no folder .*/work/name\."):
        snapshot("./name", mirror=str(mirror))
    with pytest.raises(HubError, match=r"lacks vae/\*"):
        snapshot(str(folder), files=["vae/*"])


def test_a_link_to_nothing_is_a_missing_file(mirror: Path) -> None:
    """As in the hub's cache where somebody removed blobs."""
    (mirror / "org/name/unet/more.safetensors").symlink_to("../../../blobs/gone")
    with pytest.raises(HubError, match=r"lacks unet/\*\.safetensors"):
        snapshot("org/name", files=["config.json", "unet/*.safetensors"], mirror=str(mirror))
