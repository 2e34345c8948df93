"""SIGTERM as a request: however many arrive, and whatever they interrupt."""

from __future__ import annotations

import subprocess
import sys

FLOODED = """
import os, signal, threading, time
from pipeline_lib.training.launch.sigterm import asked_to_stop
stopping = asked_to_stop()
assert not stopping()
end = time.monotonic() + 1
def flood():
    while time.monotonic() < end:
        os.kill(os.getpid(), signal.SIGTERM)
thread = threading.Thread(target=flood)
thread.start()
while time.monotonic() < end or not stopping():
    pass
thread.join()
print("stopped", stopping())
"""


def test_one_sigterm_in_the_middle_of_another_does_no_harm() -> None:
    done = subprocess.run([sys.executable, "-c", FLOODED], capture_output=True, text=True, timeout=60)
    assert done.stdout == "stopped True\n", done.stderr
