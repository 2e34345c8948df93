"""Runs the checks side by side, each with a deadline; one that breaks or hangs says so and costs no other its turn."""

import threading
import time
from collections.abc import Iterator, Mapping

from deploy.doctor.checks import CHECKS, Check
from deploy.doctor.findings import Finding, warning, without_secrets
from deploy.doctor.surroundings import Surroundings
from pipeline_lib.core.registry import Registry

DEADLINE_S = 25.0


def examine(
    surroundings: Surroundings, checks: Registry[Check] = CHECKS, deadline_s: float = DEADLINE_S
) -> Iterator[Finding]:
    """The findings of `surroundings` and of every check, in the order of the list, without secrets.

    Threads are daemons: one that hangs ends with the process.
    """
    done: dict[str, list[Finding]] = {name: [] for name in checks}
    threads = {
        name: threading.Thread(target=_run, args=(name, checks, surroundings, done), daemon=True) for name in done
    }
    for thread in threads.values():
        thread.start()
    for finding in surroundings.findings:
        yield without_secrets(finding, surroundings.variables)
    end = time.monotonic() + deadline_s
    for name, thread in threads.items():
        thread.join(max(0.0, end - time.monotonic()))
        findings = list(done[name])
        if thread.is_alive():
            findings.append(_late(name, deadline_s))
        for finding in findings:
            yield without_secrets(finding, surroundings.variables)


def _run(name: str, checks: Registry[Check], surroundings: Surroundings, done: Mapping[str, list[Finding]]) -> None:
    try:
        for finding in checks.get(name)(surroundings):
            done[name].append(finding)
    except Exception as problem:  # whatever it is: the other checks have something to say
        remedy = (
            "this says nothing about what it checks; run `python -m deploy.doctor` again, and report it if it stays"
        )
        done[name].append(warning(name, f"the check broke: {type(problem).__name__}: {problem}", remedy))


def _late(name: str, deadline_s: float) -> Finding:
    remedy = "what it asked is slow or hangs (a network disk, a proxy): see the lines above, then run it again"
    return warning(name, f"the check had no answer within {deadline_s:.0f} s", remedy)
