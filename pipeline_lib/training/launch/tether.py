"""`python -m pipeline_lib.training.launch.tether <pid> <command>`: a command that gets SIGTERM when its parent dies.

Linux's parent-death signal survives exec, so the command needs to know nothing of it. A parent that was killed cannot
stop its children; without this a killed flow would leave a trainer behind that holds the GPU.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def follow_parent(parent: int) -> None:
    """Have this process sent SIGTERM when its parent ends; exits at once if `parent` has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    follow_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
