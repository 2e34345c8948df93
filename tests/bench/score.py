"""Speed of the scoring engine beside the official loops: five scorers, the same weights, the same pairs.

    python -m tests.bench.score [--images 50] [--repeats 3] [--pixels DIR]

On a CPU with the published architectures reduced (widths by 8, depths by 4, images and tokens as they are), which
keeps the scorers' shares of the work; one torch thread on either side. `ratio`: time of the official loops
(`score_official`) over the engine's, from the Parquet shards of an ingest dataset to committed score tables.
`compute_share`: time of the bare forward passes (image towers, prompts, ImageReward's pairs) on ready batches over the
engine's time. `decodes_per_image`: images that Pillow really decoded in any process of the engine, per image. The
figures are medians of `repeats`, taken in turn; each measurement is a process of its own, after a warm-up on another
data set: models are loaded, and workers started, once per process.

Pairs come in rounds of a session that keep the winner and replace the loser, as Pick-a-Pic's: ten images, nine pairs
and one prompt a session, so an image stands in 1.8 pairs. Images are JPEGs of 512 to 1024 px, photographs from
../shared/data where there are any. With CUDA the same follows at full size in bfloat16, with the share of the device's
matrix throughput (`mfu`, of 2 * 8192^3 FLOPs in bfloat16 as measured).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SCORERS = ("clip", "pickscore", "hpsv2", "aesthetic", "imagereward")
SESSION = 10
SIDES = (1024, 768, 640, 512)
PHOTOS = Path(__file__).resolve().parents[3] / "shared/data/mj-bench-objects"
COUNT_DECODES = """
import os
from PIL import ImageFile
_load = ImageFile.ImageFile.load
_log = os.open(os.environ["DECODE_LOG"], os.O_WRONLY | os.O_APPEND)
def load(self):
    if self.tile:
        os.write(_log, b".")
    return _load(self)
