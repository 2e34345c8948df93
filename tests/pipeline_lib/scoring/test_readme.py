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


STRICT = "load_strict(linear, state_dict(read_torch(head), head), head)"
CARELESS = "linear.load_state_dict(__import__('torch').load(head), strict=False)"


def apply(project: Path, path: str, code: str) -> None:
    """Write a new file, or add a line to the registry."""
    target = project / path
    if path == REGISTRY:
        start, end = target.read_text().rsplit("    },\n", 1)
        code = f"{start}{code}    }},\n{end}"
    else:
        assert not target.exists()
    target.write_text(code)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the contract needs with the walk-through applied; and once more, reading its file carelessly."""
    project = tmp_path_factory.mktemp("project")
    ignored = shutil.ignore_patterns("assets", "__pycache__")
    shutil.copytree(ROOT / "pipeline_lib", project / "pipeline_lib", ignore=ignored)
    scoring = "tests/pipeline_lib/scoring"
    (project / scoring).mkdir(parents=True)
    for name in ("pyproject.toml", *(f"{scoring}/{file}" for file in ("conftest.py", "contract.py"))):
        shutil.copy(ROOT / name, project / name)
    for folder in ("tests", "tests/pipeline_lib", scoring):
        (project / folder / "__init__.py").touch()
    for path, code in blocks().items():
        apply(project, path, code)
        other = code.replace("aesthetic_v1", "careless").replace("aesthetic-v1", "careless").replace(STRICT, CARELESS)
        apply(project, path.replace("aesthetic_v1", "careless"), other.replace("TestAestheticV1", "TestCareless"))
    return project


@pytest.fixture(scope="module")
def results(project: Path) -> dict[str, dict[str, bool]]:
    """Test class -> test -> whether it passed, of a pytest in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(project), "HF_HUB_OFFLINE": "1"}
    command = ["-q", "-p", "no:cacheprovider", "--junit-xml=results.xml", "tests/pipeline_lib/scoring"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *command], cwd=project, env=environment, capture_output=True, text=True
    )
    assert (project / "results.xml").exists(), done.stdout + done.stderr
    found: dict[str, dict[str, bool]] = {}
    for case in ElementTree.parse(project / "results.xml").iter("testcase"):
        tests = found.setdefault(str(case.get("classname")).rpartition(".")[2], {})
        tests[str(case.get("name"))] = case.find("failure") is None and case.find("error") is None
    return found


def failures(results: dict[str, bool]) -> set[str]:
    assert len(results) >= 20
    return {name for name, passed in results.items() if not passed}


def test_the_walk_through_passes_the_contract(results: dict[str, dict[str, bool]]) -> None:
    assert failures(results["TestAestheticV1"]) == set()


def test_the_contract_notices_a_scorer_that_reads_carelessly(results: dict[str, dict[str, bool]]) -> None:
    assert STRICT in blocks()[SCORER]
    assert failures(results["TestCareless"]) == {
        "test_missing_unexpected_renamed_and_misshapen_keys_are_named",
        "test_damaged_weights_are_refused",
        "test_a_file_of_other_things_is_refused",
    }


def test_the_walk_through_is_in_the_projects_style(project: Path) -> None:
    files = [str(project / path) for path in blocks()]
    for check in (["format", "--check"], ["check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *check, *files], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
