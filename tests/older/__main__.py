"""Print the table."""

import tempfile
from pathlib import Path

from tests.older.compare import apart, compare, table

with tempfile.TemporaryDirectory() as scratch:
    made, pinned = compare(Path(scratch))
print(f"grey levels from the images of transformers {pinned[0]} with diffusers {pinned[1]}")
print(table(apart(made, pinned)))
for painted in made.values():
    print(*painted.complaints, sep="\n")
