"""`make parity` as a test; the first run builds the oracle's environment, which needs a package index."""

from __future__ import annotations

import pytest

from tests.parity.cases import PAIRS
from tests.parity.compare import ROWS, compare, table


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_scorers_equal_the_official_packages() -> None:
    if not PAIRS.exists():
        pytest.skip(f"no real images at {PAIRS} (set PREFERENCE_DATA)")
    results = compare()
    assert [result.row for result in results] == ROWS
    assert all(result.agrees for result in results), table(results)
