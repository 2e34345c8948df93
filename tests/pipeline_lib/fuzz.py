"""Mutated inputs for ingest, and the child process that reads them under a memory limit.

python -m tests.pipeline_lib.fuzz FOLDER COUNT SEED     # prints one JSON line
"""

from __future__ import annotations

import io
import json
import random
import resource
import struct
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.store import verify
from pipeline_lib.data.ingest import ingest
from tests.memory import peak_bytes
from tests.pipeline_lib.source_files import PICKAPIC_V2, image_bytes, row, write_file

MEMORY_LIMIT = 1 << 30
ROWS = 4
PER_SOURCE = 100
"""Mutants ingested together."""

WRONG_TYPES = [
    pa.int8(),
    pa.float32(),
    pa.bool_(),
    pa.string(),
    pa.large_string(),
    pa.binary(),
    pa.large_binary(),
    pa.binary(5),
    pa.timestamp("ns"),
    pa.date32(),
    pa.list_(pa.int32()),
    pa.struct([("x", pa.string())]),
    pa.dictionary(pa.int8(), pa.string()),
    pa.decimal128(20, 3),
    pa.null(),
]


def mutate(rng: random.Random, content: bytes) -> bytes:
    """Bit flips, a truncation, a run of other bytes, a repeated or a missing piece."""
    data = bytearray(content)
    kind = rng.randrange(5)
    at = rng.randrange(len(data))
    if kind == 0:
        for _ in range(rng.choice([1, 2, 8, 64])):
            at = rng.randrange(len(data))
            data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        length = rng.randrange(1, 64)
        filler = rng.choice([b"\x00", b"\xff", b"\x7f", bytes([rng.randrange(256)])])
        data[at : at + length] = filler * length
    elif kind == 3:
        data[at:at] = data[at : at + rng.randrange(1, 200)]
    else:
        del data[at : at + rng.randrange(1, 200)]
    return bytes(data)


def mutate_footer(rng: random.Random, content: bytes) -> bytes:
    """Bit flips within the footer only: what describes types, sizes and offsets."""
    size = struct.unpack("<I", content[-8:-4])[0]
    data = bytearray(content)
    for _ in range(rng.choice([1, 2, 4])):
        at = len(data) - 8 - 1 - rng.randrange(size)
        data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


def huge_header(rng: random.Random) -> bytes:
    """A JPEG whose frame header declares a size of its own."""
    data = bytearray(image_bytes("huge", kind="JPEG"))
    at = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, at + 5, rng.randrange(1, 65536), rng.randrange(1, 65536))
    return bytes(data)


def wrong_type(rng: random.Random, path: Path) -> None:
    """A file with one column of a type that Pick-a-Pic does not have there; null where values do not convert."""
    name = rng.choice(PICKAPIC_V2.names)
    kind = rng.choice(WRONG_TYPES)
    table = pa.Table.from_pylist([row(rng.randrange(10**9)) for _ in range(ROWS)], schema=PICKAPIC_V2)
    at = table.column_names.index(name)
    try:
        column = table.column(at).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        column = pa.nulls(ROWS, kind)
    pq.write_table(table.set_column(at, name, column), path, row_group_size=2)


def jpegs() -> list[bytes]:
    """Sound images to damage: baseline, progressive and gray JPEG, PNG, WebP."""
    image = Image.open(io.BytesIO(image_bytes("jpegs", size=48)))
    out = []
    for mode, kind, options in [
        ("RGB", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True}),
        ("L", "JPEG", {"quality": 30}),
        ("RGB", "PNG", {}),
        ("RGB", "WEBP", {}),
    ]:
        buffer = io.BytesIO()
        image.convert(mode).save(buffer, kind, **options)
        out.append(buffer.getvalue())
    return out


def write_mutants(folder: Path, count: int, seed: int) -> None:
    """A sound file and `count` mutants: half of them files, half of them images in files of their own."""
    rng = random.Random(seed)
    sound = write_file(folder / "a-sound.parquet", [row(i) for i in range(ROWS)], row_group=2).read_bytes()
    images = jpegs()
    for i in range(count):
        path = folder / f"mutant-{i:05d}.parquet"
        kind = i % 10
        if kind < 2:
            path.write_bytes(mutate(rng, sound))
        elif kind < 4:
            path.write_bytes(mutate_footer(rng, sound))
        elif kind < 5:
            wrong_type(rng, path)
        else:
            content = huge_header(rng) if kind == 9 else mutate(rng, rng.choice(images))
            write_file(path, [row(1000 + i, jpg_0=content)])


def main(folder: Path, count: int, seed: int) -> None:
    # Address space, so that an absurd allocation fails in this process and does not take the machine's memory.
    resource.setrlimit(resource.RLIMIT_AS, (8 * MEMORY_LIMIT, 8 * MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CPU, (1200, 1200))
    total: Counter[str] = Counter()
    for at in range(0, count, PER_SOURCE):
        source = folder / f"source-{at}"
        write_mutants(source, min(PER_SOURCE, count - at), seed + at)
        dataset = ingest(str(folder / "store"), IngestConfig(source=str(source)))
        verify(dataset)
        kept, lost = dataset.tables("pairs"), dataset.tables("quarantine")
        total["mutants"] += len(list(source.glob("mutant-*")))
        total["files"] += len(kept) - 1  # a unit each, but for the sound one
        total["silent"] += sum(a.rows + b.rows == 0 for a, b in zip(kept, lost, strict=True))
        total["lost_rows"] += dataset.counts["rows"] - sum(shard.rows for shard in (*kept, *lost))
        total.update(dataset.counts)
    total["peak_bytes"] = peak_bytes()
    sys.stdout.write(f"{json.dumps(total)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
