"""The stack's state folder: what is said where it cannot be used, and logs that stay bounded."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.stack import ROOT
from deploy.stack.__main__ import main
from deploy.stack.logs import rotate


@pytest.fixture(params=["file", "below a file", "read-only"])
def unusable(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "read-only":
        if not Path("/proc/self").is_dir():
            pytest.skip("no folder in which nobody, not even root, can make another")
        return Path("/proc")
    (tmp_path / "file").touch()
    return tmp_path / "file" / ("inner" if request.param == "below a file" else "")


@pytest.mark.parametrize("command", ["up", "down", "status", "logs", "env"])
def test_a_state_folder_that_cannot_be_used_is_said_in_words(
    command: str, unusable: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIPELINE_STATE", str(unusable))
    monkeypatch.setattr(sys, "argv", ["stack", command])
    assert main() == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: the state folder {unusable} cannot be used") and "PIPELINE_STATE" in said


def test_a_log_is_rotated_while_it_is_written(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    code = "import sys, time\nfor i in range(4000): print(f'line {i:05d}', flush=True); time.sleep(0.0005)"
    with log.open("ab") as file:
        writer = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=file)
    largest = 0
    while writer.poll() is None:
        rotate(tmp_path, limit=5000)
        largest = max(largest, log.stat().st_size)
        time.sleep(0.05)
    assert largest < 20_000, "44 kB were written"
    before = (tmp_path / "part.log.1").read_text().splitlines()
    lines = log.read_text().splitlines()
    assert [*before, *lines][-1] == "line 03999"  # it may have been rotated after the last line
    assert all(len(line) == len("line 00000") for line in lines), "no holes"
    assert before and (not lines or before[-1] < lines[0])
