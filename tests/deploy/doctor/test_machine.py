"""What the doctor says of this machine's disks and GPUs."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.doctor import Surroundings
from deploy.doctor.disk import Place, disks, room
from deploy.doctor.findings import Finding
from deploy.doctor.gpu import Gpu, Torch, gpus, installed_gpus, judge
from deploy.doctor.needs import needs_of
from pipeline_lib.presets import PRESETS

GB = 10**9
A100 = Gpu("NVIDIA A100-SXM4-80GB", "550.54.15", 85 * GB)
BUILT = Torch("12.6", True)
Usage = namedtuple("Usage", "total used free")


def surroundings(folder: Path, preset: str, **variables: str) -> Surroundings:
    return Surroundings({"PIPELINE_STATE": str(folder / "state"), "HF_HOME": str(folder / "hub"), **variables}, preset)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_needs(preset: str) -> None:
    needs = needs_of(preset)
    assert needs.store > 0 and needs.state > 0
    assert (needs.gpu > 0) == (needs.cache > 0) == (preset != "shapes")


def test_larger_models_and_images_need_more() -> None:
    sd15, sd21, sdxl = (needs_of(name) for name in ("sd15", "sd21", "sdxl"))
    assert sd15.gpu < sdxl.gpu and sd15.cache < sd21.cache < sdxl.cache and sd15.store < sd21.store < sdxl.store


def test_places_on_one_disk_need_the_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = needs_of("sd15")
    total = needs.store + needs.state + needs.cache
    for free, level in ((total, "ok"), (total - 1, "warning")):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: Usage(0, 0, free))
        (found,) = (finding for finding in disks(surroundings(tmp_path, "sd15")) if "/dev/shm" not in finding.what)
        assert found.level == level and f"{total / 1e9:.1f} GB for a first run" in found.what
    assert "PIPELINE_STATE, PIPELINE_STORE, HF_HOME" in found.remedy
    on_s3 = list(disks(surroundings(tmp_path, "sd15", PIPELINE_STORE="s3://store")))
    assert on_s3 and not [finding for finding in on_s3 if "store /" in finding.what]


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    finding = room([Place("store", tmp_path / "not" / "there", 1, "PIPELINE_STORE")])
    assert finding.level == "error" and "cannot be written by this user" in finding.what


def gpu(found: list[Gpu], torch: Torch = BUILT, needed: int = 31 * GB, here: bool = True) -> list[Finding]:
    return list(judge(found, torch, "sdxl", needed, here))


def test_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed_gpus() == []
    levels = {
        (preset, pool): [f.level for f in gpus(surroundings(tmp_path, preset, PIPELINE_GPU_POOL=pool))]
        for preset in ("shapes", "sdxl")
        for pool in ("local", "gpu")
    }
    assert levels == {
        ("shapes", "local"): ["ok"],
        ("shapes", "gpu"): ["ok"],
        ("sdxl", "local"): ["error"],
        ("sdxl", "gpu"): ["ok"],
    }


def test_gpus_by_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA L4, 550.54.15, 23034'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert installed_gpus() == [Gpu("NVIDIA L4", "550.54.15", 23034 * 2**20)]
    program.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n")
    (finding,) = gpus(surroundings(tmp_path, "sdxl"))
    assert finding.level == "error" and "version mismatch" in finding.what


def test_a_gpu_beside_the_need_the_driver_and_torch() -> None:
    assert [finding.level for finding in gpu([A100])] == ["ok"]
    (small,) = gpu([replace(A100, memory=24 * GB)])
    assert small.level == "error" and "alone need 31.0 GB" in small.what and "sharding=fsdp" in small.remedy
    (_, cpu_build) = gpu([A100], Torch("", False))
    assert cpu_build.level == "error" and "without CUDA" in cpu_build.what
    (_, old_driver) = gpu([A100], Torch("13.0", False))
    assert "built for CUDA 13.0 and finds no GPU with driver 550.54.15" in old_driver.what
    assert gpu([A100, replace(A100, name="L40")])[-1].level == "warning"
