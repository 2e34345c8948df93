"""Stage "ingest": source rows to tables `pairs`, `images` (one row per unique image), `quarantine` and `leakage`.

Shards are units of whole row groups of one source file, so memory is bounded by the unit size whatever the dataset's.
Three steps, each of which continues where a killed run stopped:

1. `plan` reads every column but the images, checks and normalises the rows, and decides which occurrence of each
   image uid is the first in source order. Of all rows at once it holds hashes only (24 bytes per row).
2. `ingest_images`, per unit and independent of the others: hashes the image bytes of every row, decodes the first
   occurrences, and stores those that decode.
3. `finish` compares what every row showed under a uid with the image that was kept, writes pairs and quarantine,
   the prompts that also occur in the source's other splits, a page with sample pairs (`samples.html`), and commits.

Why so: whether an image is stored must not depend on which unit is processed first, and a unit must not wait for
another one; the first occurrence by source order needs the uids only, which are a thousandth of the data. What can
only be known from the bytes (a broken image, a uid with two contents) is settled in step 3, which reads hashes again,
not images. Where the first occurrence turns out broken, step 3 takes the next one that shows other, sound bytes
("rescue"): a truncated copy costs the rows that show it and no others.

A row that repeats another is dropped where it names the user who said so before; without a user it is one more vote.

A file that is no readable Parquet with the columns of pairs is one entry of the quarantine (row 0), as is a unit whose
plain columns cannot be read; where the damage is among the images, the rows before it stand and each row after it is
an entry. What the transport raises is never taken for damage: it ends the run, which then continues.

`images` may hold images of rows that were rejected for their other image; `pairs` never names an absent image.

Intermediate tables lie in the dataset's folder under `work/` until the commit.
"""

from __future__ import annotations

from pipeline_lib.data.ingest.reasons import Reason
from pipeline_lib.data.ingest.stage import Job, Progress, finish, ingest, ingest_images, plan, start
from pipeline_lib.data.ingest.units import Unit

__all__ = [
    "Job",
    "Progress",
    "Reason",
    "Unit",
    "finish",
    "ingest",
    "ingest_images",
    "plan",
    "start",
]
