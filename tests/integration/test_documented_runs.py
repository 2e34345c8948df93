"""The docs' runs of the built-in world and of own pairs, shorter than on the pages; and how a model is pulled."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from deploy.deployments import chosen, fields
from deploy.stack.settings import ROOT
from pipeline_lib.presets import PRESETS
from pipeline_lib.shapes import assets_dir
from tests.docs.blocks import Command, blocks, commands
from tests.docs.elsewhere import UNKNOWN_TO_FORMS
from tests.integration.deployments import Deployments

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

SHORT: dict[str, Any] = {"limit": 240, "steps": 4, "num_prompts": 8}
SWEEP: dict[str, Any] = {"seeds": [0], "common": {"method": "dpo", "limit": 240, "steps": 4}, "num_prompts": 8}
THEIRS = "/data/their-"
"""What tests/integration/test_comparing_page.py compares with."""


def here(run: Command) -> bool:
    """Whether this machine can do the run: it needs no other base model, and no cluster."""
    unknown = any(run.page == page and run.text.startswith(text) for page, text in UNKNOWN_TO_FORMS)
    preset = run.words[3].rpartition("/")[2].rpartition("-")[2]
    return not unknown and preset not in (*set(PRESETS) - {"shapes"}, "v2")


OTHERS = [command for command in commands() if command.is_run and THEIRS not in command.text]
RUNS = {run.text.partition(" #")[0].strip(): run for run in OTHERS if here(run)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages have in /data: pairs, and scores of their images."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "my-pairs").mkdir()
    part = sorted((assets_dir() / "pairs").glob("*.parquet"))[0]
    shutil.copy(part, folder / "my-pairs")
    pairs = pl.read_parquet(part, columns=["caption", "image_0_uid"]).head(240)
    scores = pairs.select(image_uid="image_0_uid", prompt="caption", scorer=pl.lit("theirs")).unique("image_uid")
    scores.with_row_index("score").cast({"score": pl.Float64}).write_parquet(folder / "scores.parquet")
    return folder


def store(deployments: Deployments) -> Path:
    """Where the stack's runs keep their datasets."""
    return Path(deployments.env["PIPELINE_STATE"], "store")


def shell(command: str, deployments: Deployments, cwd: Path = ROOT) -> str:
    """What a command prints, in a shell that has this Python and knows the stack."""
    env = {**deployments.env, "PATH": f"{Path(sys.executable).parent}:{deployments.env['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=cwd, env=env, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("line", RUNS)
def test_it_ends_well(line: str, deployments: Deployments, aligned: dict[str, Any], data: Path) -> None:
    name = RUNS[line].words[3]
    deployments.register(name)
    (entry,) = chosen([name])
    parameters = fields(entry, "docs")["parameter_openapi_schema"]["properties"]
    short = dict(SWEEP) if name.startswith("sweep/") else {key: SHORT[key] for key in SHORT if key in parameters}
    if name.startswith("evaluate/"):  # without a model it trains one, at full length
        short["model"] = deployments.stages(aligned)["train"]["uri"]
    line = line.replace("/data/", f"{data}/")
    for imported in store(deployments).glob("scores-theirs/*"):
        line = line.replace("<store>/scores-theirs/<key>", str(imported))
    options = "".join(f" --param '{key}={json.dumps(value)}'" for key, value in short.items())
    run_id = shell(f"{line} --watch{options} | tee /dev/stderr | grep -o 'flow-run/[0-9a-f-]*' | head -1", deployments)
    run = deployments.get(f"flow_runs/{run_id.strip().removeprefix('flow-run/')}")
    assert run["state_type"] == "COMPLETED", deployments.logs(run)


@pytest.mark.usefixtures("aligned")
def test_the_model_is_pulled_and_generates(deployments: Deployments, tmp_path: Path) -> None:
    found = [block.text for block in blocks("python") if block.page == "docs/registry.md"]
    code = "\n".join(found).replace("balanced-sdxl", "balanced-shapes").replace('.to("cuda")', '.to("cpu")')
    (tmp_path / "page.py").write_text(code)
    shell(f"{sys.executable} page.py", deployments, tmp_path)
    assert (tmp_path / "astronaut.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("aligned")
def test_the_shell_is_pointed_at_the_stack_and_pins_agree(deployments: Deployments) -> None:
    (line,) = {command.text.partition(" #")[0] for command in commands() if command.text.startswith("eval ")}
    said = shell(f"{line}; echo $PREFECT_API_URL", deployments)
    assert said.strip() == deployments.env["PREFECT_API_URL"]
    (line,) = [command.text.partition(" #")[0] for command in commands() if "deploy.pins" in command.text]
    shell(line.replace("<store>", str(store(deployments))), deployments)
