"""Runs scorers over images: one decode per image, one forward pass per shared tower, prompts encoded once.

torch is imported inside the functions, so that flows and command lines can import the names without loading it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline_lib.core.gpus import has_cuda
from pipeline_lib.core.hub import HUB
from pipeline_lib.scoring.base import ImageTower, Located, Runtime, Scorer
from pipeline_lib.scoring.decode_worker import pixels_of
from pipeline_lib.scoring.prefetch import ahead
from pipeline_lib.scoring.prompts import encode_all
from pipeline_lib.scoring.scorers import SCORERS

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

THREADS = 8

Precision = Literal["auto", "float32", "float16", "bfloat16"]


def runtime(device: str = "auto", precision: Precision = "auto") -> Runtime:
    """Where scorers run.

    Args:
        device: "auto" takes CUDA when there is one; else "cpu", "cuda", "cuda:1", ...
        precision: of the towers; "auto" is float16 on CUDA (as the originals) and float32 elsewhere.
    """
    import torch

    chosen, name = _chosen(device, precision)
    return Runtime(torch.device(chosen), getattr(torch, name))


def device_kind(device: str = "auto") -> str:
    """ "cpu" or "cuda": of a device, or of what "auto" takes."""
    return _chosen(device, "auto")[0].partition(":")[0]


def _chosen(device: str, precision: Precision) -> tuple[str, str]:
    """Device and precision by torch's names, without torch where there is no GPU."""
    chosen = ("cuda" if has_cuda() else "cpu") if device == "auto" else device
    return chosen, ("float16" if chosen.startswith("cuda") else "float32") if precision == "auto" else precision


def locate_scorers(names: Iterable[str], mirror: str = HUB) -> list[Located]:
    """Find the files of scorers, in the given order; raises UnknownNameError or HubError."""
    return [SCORERS.get(name).locate(mirror) for name in names]


def identities(
    names: Iterable[str], mirror: str = HUB, device: str = "auto", precision: Precision = "auto"
) -> dict[str, dict[str, Any]]:
    """Scorer name -> what decides its scores (recipe, weights, precision), JSON-like. Hashes weights, loads none."""
    _, dtype = _chosen(device, precision)
    return {located.name: {**located.identity(), "dtype": dtype} for located in locate_scorers(names, mirror)}


def load_scorers(
    names: Iterable[str], mirror: str = HUB, device: str = "auto", precision: Precision = "auto"
) -> list[Scorer]:
    """Load scorers, in the given order; those with a common tower share it.

    Args:
        names: of SCORERS.
        mirror: "hub", "shapes://hub" or a directory laid out like the hub.
        device, precision: see `runtime`.

    Raises:
        UnknownNameError, HubError, CheckpointError: nothing of that name, no files, or files that do not fit.
    """
    where = runtime(device, precision)
    return [located.load(where) for located in locate_scorers(names, mirror)]


def score_images(
    scorers: Sequence[Scorer], images: Sequence[Image.Image], prompts: Sequence[str]
) -> dict[str, np.ndarray]:
    """Scores of each image for the prompt at the same position.

    Returns:
        Scorer name -> float32 (len(images),); values that are not finite are returned as they are.
    """
    if len(images) != len(prompts):
        raise ValueError(f"{len(images)} images for {len(prompts)} prompts")
    from pipeline_lib.core.images import to_rgb

    distinct = list(dict.fromkeys(prompts))
    row = {prompt: index for index, prompt in enumerate(distinct)}
    text = encode_all(scorers, distinct)
    towers = distinct_towers(scorers)
    values: list[dict[str, Tensor]] = []
    start = 0
    for pixels in ahead(
        images, lambda image: prepare(to_rgb(image), towers), lambda: rows_at_once(scorers), decode_threads()
    ):
        pairs = [(index, row[prompts[start + index]]) for index in range(len(pixels))]
        values.append(score_batch(scorers, pixels, pairs, text))
        start += len(pixels)
    return gather(scorers, values)


