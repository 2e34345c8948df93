"""What the doctor says of files with logins that others can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.doctor import Surroundings
from deploy.doctor.findings import Finding
from deploy.doctor.logins import files, logins

PROFILE = '[profiles.team]\nPREFECT_API_AUTH_STRING = "team:planted"\n'


def examined(home: Path, **variables: str) -> list[Finding]:
    return list(logins(Surroundings({"HOME": str(home), "PIPELINE_STATE": str(home / "state"), **variables})))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".prefect/profiles.toml", PROFILE),
        (".cache/huggingface/token", "hf_planted"),
        (".aws/credentials", "aws_secret_access_key = planted"),
    ],
)
def test_a_file_with_a_login_is_for_its_owner(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text(content)
    for mode in (0o644, 0o640, 0o604):
        path.chmod(mode)
        (found,) = examined(tmp_path)
        assert found.level == "warning" and str(path) in found.what and f"chmod 600 {path}" in found.remedy
        assert "planted" not in found.what + found.remedy
    path.chmod(0o600)
    assert [found.level for found in examined(tmp_path)] == ["ok"]


def test_profiles_without_a_login_may_be_open(tmp_path: Path) -> None:
    (tmp_path / ".prefect").mkdir()
    (tmp_path / ".prefect/profiles.toml").write_text('[profiles.a]\nPREFECT_API_URL = "http://127.0.0.1:4200/api"\n')
    assert [found.level for found in examined(tmp_path)] == ["ok"]


def test_the_files_are_where_the_environment_says(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    for name in ("docker/.env", "mine.toml", "token", "keys"):
        (tmp_path / name).write_text(PROFILE)
    variables = {
        "PREFECT_PROFILES_PATH": str(tmp_path / "mine.toml"),
        "HF_TOKEN_PATH": str(tmp_path / "token"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "keys"),
    }
    assert {path.name for path in files(variables, tmp_path)} == {".env", "mine.toml", "token", "keys"}


def test_the_state_folder_is_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o755)
    (found,) = examined(tmp_path)
    assert found.level == "warning" and "state folder" in found.what
    for mode in (0o700, 0o2770):
        (tmp_path / "state").chmod(mode)
        assert [found.level for found in examined(tmp_path)] == ["ok"]