ImageFile.ImageFile.load = load
"""
"""A `sitecustomize` for every process of a measurement: a byte to a file for each image that Pillow decodes."""


def photos(folder: Path, count: int) -> list[bytes]:
    """JPEGs whose sides go round SIDES: the folder's pictures in turn, or synthetic ones where there is none."""
    from tests.bench.ingest import base_images

    found: list[bytes] = []
    if folder.is_dir():
        import polars as pl

        for path in sorted(folder.glob("train-*.parquet")):
            for pair in pl.read_parquet(path, columns=["jpg_0", "jpg_1"]).rows():
                found += pair
    found = found or base_images()
    out = []
    for index in range(count):
        side = SIDES[index % len(SIDES)]
        image = Image.open(io.BytesIO(found[index % len(found)])).convert("RGB")
        buffer = io.BytesIO()
        image.resize((side, side * 3 // 4 if index % 3 == 0 else side), Image.Resampling.LANCZOS).save(
            buffer, "JPEG", quality=90, comment=f"image {index}"
        )
        out.append(buffer.getvalue())
    return out


def write_pairs(folder: Path, contents: Sequence[bytes]) -> None:
    """A source of sessions over the images."""
    from tests.pipeline_lib.source_files import row, write_file

    rng = np.random.default_rng(0)
    rows = []
    for start in range(0, len(contents), SESSION):
        kept = start
        for new in range(start + 1, min(start + SESSION, len(contents))):
            caption = f"session {start} of the benchmark: a photograph of things, with a prompt of the usual length"
            shown = {"image_0_uid": f"{kept:06d}", "image_1_uid": f"{new:06d}", "caption": caption}
            rows.append(row(len(rows), **shown, jpg_0=contents[kept], jpg_1=contents[new]))
            kept = int(rng.choice([kept, new]))
    write_file(folder / "train-0.parquet", rows, row_group=100)


def ingest(source: Path, store: Path) -> str:
    """URI of the ingest dataset of a source."""
    from pipeline_lib.core.config import IngestConfig
    from pipeline_lib.data.ingest import ingest as run

    return run(str(store), IngestConfig(source=str(source))).uri


def measure_engine(mirror: str, warm: str, measured: str, device: str, precision: Any) -> dict[str, Any]:
    """Seconds of the engine, and of its forward passes alone on batches that are ready, before it and after it."""
    from pipeline_lib.core.store import open_dataset
    from pipeline_lib.scoring.engine import load_scorers
    from pipeline_lib.scoring.stage import open_work, score_shard

    loaded = load_scorers(SCORERS, mirror, device, precision)
    compute = [forward_seconds(loaded, open_dataset(measured), device)]
    with tempfile.TemporaryDirectory() as store:
        for uri in (warm, measured):
            dataset = open_dataset(uri)
            work = open_work(store, SCORERS, dataset, mirror, device, precision)
            started, before = time.perf_counter(), decodes_so_far()
            shards: dict[str, list[Any]] = {name: [] for name in SCORERS}
            for index in range(len(dataset.tables("images"))):
                for name, written in score_shard(work, loaded, dataset, index).items():
                    shards[name] += written
            tables = {item.scorer: item.writer.commit(shards[item.scorer]) for item in work}
            seconds, decodes = time.perf_counter() - started, decodes_so_far() - before
        scores = {name: {f"{u} {p}": s for u, p, s in table.scan().collect().rows()} for name, table in tables.items()}
    compute.append(forward_seconds(loaded, open_dataset(measured), device))
    return {"seconds": seconds, "compute_seconds": statistics.mean(compute), "decodes": decodes, "scores": scores}


def forward_seconds(loaded: Sequence[Any], dataset: Any, device: str) -> float:
    """Seconds of all forward passes, in the engine's batches, with images decoded and prompts at hand."""
    import torch

    from pipeline_lib.scoring import batching, engine, prompts
    from pipeline_lib.scoring.decode_worker import prepare
    from pipeline_lib.scoring.questions import questions

    asked = questions(dataset)
    towers = engine.distinct_towers(loaded)
    rows = [row for shard in dataset.tables("images") for row in dataset.read(shard).to_pylist()]
    wanted = asked.of(dataset.scan("images").select("image_uid").collect())
    size = engine.rows_at_once(loaded)
    batches = []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        pixels = [engine.tensors(prepare(row["bytes"], [t.preprocess for t in towers])) for row in part]
        columns = [torch.stack(column) for column in zip(*pixels, strict=True)]
        pairs = [(i, p) for i, row in enumerate(part) for p in wanted[row["image_uid"]]]
        batches.append((columns, torch.tensor(pairs)))
    synchronise(device)
    started = time.perf_counter()
    with torch.inference_mode():
        text = {scorer.name: prompts.encode(scorer, asked.prompts) for scorer in loaded if scorer.needs_prompt}
        for columns, pairs in batches:
            seen = {
                tower: batching.run(tower.encode, lambda part, pixels=pixels: (pixels[part],), len(pixels))
                for tower, pixels in zip(towers, columns, strict=True)
            }
            for scorer in loaded:
                if scorer.needs_prompt:
                    features, prompt = seen[scorer.tower], text[scorer.name]
                    images, positions = (index.to(features.device) for index in pairs.unbind(1))
                    engine.score_pairs(scorer, features, prompt, images, positions)
    synchronise(device)
    return time.perf_counter() - started


def measure_official(mirror: str, warm: str, measured: str, device: str, precision: str) -> dict[str, Any]:
    """Seconds of the five loops over all pairs."""
    import torch

    from pipeline_lib.core.store import open_dataset
    from tests.bench.score_official import LOOPS

    dtype = torch.float32 if precision == "auto" else getattr(torch, precision)
    loops = {name: LOOPS[name](Path(mirror), device, dtype) for name in SCORERS}
    for uri, limit in ((warm, 2), (measured, None)):
        scores: dict[str, dict[str, float]] = {name: {} for name in SCORERS}
        dataset = open_dataset(uri)
        images = {
            uid: content for uid, content in dataset.scan("images").select("image_uid", "bytes").collect().rows()
        }
        columns = ["prompt_id", "prompt", "image_0", "image_1"]
        pairs = dataset.scan("pairs").select(columns).collect().rows()[:limit]
        started = time.perf_counter()
        with torch.inference_mode():
            for name, loop in loops.items():
                for prompt_id, prompt, *uids in pairs:
                    for uid, value in zip(uids, loop(prompt, [images[uid] for uid in uids]), strict=True):
                        scores[name][f"{uid} {prompt_id if name != 'aesthetic' else None}"] = value
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "scores": scores}


