"""README, "Add a loss": its files are written as they stand there, and the contract is run on them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[3]
BLOCK = re.compile(r"`([\w/]+\.py)`:\n\n```python\n(.*?)```", re.DOTALL)
REGISTRY = "pipeline_lib/training/methods.py"
LOSS = "pipeline_lib/training/squared_hinge.py"
TEST = "tests/pipeline_lib/training/test_squared_hinge.py"


def blocks() -> dict[str, str]:
    """Path -> code, of the section's blocks."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("### Add a loss\n", 1)[1].split("\n## ", 1)[0]
    found = BLOCK.findall(section)
    assert len(found) == section.count("```python"), "a block without the path of its file"
    assert [path for path, _ in found] == [LOSS, REGISTRY, TEST]
    return dict(found)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the contract needs, with the walk-through applied."""
    ignored = shutil.ignore_patterns("assets", "__pycache__")
    shutil.copytree(ROOT / "pipeline_lib", tmp_path / "pipeline_lib", ignore=ignored)
    names = ["__init__", "pipeline_lib/__init__", "pipeline_lib/models/__init__", "pipeline_lib/models/tiny"]
    names += [f"pipeline_lib/training/{name}" for name in ("__init__", "conftest", "contract")]
    for name in ("pyproject.toml", *(f"tests/{name}.py" for name in names)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for path, code in blocks().items():
        if path == REGISTRY:
            start, end = (tmp_path / path).read_text().split("}\n\nLOSSES", 1)
            code = f"{start}{code}}}\n\nLOSSES{end}"
        else:
            assert not (tmp_path / path).exists()
        (tmp_path / path).write_text(code)
    return tmp_path


def run_contract(project: Path, only: str = "") -> dict[str, bool]:
    """Test name -> passed, of the walk-through's test file in a process of its own; `only` selects as pytest's -k."""
    environment = {**os.environ, "PYTHONPATH": str(project), "HF_HUB_OFFLINE": "1"}
    command = ["-q", "-p", "no:cacheprovider", "--junit-xml=results.xml", "-k", only, TEST]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *command], cwd=project, env=environment, capture_output=True, text=True
    )
    assert (project / "results.xml").exists(), done.stdout + done.stderr
    cases = ElementTree.parse(project / "results.xml").iter("testcase")
    return {str(case.get("name")): case.find("failure") is None and case.find("error") is None for case in cases}


def test_the_walk_through_passes_the_contract(project: Path) -> None:
    results = run_contract(project)
    assert len(results) == 5
    assert all(results.values()), [name for name, passed in results.items() if not passed]
    files = [str(project / path) for path in blocks()]
    for check in (["format", "--check"], ["check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *check, *files], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_contract_notices_a_wrong_sign(project: Path) -> None:
    code = (project / LOSS).read_text()
    assert "relu(1 - 0.5" in code
    (project / LOSS).write_text(code.replace("relu(1 - 0.5", "relu(1 + 0.5"))
    failed = {name for name, passed in run_contract(project, "not trains").items() if not passed}
    assert failed == {"test_values_and_gradients_are_those_of_the_formula"}
