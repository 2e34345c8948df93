"""What an installation holds (a container image has no checkout): every source and data file of the packages."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from deploy.stack import ROOT

PACKAGES = ("pipeline_lib", "tasks", "flows", "deploy")


def test_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "README.md").touch()
    present = {str(p.relative_to(tmp_path)) for name in PACKAGES for p in (tmp_path / name).rglob("*") if p.is_file()}
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    content = zipfile.ZipFile(wheel)
    installed = {name for name in content.namelist() if ".dist-info/" not in name}
    assert installed == present
    (points,) = (name for name in content.namelist() if name.endswith("entry_points.txt"))
    assert content.read(points).decode().split("\n") == [
        "[console_scripts]",
        "prefalign = pipeline_lib.cli:main",
        "",
        "[mlflow.app]",
        "pipeline-auth = deploy.mlflow_access:create_app",
        "",
        "[preference_alignment.commands]",
        "doctor = deploy.doctor.__main__:main",
        "",
    ]


def test_lock_pins_every_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *(one for name in extras if name != "gpu" for one in extras[name])]
    # The project itself brings its other extras; `pip freeze` leaves setuptools out.
    names = {_normalise(requirement) for requirement in declared} - {project["name"], "setuptools"}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.partition("#")[0].strip() for line in lines if line.partition("#")[0].strip()]
    assert all(pin.count("==") == 1 for pin in pins)
    assert names <= {_normalise(pin) for pin in pins}


def _normalise(requirement: str) -> str:
    name = requirement
    for mark in "<>=![; ":
        name = name.partition(mark)[0]
    return name.lower().replace("_", "-")
