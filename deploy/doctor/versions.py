"""Python and the packages whose versions decide results, or whether a server starts at all."""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from deploy.doctor.findings import Finding, error, ok, warning
from deploy.doctor.surroundings import Surroundings
from deploy.stack.settings import ROOT

CHECK = "versions"
OLDEST, TOO_NEW = (3, 11), (3, 14)
MATTER = (
    "prefect",
    "fastapi",
    "SQLAlchemy",
    "mlflow",
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "accelerate",
    "peft",
    "safetensors",
    "huggingface_hub",
    "open_clip_torch",
    "timm",
    "numpy",
    "pillow",
    "pyarrow",
    "polars",
    "s3fs",
)


def pinned(constraints: Path = ROOT / "constraints.txt") -> dict[str, str]:
    """Package -> version of a constraints file; empty where there is none (container images hold no checkout)."""
    if not constraints.is_file():
        return {}
    lines = (line.partition("#")[0].strip() for line in constraints.read_text().splitlines())
    pins = (line.split("==") for line in lines if "==" in line)
    return {name.lower().replace("-", "_"): found for name, found in pins}


def versions(surroundings: Surroundings) -> Iterator[Finding]:
    """Python's version, and what is installed beside what was tested."""
    running = ".".join(map(str, sys.version_info[:3]))
    if not OLDEST <= sys.version_info[:2] < TOO_NEW:
        remedy = "remove .venv and run `make setup PYTHON=/path/to/python3.11`"
        yield error(CHECK, f"Python {running}; 3.11, 3.12 and 3.13 are supported", remedy)
    yield from differences(pinned())
    yield from scheduling()


def scheduling() -> Iterator[Finding]:
    """An error where a Prefect server of this installation would schedule nothing."""
    try:
        found = version("SQLAlchemy")
    except PackageNotFoundError:
        return
    if tuple(map(int, re.findall(r"\d+", found)[:2])) >= (2, 1):
        what = f"SQLAlchemy {found}: the scheduler of a Prefect server started here fails on every schedule"
        yield error(
            CHECK,
            what,
            "`make setup`, or .venv/bin/pip install 'SQLAlchemy<2.1' -c constraints.txt; then start it again",
        )


def differences(pins: dict[str, str]) -> Iterator[Finding]:
    """One finding per package that is missing or has another version than its pin; one that all is well."""
    wrong = list(_differences(pins))
    yield from wrong
    if not wrong:
        python = ".".join(map(str, sys.version_info[:3]))
        beside = f"{len(MATTER)} packages as in constraints.txt" if pins else "no constraints.txt to compare with"
        yield ok(CHECK, f"Python {python}, {beside}")


def _differences(pins: dict[str, str]) -> Iterator[Finding]:
    for package in MATTER:
        pin = pins.get(package.lower().replace("-", "_"), "")
        install = f"`make setup`, or .venv/bin/pip install '{package}{f'=={pin}' if pin else ''}' -c constraints.txt"
        try:
            found = version(package)
        except PackageNotFoundError:
            yield error(CHECK, f"{package} is not installed", install)
            continue
        if pin and found.partition("+")[0] != pin:  # 2.13.0+cu126 is a build of 2.13.0
            yield warning(CHECK, f"{package} {found} is installed, {pin} was tested", install)
