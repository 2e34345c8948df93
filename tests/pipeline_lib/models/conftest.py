from pathlib import Path

import pytest

from tests.pipeline_lib.models import tiny


@pytest.fixture(scope="session")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror with the tiny base models."""
    folder = tmp_path_factory.mktemp("mirror")
    tiny.write_all(folder)
    return folder
