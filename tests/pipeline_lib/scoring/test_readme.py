"""README, "Add a scorer": its files are written as they stand there, and the contract is run on them."""

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
REGISTRY = "pipeline_lib/scoring/scorers.py"
SCORER = "pipeline_lib/scoring/aesthetic_v1.py"


def blocks() -> dict[str, str]:
    """Path -> code, of the section's blocks."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("### Add a scorer\n", 1)[1].split("\n## ", 1)[0]
    found = BLOCK.findall(section)
    assert len(found) == section.count("```python"), "a block without the path of its file"
    return dict(found)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the contract needs, with the walk-through applied."""
    shutil.copytree(
        ROOT / "pipeline_lib", tmp_path / "pipeline_lib", ignore=shutil.ignore_patterns("assets", "__pycache__")
    )
    scoring = "tests/pipeline_lib/scoring"
    (tmp_path / scoring).mkdir(parents=True)
    for name in ("pyproject.toml", *(f"{scoring}/{file}" for file in ("conftest.py", "contract.py"))):
        shutil.copy(ROOT / name, tmp_path / name)
    for folder in ("tests", "tests/pipeline_lib", scoring):
        (tmp_path / folder / "__init__.py").touch()
    for path, code in blocks().items():
        if path == REGISTRY:
            registry = (tmp_path / path).read_text()
            start, end = registry.rsplit("    },\n", 1)
            code = f"{start}{code}    }},\n{end}"
        else:
            assert not (tmp_path / path).exists()
        (tmp_path / path).write_text(code)
    return tmp_path


def run_contract(project: Path, only: str = "") -> dict[str, bool]:
    """Test name -> passed, of the walk-through's test file in a process of its own; `only` selects as pytest's -k."""
    environment = {**os.environ, "PYTHONPATH": str(project), "HF_HUB_OFFLINE": "1"}
    command = ["-q", "-p", "no:cacheprovider", "--junit-xml=results.xml", "-k", only, "tests/pipeline_lib/scoring"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *command], cwd=project, env=environment, capture_output=True, text=True
    )
    assert (project / "results.xml").exists(), done.stdout + done.stderr
    cases = ElementTree.parse(project / "results.xml").iter("testcase")
    return {str(case.get("name")): case.find("failure") is None and case.find("error") is None for case in cases}


def test_the_walk_through_passes_the_contract(project: Path) -> None:
    results = run_contract(project)
    assert len(results) >= 20
    assert all(results.values()), [name for name, passed in results.items() if not passed]
    files = [str(project / path) for path in blocks()]
    for check in (["format", "--check"], ["check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *check, *files], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_the_contract_notices_a_scorer_that_reads_carelessly(project: Path) -> None:
    strict = "load_strict(linear, state_dict(read_torch(head), head), head)"
    careless = "import torch\n        linear.load_state_dict(torch.load(head), strict=False)"
    code = (project / SCORER).read_text()
    assert strict in code
    (project / SCORER).write_text(code.replace(strict, careless))
    failed = {name for name, passed in run_contract(project, "refused or named or harmless").items() if not passed}
    assert failed == {
        "test_missing_unexpected_renamed_and_misshapen_keys_are_named",
        "test_damaged_weights_are_refused",
        "test_a_file_of_other_things_is_refused",
    }