def synchronise(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize()


def decodes_so_far() -> int:
    return os.path.getsize(os.environ["DECODE_LOG"])


def matmul_rate() -> float:
    """bfloat16 FLOP/s of a large matrix product on the CUDA device."""
    import torch

    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for repeats in (5, 50):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(repeats):
            a @ b
        torch.cuda.synchronize()
    return 50 * 2 * 8192**3 / (time.perf_counter() - started)


MEASUREMENTS: dict[str, Callable[..., dict[str, Any]]] = {"engine": measure_engine, "official": measure_official}


def child(kind: str, scratch: Path, *given: str) -> dict[str, Any]:
    """One measurement in a process of its own, with one torch thread and every decode counted."""
    log = scratch / f"decodes-{time.monotonic_ns()}"
    log.touch()
    (scratch / "site").mkdir(exist_ok=True)
    (scratch / "site/sitecustomize.py").write_text(COUNT_DECODES)
    paths = os.pathsep.join(filter(None, (str(scratch / "site"), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "DECODE_LOG": str(log)}
    command = [sys.executable, "-m", "tests.bench.score", "--measure", kind, *given]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return dict(json.loads(result.stdout.splitlines()[-1]))


def largest_difference(one: dict[str, dict[str, float]], other: dict[str, dict[str, float]]) -> float:
    """Largest difference between two sides' scores, in units of the scorer's largest score.

    Raises:
        RuntimeError: they did not score the same pairs.
    """
    worst = 0.0
    for name in SCORERS:
        if one[name].keys() != other[name].keys():
            raise RuntimeError(
                f"{name}: the engine scored {len(one[name])}, the loop {len(other[name])} different pairs"
            )
        size = max(map(abs, other[name].values()))
        worst = max(worst, *(abs(one[name][key] - value) / size for key, value in other[name].items()))
    return worst


def compare(architecture: str, images: int, repeats: int, pixels: Path, device: str, precision: str) -> dict[str, Any]:
    """Engine and official loops in turn."""
    from tests.bench.score_models import NAMED, write_mirror

    shape = NAMED[architecture]
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        write_mirror(scratch / "mirror", shape)
        contents = photos(pixels, images + 2 * SESSION)
        uris = []
        for part, chosen in (("warm", contents[images:]), ("measured", contents[:images])):
            (scratch / part).mkdir()
            write_pairs(scratch / part, chosen)
            uris.append(ingest(scratch / part, scratch / "store"))
        given = (str(scratch / "mirror"), *uris, device, precision)
        runs = [(child("engine", scratch, *given), child("official", scratch, *given)) for _ in range(repeats)]
    flops = shape.flops()
    seconds = statistics.median(engine["seconds"] for engine, _ in runs)
    per_image = sum(value for key, value in flops.items() if key.endswith("image"))
    per_prompt = sum(value for key, value in flops.items() if key.endswith("text"))
    prompts = -(-images // SESSION)
    total = (
        images * per_image
        + prompts * per_prompt
        + len(runs[0][0]["scores"]["imagereward"]) * flops["imagereward_bert"]
    )
    return {
        "device": device,
        "architecture": architecture,
        "images": images,
        "pairs": images - prompts,
        "pairs_per_image": round(2 * (images - prompts) / images, 2),
        "ratio": round(statistics.median(o["seconds"] / e["seconds"] for e, o in runs), 3),
        "compute_share": round(statistics.median(e["compute_seconds"] / e["seconds"] for e, _ in runs), 3),
        "decodes_per_image": statistics.median(e["decodes"] / images for e, _ in runs),
        "images_per_s": round(images / seconds, 2),
        "engine_s": [round(e["seconds"], 2) for e, _ in runs],
        "compute_s": [round(e["compute_seconds"], 2) for e, _ in runs],
        "official_s": [round(o["seconds"], 2) for _, o in runs],
        "largest_difference": max(largest_difference(e["scores"], o["scores"]) for e, o in runs),
        "flops": total,
        "forward_gflops": {key: round(value / 1e9, 3) for key, value in flops.items()},
        "shares": {key: round(value / sum(flops.values()), 3) for key, value in flops.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pixels", type=Path, default=PHOTOS, help="folder of Pick-a-Pic Parquet files with pictures")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        kind, *arguments = given.measure
        print(json.dumps(MEASUREMENTS[kind](*arguments)))
        return
    import torch

    from tests.bench.score_models import FULL

    result = compare("reduced", given.images, given.repeats, given.pixels, "cpu", "auto")
    full = FULL.flops()
    result["full_size_gflops"] = {key: round(value / 1e9, 2) for key, value in full.items()}
    result["full_size_shares"] = {key: round(value / sum(full.values()), 3) for key, value in full.items()}
    if torch.cuda.is_available():
        cuda = compare("full", 40 * given.images, given.repeats, given.pixels, "cuda", "bfloat16")
        cuda["mfu"] = round(cuda["flops"] / statistics.median(cuda["engine_s"]) / matmul_rate(), 3)
        result["cuda"] = cuda
    print(json.dumps(result))


if __name__ == "__main__":
    main()
