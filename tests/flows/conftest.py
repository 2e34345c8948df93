"""A Prefect API for the tests of flows: one server, started when the first of them asks and stopped after the last."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="package")
def api() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield
