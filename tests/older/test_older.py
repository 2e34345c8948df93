"""The same folders in environments of other versions; the first run builds them, which needs a package index."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.older.compare import apart, compare, table
from tests.older.environment import NoPackageIndex


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_published_folders_and_the_built_in_bases_paint_the_same_in_older_libraries(tmp_path: Path) -> None:
    try:
        made, pinned = compare(tmp_path)
    except NoPackageIndex as error:
        pytest.skip(str(error))
    assert [line for painted in made.values() for line in painted.complaints] == []
    assert len(made) == 3 and len(made[pinned].images) == 2 + 4 * 3
    assert len({image.tobytes() for image in made[pinned].images.values()}) > 6, "models that differ"
    differences = apart(made, pinned)
    assert max(max(found.values()) for found in differences.values()) <= 1, table(differences)
