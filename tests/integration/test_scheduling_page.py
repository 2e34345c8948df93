"""The commands of docs/scheduling.md, one after the other as the page has them."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest

from deploy.stack.settings import ROOT
from tests.integration.deployments import Deployments

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def test_the_commands_do_what_the_page_says(deployments: Deployments) -> None:
    by_command, by_api = BLOCK.findall((ROOT / "docs" / "scheduling.md").read_text(encoding="utf-8"))
    with deployments.unscheduled("ingest/shapes") as deployment:

        def after(command: str) -> list[tuple[str, bool]]:
            """(when, whether it is on) of the schedules that the deployment then has, the oldest first."""
            words = {"cwd": ROOT, "env": dict(deployments.env), "capture_output": True, "text": True, "timeout": 120}
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], **words)
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            return [(str(s["schedule"].get("cron") or s["schedule"]["interval"]), s["active"]) for s in schedules()]

        def schedules() -> list[dict[str, Any]]:
            return sorted(deployments.get(f"deployments/{deployment}/schedules"), key=lambda s: s["created"])

        first, second = "0 3 * * *", "3600.0"
        create, create_another, ls, pause, resume, clear = by_command.splitlines()
        assert after(create) == [(first, True)]
        assert after(create_another) == [(first, True), (second, True)]
        assert after(ls) == [(first, True), (second, True)]
        oldest = schedules()[0]["id"]
        assert after(pause.replace("<ID>", oldest)) == [(first, False), (second, True)]
        assert after(resume.replace("<ID>", oldest)) == [(first, True), (second, True)]
        assert after(clear) == []
        assert after(by_api) == [("0 4 * * *", True)]
        (small,) = schedules()
        assert (small["slug"], small["parameters"]) == ("small", {"limit": 60})
