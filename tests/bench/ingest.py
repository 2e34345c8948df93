"""Speed and memory of ingest beside a plain loop over the same files.

    python -m tests.bench.ingest [--pairs 1000] [--repeats 3]

`ratio`: pairs/s of ingest over pairs/s of one process that streams the files with `datasets`, hashes every image and
decodes it fully with Pillow; medians of `repeats`, taken in turn. `memory_growth`: peak memory of ingest with four
times the pairs over that with the pairs. Every image of `ratio` occurs once, which is the harder case: ingest decodes
a repeated image once, the loop each time (`ratio_repeated`: every image occurs twice, as in Pick-a-Pic).
Each measurement is a process of its own; the clock runs from the first file opened, not from the imports.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.memory import peak_bytes

PAIRS_PER_FILE = 250
SIZE = 512


def base_images(count: int = 24) -> list[bytes]:
    """JPEGs of Pick-a-Pic's size (about 50 kB at 512 x 512), with structure at every scale."""
    rng = np.random.default_rng(0)
    out = []
    for _ in range(count):
        total = np.zeros((SIZE, SIZE, 3))
        for octave in range(2, 9):
            coarse = rng.normal(size=(2**octave, 2**octave, 3))
            planes = [
                np.asarray(Image.fromarray(coarse[..., c].astype(np.float32)).resize((SIZE, SIZE))) for c in range(3)
            ]
            total += np.stack(planes, -1) / 2 ** (octave / 1.3)
        pixels = (255 * (total - total.min()) / np.ptp(total)).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
        out.append(buffer.getvalue())
    return out


def write_source(folder: Path, pairs: int, occurrences: int) -> None:
    """Pairs whose images differ in a comment segment, so in bytes, each shown `occurrences` times."""
    from tests.pipeline_lib.source_files import row, write_file

    bases = base_images()

    def image(i: int) -> bytes:
        comment = f"image {i:09d}".encode()
        base = bases[i % len(bases)]
        return base[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + base[2:]

    for at in range(0, pairs, PAIRS_PER_FILE):
        rows = []
        for i in range(at, min(at + PAIRS_PER_FILE, pairs)):
            first, second = 2 * i // occurrences, (2 * i + 1) // occurrences
            if first == second:  # twice: the left image of one pair is the right one of the next
                second = 2 * (i + 1) // occurrences % pairs
            uids = {"image_0_uid": str(first), "image_1_uid": str(second)}
            rows.append(row(i, **uids, jpg_0=image(first), jpg_1=image(second)))
        write_file(folder / f"train-{at:07d}.parquet", rows, row_group=100)


def measure_ingest(source: Path) -> tuple[int, float]:
    """(pairs, seconds) of an ingest into a fresh store."""
    from pipeline_lib.core.config import IngestConfig
    from pipeline_lib.data.ingest import ingest

    with tempfile.TemporaryDirectory() as store:
        started = time.perf_counter()
        dataset = ingest(store, IngestConfig(source=str(source)))
        return dataset.counts["pairs"], time.perf_counter() - started


def measure_plain(source: Path) -> tuple[int, float]:
    """(pairs, seconds) of the plain loop."""
    import datasets

    files = sorted(str(path) for path in source.glob("*.parquet"))
    started = time.perf_counter()
    pairs = 0
    for row in datasets.load_dataset("parquet", data_files=files, split="train", streaming=True):
        for side in (0, 1):
            content = row[f"jpg_{side}"]
            hashlib.sha256(content).hexdigest()
            Image.open(io.BytesIO(content)).load()
        pairs += 1
    return pairs, time.perf_counter() - started


def child(kind: str, source: Path) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.ingest", "--measure", kind, str(source)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(result.stdout.splitlines()[-1]))


def rates(source: Path, repeats: int) -> tuple[float, float]:
    """Median pairs/s of (ingest, plain)."""
    runs = [(child("ingest", source)["rate"], child("plain", source)["rate"]) for _ in range(repeats)]
    return statistics.median(r[0] for r in runs), statistics.median(r[1] for r in runs)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        kind, source = given.measure
        pairs, seconds = {"ingest": measure_ingest, "plain": measure_plain}[kind](Path(source))
        print(json.dumps({"rate": pairs / seconds, "peak_mb": peak_bytes() / 2**20}))
        return
    with tempfile.TemporaryDirectory() as scratch:
        once, twice, large = Path(scratch, "once"), Path(scratch, "twice"), Path(scratch, "large")
        write_source(once, given.pairs, 1)
        write_source(twice, given.pairs, 2)
        write_source(large, 4 * given.pairs, 1)
        ingest_rate, plain_rate = rates(once, given.repeats)
        repeated = rates(twice, given.repeats)
        small_mb, large_mb = (
            statistics.median(child("ingest", source)["peak_mb"] for _ in range(given.repeats))
            for source in (once, large)
        )
        megabytes = sum(path.stat().st_size for path in once.iterdir()) / 1e6
    print(
        json.dumps(
            {
                "pairs": given.pairs,
                "source_mb": round(megabytes, 1),
                "ingest_pairs_per_s": round(ingest_rate, 1),
                "plain_pairs_per_s": round(plain_rate, 1),
                "ratio": round(ingest_rate / plain_rate, 3),
                "ratio_repeated": round(repeated[0] / repeated[1], 3),
                "peak_mb": round(small_mb, 1),
                "peak_mb_4n": round(large_mb, 1),
                "memory_growth": round(large_mb / small_mb, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
