"""`python -m pipeline_lib.training spec.json`, or `accelerate launch -m pipeline_lib.training spec.json` for several.

Exit codes: 0 done; 75 (EX_TEMPFAIL) stopped by SIGTERM after a checkpoint: start me again; 2 an error a user can fix,
its message on stderr; anything else is a crash. `<run_dir>/status.json` says the same for launchers that hide codes.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

from pipeline_lib.core.disk import space
from pipeline_lib.core.errors import ConfigError, PipelineError
from pipeline_lib.training.launch.sigterm import asked_to_stop
from pipeline_lib.training.launch.spec import INTERRUPTED, STATUS, TRAINERS, USER_ERROR, read_spec
from pipeline_lib.training.launch.tether import follow_parent

RESERVE = 64 << 10
"""Bytes kept free for the last words on a full disk."""


def main(arguments: list[str]) -> int:
    """Train the spec named by the only argument; returns the exit code."""
    if len(arguments) != 1:
        print("usage: python -m pipeline_lib.training spec.json", file=sys.stderr)
        return USER_ERROR
    if "LOCAL_RANK" in os.environ:  # one of several, started by a launcher that may be killed
        follow_parent(os.getppid())
    stopping = asked_to_stop()
    try:
        spec = read_spec(Path(arguments[0]))
        run_dir = Path(spec.run_dir)
        logging.basicConfig(format=f"%(asctime)s %(levelname)s train model/{run_dir.name}: %(message)s")
        lock = _lock_file(run_dir)  # until this process ends
        fcntl.flock(lock, fcntl.LOCK_SH)
        status = run_dir / STATUS
        reserve = run_dir / f"reserve-{os.environ.get('RANK', '0')}"
        with space(run_dir):
            _write(status, {"status": "running"})
            reserve.write_bytes(bytes(RESERVE))
        _set_threads()
        from pipeline_lib.training.trainer import train  # after _set_threads, and slow: it loads torch

        try:
            with space(run_dir):
                outcome = train(spec, stopping)
        except PipelineError as error:
            failed = {"status": "failed", "error": type(error).__name__}
            reserve.unlink(missing_ok=True)  # the error may be that the disk is full
            with suppress(OSError):
                _write(status, failed | {"problem": error.problem, "remedy": error.remedy})
            raise
        reserve.unlink(missing_ok=True)
        with space(run_dir):
            _write(status, {"status": outcome})
    except PipelineError as error:
        with suppress(OSError):  # a log on a full disk; the job sees that for itself
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return USER_ERROR
    return 0 if outcome == "done" else INTERRUPTED


def _lock_file(run_dir: Path) -> IO[str]:
    try:
        with space(run_dir):
            run_dir.mkdir(parents=True, exist_ok=True)
            return (run_dir / TRAINERS).open("a")
    except OSError as error:
        raise ConfigError(
            f"The run folder {run_dir} cannot be used: {error}.", "Name a folder that this user may write to."
        ) from error


def _set_threads() -> None:
    """One thread unless OMP_NUM_THREADS says otherwise: the number decides how sums round, so the default is fixed."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _write(status: Path, content: dict[str, str]) -> None:
    if os.environ.get("RANK", "0") != "0":
        return
    scratch = status.with_suffix(".tmp")
    scratch.write_text(json.dumps(content) + "\n")
    os.replace(scratch, status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
