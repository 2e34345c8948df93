"""torchvision beside a CPU torch: importable when wanted, free until then."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from pipeline_lib.core import torchvision_ops


def test_torchvision_imports_and_nothing_is_loaded_before() -> None:
    code = (
        "import sys, pipeline_lib; assert 'torch' not in sys.modules, 'pipeline_lib must not load torch'\n"
        "import torchvision, torch; assert torch.ops.torchvision.nms and torch.ops.torchvision.qnms"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("missing", [True, False])
def test_environment_is_mended_only_where_operators_are_missing(
    missing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision_ops, "declare_missing_operators", lambda: missing)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    torchvision_ops.mend_environment()
    written = list(tmp_path.glob("*.pth"))
    assert len(written) == missing
    for path in written:
        (line,) = path.read_text().splitlines()
        assert line.startswith("import "), "site runs only lines that begin with import"
        exec(line)
