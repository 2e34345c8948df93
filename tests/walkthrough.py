"""The docs' walk-throughs ("Add a ..."): their files, a copy of the project to write them into, and its tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"`([\w/]+\.py)`:\n\n```python\n(.*?)```", re.DOTALL)


def blocks(page: str, heading: str) -> dict[str, str]:
    """Path -> code, of the blocks of a section of a page in docs/."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = re.split(r"\n##+ ", text.split(f"## {heading}\n", 1)[1], maxsplit=1)[0]
    found = BLOCK.findall(section)
    assert len(found) == section.count("```python"), "a block without the path of its file"
    return dict(found)


def copy_project(target: Path, tests: Iterable[str]) -> Path:
    """`target`, with pipeline_lib without its assets, and these files of tests/, whose folders become packages."""
    ignored = shutil.ignore_patterns("assets", "__pycache__")
    shutil.copytree(ROOT / "pipeline_lib", target / "pipeline_lib", ignore=ignored)
    for name in ("pyproject.toml", *(f"tests/{test}" for test in tests)):
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, path)
    for folder in {parent for path in target.glob("tests/**/*.py") for parent in path.parents}:
        if folder.is_relative_to(target / "tests"):
            (folder / "__init__.py").touch()
    return target


def write_new(project: Path, path: str, code: str) -> None:
    """Write a file that the project does not have."""
    assert not (project / path).exists()
    (project / path).write_text(code)


def run_tests(project: Path, path: str, only: str = "") -> dict[str, dict[str, bool]]:
    """Test class (or module) -> test -> passed, of a pytest in a process of its own; `only` selects as its -k does."""
    environment = {**os.environ, "PYTHONPATH": str(project), "HF_HUB_OFFLINE": "1"}
    command = ["-q", "-p", "no:cacheprovider", "--junit-xml=results.xml", "-k", only, path]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *command], cwd=project, env=environment, capture_output=True, text=True
    )
    assert (project / "results.xml").exists(), done.stdout + done.stderr
    found: dict[str, dict[str, bool]] = {}
    for case in ElementTree.parse(project / "results.xml").iter("testcase"):
        tests = found.setdefault(str(case.get("classname")).rpartition(".")[2], {})
        tests[str(case.get("name"))] = case.find("failure") is None and case.find("error") is None
    return found


def check_style(files: Iterable[Path]) -> None:
    """The files are formatted, and the linter finds nothing in them."""
    names = [str(file) for file in files]
    for check in (["format", "--check"], ["check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *check, *names], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
