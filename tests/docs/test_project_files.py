"""README.md, CITATION.cff, the forms for issues and the hooks for commits."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from pipeline_lib.chain import STAGES
from tests.docs.blocks import ROOT


def test_the_readme_is_a_first_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_readme_counts_findings_as_claims_md_does() -> None:
    counts = re.search(r"^\d+ findings: [^.]*", (ROOT / "CLAIMS.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert counts and f"[{counts[0]}](CLAIMS.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_architecture_names_every_stage_of_the_chain() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    assert [one.name for one in STAGES if f"| {one.name} |" not in page and f"`{one.name}`" not in page] == []


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("citation-file-format", ["CITATION.cff"]),
        ("github-issue-forms", [".github/ISSUE_TEMPLATE/bug.yml", ".github/ISSUE_TEMPLATE/feature.yml"]),
        ("github-issue-config", [".github/ISSUE_TEMPLATE/config.yml"]),
    ],
)
def test_files_are_as_their_schemas_have_them(schema: str, files: list[str]) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_hooks_run_what_make_check_runs() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in local["hooks"]:
        command = hook["entry"].removeprefix(".venv/bin/python ").removesuffix(" --force-exclude")
        assert f"$(PY) {command}" in makefile
