"""SIGTERM as a request: the trainer writes a checkpoint before it ends."""

from __future__ import annotations

import signal
from collections.abc import Callable


def asked_to_stop() -> Callable[[], bool]:
    """Have SIGTERM no longer end this process; the function returned says whether one has come.

    A plain flag, as setting a `threading.Event` takes a lock: the kernel sends one SIGTERM for every thread of a
    parent that dies (tether.py), and the second, interrupting the first one's handler, would wait for that for ever.
    """
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True

    signal.signal(signal.SIGTERM, ask)
    return lambda: asked
