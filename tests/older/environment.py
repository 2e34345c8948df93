"""Virtual environments with older versions of transformers and diffusers, and with this environment's torch.

Built once into .state/older (a minute each, from the package index) and kept until the versions or this file change.
torch and what it requires are links to this environment's files: they are large, and the same torch in all leaves
nothing but the two libraries to differ.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from packaging.requirements import Requirement

from pipeline_lib.generation.pull import OLDER

FOLDER = Path(__file__).resolve().parents[2] / ".state/older"
SAME = ("accelerate", "mlflow-skinny", "numpy", "pandas", "pillow", "safetensors")
"""Packages of the versions that are installed here. mlflow-skinny is what a consumer needs to pull."""

START = """
import runpy, sys
sys.path.append(sys.argv.pop(1))
for package in ("open_clip", "peft", "prefect", "timm", "torchvision"):  # a consumer need not have them
    sys.modules[package] = None
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


class NoPackageIndex(Exception):
    """The packages cannot be fetched."""


def packages() -> dict[tuple[str, str], Path]:
    """(transformers, diffusers) -> site-packages of an environment with them; the last one is this process's.

    Raises:
        NoPackageIndex: an environment has to be built, and no package index answers.
    """
    older = {pair: _environment(*pair) for pair in OLDER.items()}
    return older | {(version("transformers"), version("diffusers")): Path(sysconfig.get_path("purelib"))}


def command(packages: Path, script: Path, *arguments: str) -> list[str]:
    """Run a script with these packages and no others, not even what .pth files add: this project's own install."""
    return [sys.executable, "-I", "-S", "-c", START, str(packages), str(script), *arguments]


def _environment(transformers: str, diffusers: str) -> Path:
    wanted = [f"transformers=={transformers}", f"diffusers=={diffusers}", *(f"{n}=={version(n)}" for n in SAME)]
    parts = [*wanted, version("torch"), sys.version, sysconfig.get_path("purelib"), Path(__file__).read_text()]
    recipe = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    folder = FOLDER / f"transformers-{transformers}"
    stamp = folder / "recipe"
    if not stamp.exists() or stamp.read_text() != recipe:
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, symlinks=True)
        _link("torch", next(folder.glob("lib/python*/site-packages")))
        options = ["--quiet", "--disable-pip-version-check", "--retries", "1"]
        python = str(folder / "bin/python")
        pip = [sys.executable, "-m", "pip", "--python", python, "install", *options, *wanted]
        done = subprocess.run(pip, capture_output=True, text=True)
        if "connection broken" in done.stderr:
            raise NoPackageIndex(f"{folder.name} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
        stamp.write_text(recipe)
    return next(folder.glob("lib/python*/site-packages"))


def _link(package: str, site: Path) -> None:
    """Make an installed package and what it requires part of another environment."""
    for name in _required(package, set()):
        for top in {file.parts[0] for file in distribution(name).files or () if file.parts[0] != ".."}:
            source = Path(str(distribution(name).locate_file(top)))
            if source.exists() and not (site / top).exists() and not top.endswith(".pth"):
                (site / top).symlink_to(source)


def _required(package: str, seen: set[str]) -> Iterator[str]:
    name = re.sub(r"[-_.]+", "-", package).lower()
    if name not in seen:
        seen.add(name)
        try:
            requires = distribution(name).requires or ()
        except PackageNotFoundError:
            return
        yield name
        for requirement in map(Requirement, requires):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                yield from _required(requirement.name, seen)
