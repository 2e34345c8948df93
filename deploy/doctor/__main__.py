"""Command line of the doctor: `make doctor`, `python -m deploy.doctor --preset sdxl`, `--json` for scripts."""

import argparse
import json
import os
import sys
from dataclasses import asdict

from deploy.doctor import Finding, examine, look_around
from deploy.stack import StackError
from pipeline_lib.presets import PRESETS

MARKS = {"ok": "ok", "warning": "WARNING", "error": "ERROR"}


def lines(finding: Finding) -> str:
    """The finding as text: one line, and one with the remedy where there is something to do."""
    text = f"{MARKS[finding.level]:<8} {finding.check:<15} {finding.what}"
    return f"{text}\n{'':<24} -> {finding.remedy}" if finding.remedy else text


def main(arguments: list[str] | None = None) -> int:
    """Print the findings; 0 without errors, 1 with, 2 when it was called wrongly (argparse)."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.doctor",
        description="Check what runs need: versions, servers, workers, GPU, disks, the model hub, S3, and stuck runs.",
    )
    parser.add_argument("--preset", choices=sorted(PRESETS), default="shapes", help="whose needs (default: shapes)")
    parser.add_argument("--json", action="store_true", help="print a list of findings instead of text")
    options = parser.parse_args(arguments)
    try:
        surroundings = look_around(os.environ, options.preset)
    except StackError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    findings = []
    for finding in examine(surroundings):
        findings.append(finding)
        if not options.json:
            print(lines(finding), flush=True)
    count = {level: sum(finding.level == level for finding in findings) for level in MARKS}
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        print(f"{count['error']} errors, {count['warning']} warnings, {count['ok']} fine")
    return 1 if count["error"] else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # a check that hangs in a library must not keep the process
