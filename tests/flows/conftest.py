"""A Prefect API for the tests of flows, which run in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings


@pytest.fixture(scope="package")
def api(stack: dict[str, str]) -> Iterator[None]:
    with temporary_settings({PREFECT_API_URL: stack["PREFECT_API_URL"]}):
        yield
