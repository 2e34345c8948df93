"""docs/scorers.md, "Add a scorer": its files are written as they stand there, and the contract is run on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.walkthrough import blocks, check_style, copy_project, run_tests, write_new

REGISTRY = "pipeline_lib/scoring/scorers.py"
SCORER = "pipeline_lib/scoring/aesthetic_v1.py"
BLOCKS = blocks("scorers.md", "Add a scorer")
NEEDED = ["conftest.py", "contract.py"]
STRICT = "load_strict(linear, state_dict(read_torch(head), head), head)"
CARELESS = "linear.load_state_dict(__import__('torch').load(head), strict=False)"


def apply(project: Path, path: str, code: str) -> None:
    """Write a new file, or add a line to the registry."""
    if path == REGISTRY:
        start, end = (project / path).read_text().rsplit("    },\n", 1)
        (project / path).write_text(f"{start}{code}    }},\n{end}")
    else:
        write_new(project, path, code)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the contract needs with the walk-through applied; and once more, reading its file carelessly."""
    project = copy_project(tmp_path_factory.mktemp("project"), (f"pipeline_lib/scoring/{name}" for name in NEEDED))
    for path, code in BLOCKS.items():
        apply(project, path, code)
        other = code.replace("aesthetic_v1", "careless").replace("aesthetic-v1", "careless").replace(STRICT, CARELESS)
        apply(project, path.replace("aesthetic_v1", "careless"), other.replace("TestAestheticV1", "TestCareless"))
    return project


@pytest.fixture(scope="module")
def results(project: Path) -> dict[str, dict[str, bool]]:
    """Test class -> test -> whether it passed."""
    return run_tests(project, "tests/pipeline_lib/scoring")


def failures(results: dict[str, bool]) -> set[str]:
    assert len(results) >= 20
    return {name for name, passed in results.items() if not passed}


def test_the_walk_through_passes_the_contract(results: dict[str, dict[str, bool]]) -> None:
    assert failures(results["TestAestheticV1"]) == set()


def test_the_contract_notices_a_scorer_that_reads_carelessly(results: dict[str, dict[str, bool]]) -> None:
    assert STRICT in BLOCKS[SCORER]
    assert failures(results["TestCareless"]) == {
        "test_missing_unexpected_renamed_and_misshapen_keys_are_named",
        "test_damaged_weights_are_refused",
        "test_a_file_of_other_things_is_refused",
        "test_weights_that_are_no_numbers_are_refused",
        "test_weights_saved_compiled_or_distributed_are_the_same",
    }


def test_the_walk_through_is_in_the_projects_style(project: Path) -> None:
    check_style(project / path for path in BLOCKS)
