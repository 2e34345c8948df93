"""`make claims`: run the papers' claims on the local stack, one after another, keep their results, write CLAIMS.md.

`pipeline_lib/claims/outcomes` holds the results. An interrupted run is cancelled, so that its trainers leave
checkpoints; the next `make claims` continues it, because the stages find in the store what was finished.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from subprocess import SubprocessError

import polars as pl

from deploy.doctor.gpu import installed_gpus
from deploy.flow_runs import ENDED, FlowRun, cancel, dataset_of, follow, runs_named, start
from deploy.stack import StackError, StackSettings, current_settings
from pipeline_lib.claims import document, results
from pipeline_lib.core.errors import PipelineError
from pipeline_lib.core.store import open_dataset
from pipeline_lib.presets import PRESETS
from pipeline_lib.sweeps.claim import Claim, load, names
from pipeline_lib.sweeps.verdict import judge
from pipeline_lib.training.launch.launcher import visible_gpus

ROW = "{:<12} {:<12} {:>6} {:>7}  {}"
GIVE_UP_S = 120.0
"""How long a cancelled run may take to end before it is left to the worker."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 where a claim failed, 130 after an interrupt."""
    parser = argparse.ArgumentParser(prog="python -m deploy.claim_runs", description="Measure the papers' claims.")
    parser.add_argument("--claim", action="append", metavar="NAME", help="only this one; may be given several times")
    parser.add_argument("--preset", default="shapes", choices=sorted(PRESETS))
    parser.add_argument("--max-parallel", type=int, metavar="N", help="models trained at a time")
    arguments = parser.parse_args(argv)
    try:
        claims = _chosen(arguments.claim, arguments.preset)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = current_settings()
    failed = []
    print(ROW.format("Claim", "Preset", "Models", "Minutes", "Verdicts"))
    for claim in claims:
        try:
            result, seconds = _run(settings, claim, arguments.preset, arguments.max_parallel)
            print(_row(claim, arguments.preset, result, seconds), flush=True)
        except KeyboardInterrupt:
            print("Interrupted. `make claims` continues where it stopped.")
            return 130
        except (PipelineError, StackError, OSError) as error:
            failed.append(claim.name)
            print(f"{claim.name}: {error}", file=sys.stderr)
    if failed:
        print(f"Failed: {', '.join(failed)}. What they finished stays: run `make claims` again.", file=sys.stderr)
        return 1
    print(f"Wrote {document.DOCUMENT}. Results: {results.FOLDER.relative_to(document.ROOT)}")
    return 0


def _chosen(named: Sequence[str] | None, preset: str) -> list[Claim]:
    """The claims that are named, or all that the preset can test."""
    claims = [load(name) for name in named or names()]
    if not named:
        return [claim for claim in claims if claim.runs_on(preset)]
    for claim in claims:
        claim.check(preset)
    return claims


def _run(settings: StackSettings, claim: Claim, preset: str, max_parallel: int | None) -> tuple[results.Result, float]:
    """Run one claim's sweep to its end, and keep what came out.

    Returns:
        the results, and the seconds that their runs on this stack took; `Machine.seconds` are those of the runs that
        gave these bytes first.

    Raises:
        StackError: the run did not complete.
        KeyboardInterrupt: after the run was cancelled.
    """
    prefix = f"claim {claim.name}-{preset} "
    for one in runs_named(settings, prefix):
        if one.state not in ENDED:
            _tell(f"{one.name} is {one.state.lower()} already: waiting for it")
            _follow(settings, one)
    parameters = {} if max_parallel is None else {"max_parallel": max_parallel}
    run = start(settings, f"sweep/{claim.name}-{preset}", f"{prefix}{uuid.uuid4().hex[:8]}", parameters)
    _tell(f"{run.name}: {settings.prefect_url}/runs/flow-run/{run.id}")
    ended = _follow(settings, run)
    if ended.state != "COMPLETED":
        raise StackError(f"{ended.name} ended {ended.state.lower()}: {ended.message}\n-> make logs")
    dataset = open_dataset(dataset_of(settings, ended, "sweep"))
    with dataset.open("report.json") as file:
        report = json.load(file)
    with dataset.open("outcomes.parquet") as file:
        outcomes = pl.read_parquet(file)
    # An interrupted sweep took several runs; what the store had already is in the time of an earlier one.
    seconds = sum(one.seconds for one in runs_named(settings, prefix))
    results.keep(claim, outcomes, report, dataset.digest, _machine(seconds))
    document.write()
    return results.read(results.FOLDER / f"{claim.name}-{preset}"), seconds


def _follow(settings: StackSettings, run: FlowRun) -> FlowRun:
    """Follow a run to its end; on an interrupt cancel it and wait a while for it."""
    try:
        return follow(settings, run, _tell)
    except KeyboardInterrupt:
        _tell(f"cancelling {run.name}")
        cancel(settings, run)
        until = time.monotonic() + GIVE_UP_S
        while time.monotonic() < until:
            if all(one.state in ENDED for one in runs_named(settings, run.name)):
                break
            time.sleep(1.0)
        raise


def _machine(seconds: float) -> results.Machine:
    gpu = None
    if visible_gpus():
        try:
            gpu = next((one.name for one in installed_gpus()), None)
        except (OSError, SubprocessError, ValueError):
            gpu = "GPU"
    return results.Machine(cores=len(os.sched_getaffinity(0)), gpu=gpu, seconds=round(seconds, 1))


def _row(claim: Claim, preset: str, result: results.Result, seconds: float) -> str:
    counts = Counter(judge(result.outcomes, finding).word for finding in claim.findings)
    verdicts = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    models = len(claim.settings) * len(claim.seeds)
    return ROW.format(claim.name, preset, models, f"{seconds / 60:.1f}", verdicts)


def _tell(words: str) -> None:
    print(f"  {words}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
