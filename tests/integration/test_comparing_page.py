"""The commands of docs/comparing.md, one after the other as the page has them, on files in place of its /data."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.stack.settings import ROOT
from pipeline_lib.shapes import HUB
from tests.integration.deployments import Deployments
from tests.pipeline_lib.models import loras

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

BASE = HUB / "shapes/base"
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def test_the_commands_compare_with_a_unet_and_loras_of_others(deployments: Deployments, tmp_path: Path) -> None:
    lora = loras.weights(BASE)
    plain = loras.pipeline(BASE)
    plain.load_lora_weights(loras.peft_names(lora))
    plain.fuse_lora()
    plain.unload_lora_weights()
    plain.unet.save_pretrained(tmp_path / "their-unet/unet")
    loras.save(loras.kohya(lora), tmp_path / "their-lora.safetensors")
    type(plain).save_lora_weights(tmp_path / "their-lora", lora)
    shutil.copytree(BASE, tmp_path / "their-base")
    deployments.register("compare/shapes")
    page = (ROOT / "docs" / "comparing.md").read_text(encoding="utf-8")
    (commands,) = BLOCK.findall(page.split("\n## Models of others\n")[1])
    for command in commands.splitlines():
        few = f"{command.replace('/data/', f'{tmp_path}/')} --param num_prompts=2 --param steps=2"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", few],
            cwd=ROOT,
            env=dict(deployments.env),
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, f"{few}\n{done.stdout}\n{done.stderr}"
        (name,) = re.findall(r"their-(?:unet|lora\.safetensors|lora)(?=\")", command)
        last = {"sort": "START_TIME_DESC", "limit": 1, "flows": {"name": {"any_": ["compare"]}}}
        (run,) = deployments.post("flow_runs/filter", last)
        assert run["state_type"] == "COMPLETED", deployments.logs(run)
        assert f"\n{name}\n" in deployments.logs(run)
