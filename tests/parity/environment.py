"""The oracle's virtual environment: the official packages with the libraries of their time.

    python -m tests.parity.environment

Built once into .state/parity/environment (minutes, from the package index) and kept until requirements.txt, this file
or the Python version changes.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOLDER = ROOT / ".state/parity/environment"
REQUIREMENTS = HERE / "requirements.txt"
OPERATORS = ROOT / "pipeline_lib/core/torchvision_ops.py"
SUPPORTED = (3, 11)


def environment() -> Path:
    """The environment's Python; builds it where it is missing or made from other requirements.

    Raises:
        RuntimeError: this Python is not 3.11, for which the old libraries have wheels.
        subprocess.CalledProcessError: pip failed.
    """
    if sys.version_info[:2] != SUPPORTED:
        raise RuntimeError(f"the oracle's old libraries need Python 3.11; this is {sys.version.split()[0]}")
    python, stamp, recipe = FOLDER / "bin/python", FOLDER / "recipe", _recipe()
    if not stamp.exists() or stamp.read_text() != recipe:
        print(f"building the oracle's environment in {FOLDER} (once)", flush=True)
        shutil.rmtree(FOLDER, ignore_errors=True)
        venv.create(FOLDER, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *_lines("torch")], check=True)
        pip.append("--no-deps")
        subprocess.run([*pip, *_lines("setuptools", "wheel")], check=True)
        subprocess.run([*pip, "--no-build-isolation", "--requirement", REQUIREMENTS], check=True)
        _mend(next(FOLDER.glob("lib/python*/site-packages")))
        stamp.write_text(recipe)
    return python


def _lines(*names: str) -> list[str]:
    """The lines of these packages in requirements.txt."""
    return [line for line in REQUIREMENTS.read_text().splitlines() if line.split("==")[0] in names]


def _mend(packages: Path) -> None:
    """The two repairs without which the packages cannot be imported; neither touches arithmetic."""
    # torchvision beside a CPU build of torch: declare the two operators that it registers fake kernels for.
    shutil.copy(OPERATORS, packages)
    line = f"import {OPERATORS.stem}; {OPERATORS.stem}.declare_before_import()\n"
    (packages / "torchvision_operators.pth").write_text(line)
    # The hpsv2 wheel forgot its vocabulary (tgxs002/HPSv2 issue 30), which is CLIP's.
    shutil.copy(packages / "clip/bpe_simple_vocab_16e6.txt.gz", packages / "hpsv2/src/open_clip")


def _recipe() -> str:
    parts = (REQUIREMENTS.read_bytes(), Path(__file__).read_bytes(), OPERATORS.read_bytes(), sys.version.encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


if __name__ == "__main__":
    print(environment())
