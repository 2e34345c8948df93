"""Peak memory of this process."""

from __future__ import annotations

import re
from pathlib import Path


def peak_bytes() -> int:
    """Largest resident size since this program started.

    Not `getrusage`: its figure survives exec, so a child reports the size of the process that started it.
    """
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found, "Linux only"
    return int(found[1]) * 1024
