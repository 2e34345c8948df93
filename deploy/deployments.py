"""Registers the deployments of prefect.yaml: `python -m deploy.deployments [name ...]`; `make deploy` registers all.

`prefect deploy` does it, but wakes what people have paused: here that stays as it was. Forms and schedules follow.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client

from deploy import forms, schedules
from deploy.registered import FILE, registered
from deploy.stack.settings import ROOT


def as_people_left_it(client: SyncPrefectClient) -> dict[str, Any]:
    """The file's content, with `paused` at the deployments that are paused on the server."""
    configuration: dict[str, Any] = yaml.safe_load(FILE.read_text())
    paused = {(one.name, one.entrypoint) for one in registered(client) if one.paused}
    for deployment in configuration["deployments"]:
        if (deployment["name"], deployment["entrypoint"]) in paused:
            deployment["paused"] = True
            print(f"deployment {deployment['name']} of {deployment['entrypoint']}: stays paused")
    return configuration


def main() -> int:
    """Register those named, or all; the exit status of `prefect deploy`."""
    parser = argparse.ArgumentParser(prog="python -m deploy.deployments", description="Register deployments.")
    parser.add_argument("names", nargs="*", metavar="flow/deployment", help="which (default: all)")
    which = [part for name in parser.parse_args().names for part in ("--name", name)] or ["--all"]
    with get_client(sync_client=True) as client, tempfile.TemporaryDirectory() as folder:
        file = Path(folder, FILE.name)
        file.write_text(yaml.safe_dump(as_people_left_it(client), sort_keys=False))
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--prefect-file", str(file), *which]
        sys.stdout.flush()
        if code := subprocess.run(command, cwd=ROOT).returncode:
            return code
        forms.declare(client)
        schedules.declare_all(client)
    return 0


if __name__ == "__main__":
    sys.exit(main())