def decode_threads() -> int:
    """Threads that prepare images in this process."""
    return min(THREADS, os.cpu_count() or 1)


def distinct_towers(scorers: Sequence[Scorer]) -> list[ImageTower]:
    """The image towers of the scorers, shared ones once."""
    return list(dict.fromkeys(scorer.tower for scorer in scorers))


def rows_at_once(scorers: Sequence[Scorer]) -> int:
    """Images to hand over in one batch: as many as the tower that takes most of them runs at once."""
    from pipeline_lib.scoring.batching import batches_of

    return max(batches_of(tower.encode).rows for tower in distinct_towers(scorers))


def prepare(image: Image.Image, towers: Sequence[ImageTower]) -> list[Tensor]:
    """The pixels of an RGB image for each tower; towers whose recipes agree on this image get the same tensor."""
    return tensors(pixels_of(image, [tower.preprocess for tower in towers]))


def tensors(arrays: Sequence[np.ndarray]) -> list[Tensor]:
    """Tensors over the same memory; the same array gives the same tensor."""
    import torch

    made = {id(array): torch.from_numpy(array) for array in arrays}
    return [made[id(array)] for array in arrays]


def score_batch(
    scorers: Sequence[Scorer],
    pixels: Sequence[Sequence[Tensor]],
    pairs: Sequence[tuple[int, int]],
    text: dict[str, Tensor],
) -> dict[str, Tensor]:
    """One batch through all scorers. On CUDA the work is queued and this returns before it is done.

    Args:
        pixels: `prepare`'s result for each image of the batch, over `distinct_towers(scorers)`.
        pairs: (position of the image in the batch, row of the prompt in `text`).
        text: prompt features by scorer name, see `prompts`.

    Returns:
        Scorer name -> fp32 scores on the scorer's device: one per pair, or one per image for scorers that need no
        prompt.
    """
    import torch

    results = {}
    with torch.inference_mode():
        stacked: dict[tuple[int, ...], Tensor] = {}
        features: dict[ImageTower, Tensor] = {}
        for index, tower in enumerate(distinct_towers(scorers)):
            column = [image[index] for image in pixels]
            same = tuple(map(id, column))
            if same not in stacked:
                stacked[same] = torch.stack(column)
            features[tower] = _see(tower, stacked[same])
        images, rows = torch.tensor(list(pairs), dtype=torch.long).reshape(-1, 2).unbind(1)
        for scorer in scorers:
            seen = features[scorer.tower]
            if not scorer.needs_prompt:
                values = scorer.score(seen, seen)
            elif len(pairs) == 0:
                values = seen.new_zeros(0, dtype=torch.float32)
            else:
                values = score_pairs(scorer, seen, text[scorer.name], images, rows)
            results[scorer.name] = values.float()
    return results


def _see(tower: ImageTower, pixels: Tensor) -> Tensor:
    """Features of pixels (n, 3, size, size), in batches that fit the device."""
    from pipeline_lib.scoring.batching import run

    return run(tower.encode, lambda part: (pixels[part],), len(pixels))


def score_pairs(scorer: Scorer, seen: Tensor, prompts: Tensor, images: Tensor, rows: Tensor) -> Tensor:
    """Pairs in batches of their own: features are repeated per pair, and ImageReward runs a transformer on them."""
    from pipeline_lib.scoring.batching import run

    images, rows = images.to(seen.device), rows.to(prompts.device)
    return run(scorer.score, lambda part: (seen[images[part]], prompts[rows[part]]), len(images))


def gather(scorers: Sequence[Scorer], batches: Sequence[dict[str, Tensor]]) -> dict[str, np.ndarray]:
    """Scorer name -> the scores of consecutive batches as one float32 array; waits for the device."""
    import torch

    return {
        scorer.name: torch.cat([torch.zeros(0), *(batch[scorer.name].cpu() for batch in batches)]).numpy()
        for scorer in scorers
    }
