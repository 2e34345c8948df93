"""`make demo`: run `align/shapes` on the local stack, show a bar for each stage, then what came out."""

from __future__ import annotations

import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy.bars import shown
from deploy.flow_runs import ask, start, watch
from deploy.stack import StackError, StackSettings, current_settings
from deploy.stages import Watched
from pipeline_lib.evaluation.headline import headline

DEPLOYMENT = "align/shapes"
NAME = "balanced-shapes"
MODEL = f"models:/{NAME}@candidate"
USE = f"""  import mlflow
  from diffusers import DiffusionPipeline
  folder = mlflow.artifacts.download_artifacts("{MODEL}")
  pipe = DiffusionPipeline.from_pretrained(folder, use_safetensors=True)
  pipe("a large red circle on a dark blue background", guidance_scale=3).images[0].save("circle.png")
"""


def main() -> int:
    """Run, print, and end with one JSON line; returns the exit code."""
    try:
        return _run(current_settings())
    except (StackError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(settings: StackSettings) -> int:
    started = time.monotonic()
    run = start(settings, DEPLOYMENT, f"demo {uuid.uuid4().hex[:8]}", {})
    page = f"{settings.prefect_url}/runs/flow-run/{run.id}"
    print(f"{DEPLOYMENT}, as by `prefect deployment run {DEPLOYMENT}`: {page}", flush=True)
    watched = Watched(settings)
    try:
        with shown(Console()) as view:
            run = watch(settings, run, lambda run: view.show(watched.stages(run)))
    except KeyboardInterrupt:
        print(f"\nThe run goes on: {page}. `make down` ends it with the servers; `make demo` then continues it.")
        return 130
    seconds = time.monotonic() - started
    if run.state != "COMPLETED":
        print(f"\n{DEPLOYMENT} ended {run.state.lower()}: {run.message}")
        print(f"Logs: {page}, or `make logs`")
        print(json.dumps({"ok": False, "seconds": round(seconds, 1)}))
        return 1
    query = {"artifacts": {"flow_run_id": {"any_": [run.id]}, "key": {"any_": ["stages"]}}}
    stages = json.loads(ask(settings, "artifacts/filter", query)[0]["data"])
    evaluation = Path(next(row["uri"] for row in stages if row["stage"] == "evaluate"))
    report = json.loads((evaluation / "report.json").read_text())
    rates = report["win_rate"][NAME]
    _print_result(settings, run.id, stages, report, evaluation)
    rounded = {scorer: [round(value, 4) for value in rate] for scorer, rate in rates.items()}
    result = {
        "ok": True,
        "seconds": round(seconds, 1),
        "stages": {row["stage"]: row["seconds"] for row in stages},
        "win_rate": rounded,
        "model": MODEL,
        "report": str(evaluation / "report.html"),
    }
    print(json.dumps(result))
    return 0


def _print_result(
    settings: StackSettings,
    run_id: str,
    stages: list[dict[str, Any]],
    report: dict[str, Any],
    evaluation: Path,
) -> None:
    print("\nStage       seconds  status")
    for row in stages:
        print(f"{row['stage']:<10} {row['seconds']:>8.1f}  {row['status']}")
    skipped = sum(row["status"] == "skipped" for row in stages)
    print(f"{skipped} of {len(stages)} stages were skipped: the store already held their datasets." if skipped else "")
    print(headline(report))
    print(f"\nRegistered  {next(row['uri'] for row in stages if row['stage'] == 'register')} (alias candidate)")
    print(f"Gate        {report['gate'][NAME]['sentence']}")
    print(f"Report      {evaluation / 'report.html'}")
    print(f"Prefect UI  {settings.prefect_url}/runs/flow-run/{run_id}")
    print(f"MLflow UI   {settings.mlflow_url}")
    print(f"\nPull and use it (MLFLOW_TRACKING_URI={settings.mlflow_url}):\n")
    print(USE)


if __name__ == "__main__":
    raise SystemExit(main())
