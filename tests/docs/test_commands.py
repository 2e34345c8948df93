"""Every command and every block of Python in the docs: executed here or in the test that is named, or not, and why."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from deploy.deployments import chosen, fields, full_name
from deploy.registered import DECLARED
from pipeline_lib.core.store import writer
from pipeline_lib.labels import recipes
from pipeline_lib.sweeps import claim as claims
from tests.docs.blocks import ROOT, Command, blocks, commands
from tests.docs.elsewhere import NOT_RUN, TESTED, UNKNOWN_TO_FORMS, said

RUNS_HERE = (
    "python -m pipeline_lib.core.store_tools",
    ".venv/bin/python -m pipeline_lib.labels",
    "install ",
    "mkdir ",
)
ON_A_STACK = ("eval ", "python -m deploy.pins")
"""What tests/integration/test_documented_runs.py executes beside the runs."""


def runs() -> list[Command]:
    return [command for command in commands() if command.is_run]


def test_every_command_is_executed_or_has_a_reason_not_to_be() -> None:
    ways = {
        str(command): [
            command.is_run,
            command.text.startswith(RUNS_HERE + ON_A_STACK),
            said(TESTED, command.page, command.text) is not None,
            said(NOT_RUN, command.page, command.text) is not None,
        ].count(True)
        for command in commands()
    }
    assert len(ways) > 40
    assert {name: count for name, count in ways.items() if count != 1} == {}


def test_every_block_of_python_is_executed_or_has_a_reason_not_to_be() -> None:
    known = {str(block): (block.page, block.text.strip()) for block in blocks("python")}
    assert len(known) > 8
    assert [name for name, key in known.items() if (said(TESTED, *key) is None) == (said(NOT_RUN, *key) is None)] == []


def test_the_lists_name_nothing_else() -> None:
    shown = [(command.page, command.text) for command in commands()]
    shown += [(block.page, block.text.strip()) for block in blocks("python")]
    for table in (TESTED, NOT_RUN):
        used = {said(table, page, text) for page, text in shown}
        assert [key for key in table if key not in used] == []
    assert all((ROOT / path).is_file() for path in TESTED.values())


@pytest.mark.parametrize("command", [c for c in commands() if c.words[0] == "make"], ids=str)
def test_targets_of_make_are_there(command: Command) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for part in command.text.partition("#")[0].split("&&"):
        target, *variables = part.split()[1:]
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        assert all(f"$({name.partition('=')[0]}" in makefile for name in variables), variables


@pytest.mark.parametrize("command", runs(), ids=str)
def test_the_form_takes_the_run(command: Command) -> None:
    """As Prefect's server compares a run's parameters with the deployment's form, before anything starts."""
    name, given = asked(command)
    (entry,) = chosen([name])
    about = fields(entry, "docs")
    values = {**about["parameters"], **given}
    if any(command.text.startswith(text) for page, text in UNKNOWN_TO_FORMS if page == command.page):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(values, about["parameter_openapi_schema"])
    else:
        jsonschema.validate(values, about["parameter_openapi_schema"])


def test_readmes_table_has_every_flow_with_its_deployments() -> None:
    rows = re.findall(r"^\| ((?:`[\w-]+`(?:, )?)+) \| ([^|]+) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    shown = {
        f"{flow}/{name}"
        for flows, names in rows
        for flow in re.findall("`(.*?)`", flows)
        for name in re.sub(r",? (and one|one) per .*", "", names).split(", ")
    }
    per_recipe = {f"label/{name}" for name in recipes.names()}
    per_claim = {f"sweep/{name}-{preset}" for name in claims.names() for preset in ("shapes", "sd15")}
    assert shown == {full_name(one) for one in DECLARED} - per_recipe - per_claim


def asked(command: Command) -> tuple[str, dict[str, Any]]:
    """The deployment and the parameters of a run, read as `prefect deployment run` does."""
    name, *options = command.words[3:]
    given = {}
    while options:
        option = options.pop(0)
        assert option in ("--param", "--watch"), option
        if option == "--param":
            key, _, value = options.pop(0).partition("=")
            try:
                given[key] = json.loads(value)
            except json.JSONDecodeError:
                given[key] = value
    return name, given


@pytest.mark.parametrize("command", [c for c in commands() if c.text.startswith(RUNS_HERE)], ids=str)
def test_it_runs(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if command.words[0] in ("install", "mkdir"):
        (tmp_path / "docker").mkdir()
        shutil.copy(ROOT / "docker/.env.example", tmp_path / "docker")
        line = command.text.replace("/shared", str(tmp_path)).replace("chgrp team", f"chgrp {os.getgid()}")
        subprocess.run(["bash", "-euc", line], cwd=tmp_path, check=True)
        return
    dataset = writer(str(tmp_path), "notes", 1, {})
    place = dataset.commit([dataset.write_bytes("words.txt", b"words")]).uri
    words = [w.replace("<store>/<stage>/<key>", place).replace("<store>", str(tmp_path)) for w in command.words]
    monkeypatch.setattr(sys, "argv", words[2:])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    assert not ended.value.code
    assert capsys.readouterr().out.strip()
