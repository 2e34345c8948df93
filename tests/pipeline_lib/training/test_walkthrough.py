"""docs/training.md, "Add a loss": its files are written as they stand there, and the contract is run on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.walkthrough import blocks, check_style, copy_project, run_tests, write_new

REGISTRY = "pipeline_lib/training/methods.py"
LOSS = "pipeline_lib/training/squared_hinge.py"
TEST = "tests/pipeline_lib/training/test_squared_hinge.py"
BLOCKS = blocks("training.md", "Add a loss")
NEEDED = ["models/tiny.py", "training/conftest.py", "training/contract.py", "training/runs.py"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the contract needs, with the walk-through applied."""
    assert list(BLOCKS) == [LOSS, REGISTRY, TEST]
    project = copy_project(tmp_path, (f"pipeline_lib/{name}" for name in NEEDED))
    write_new(project, LOSS, BLOCKS[LOSS])
    start, end = (project / REGISTRY).read_text().split("}\n\nMETHODS", 1)
    (project / REGISTRY).write_text(f"{start}{BLOCKS[REGISTRY]}}}\n\nMETHODS{end}")
    write_new(project, TEST, BLOCKS[TEST])
    return project


def test_the_walk_through_passes_the_contract(project: Path) -> None:
    (results,) = run_tests(project, TEST).values()
    assert len(results) == 5
    assert all(results.values()), [name for name, passed in results.items() if not passed]
    check_style(project / path for path in BLOCKS)


@pytest.mark.slow
def test_the_contract_notices_a_wrong_sign(project: Path) -> None:
    code = (project / LOSS).read_text()
    assert "relu(1 - 0.5" in code
    (project / LOSS).write_text(code.replace("relu(1 - 0.5", "relu(1 + 0.5"))
    (results,) = run_tests(project, TEST, "not trains").values()
    assert {name for name, passed in results.items() if not passed} == {
        "test_values_and_gradients_are_those_of_the_formula"
    }
