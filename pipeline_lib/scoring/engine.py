"""Runs scorers over images: one decode per image, one forward pass per shared tower, prompts encoded once.

torch is imported inside the functions, so that flows and command lines can import the names without loading it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pipeline_lib.hub import HUB
from pipeline_lib.scoring.base import ImageTower, Located, Runtime, Scorer
from pipeline_lib.scoring.scorers import SCORERS

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from pipeline_lib.scoring.preprocess import Preprocess

BATCH_SIZE = 32
DECODE_THREADS = 8

# Tokenizers refuse to be set up while another thread uses them; tasks of one process may share scorers.
_encoding = Lock()

Item = TypeVar("Item")
Ready = TypeVar("Ready")


def runtime(device: str = "auto") -> Runtime:
    """`auto` takes CUDA when there is one. Towers run in fp16 on CUDA (as the originals do) and fp32 elsewhere."""
    import torch

    chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    return Runtime(chosen, torch.float16 if chosen.type == "cuda" else torch.float32)


def locate_scorers(names: Iterable[str], mirror: str = HUB) -> list[Located]:
    """Find the files of scorers, in the given order; raises UnknownNameError or HubError."""
    return [SCORERS.get(name)(mirror) for name in names]


def identities(names: Iterable[str], mirror: str = HUB, device: str = "auto") -> dict[str, dict[str, Any]]:
    """Scorer name -> what decides its scores (recipe, weights, precision), JSON-like. Hashes weights, loads none."""
    dtype = str(runtime(device).dtype).removeprefix("torch.")
    return {located.name: {**located.identity(), "dtype": dtype} for located in locate_scorers(names, mirror)}


def load_scorers(names: Iterable[str], mirror: str = HUB, device: str = "auto") -> list[Scorer]:
    """Load scorers, in the given order; those with a common tower share it.

    Args:
        names: of SCORERS.
        mirror: "hub", "shapes://hub" or a directory laid out like the hub.
        device: "auto", "cpu", "cuda", "cuda:1", ...

    Raises:
        UnknownNameError, HubError, CheckpointError: nothing of that name, no files, or files that do not fit.
    """
    where = runtime(device)
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
    from pipeline_lib.images import to_rgb

    distinct = list(dict.fromkeys(prompts))
    row = {prompt: index for index, prompt in enumerate(distinct)}
    text = encode_prompts(scorers, distinct)
    towers = distinct_towers(scorers)
    results: dict[str, list[np.ndarray]] = {scorer.name: [] for scorer in scorers}
    start = 0
    for pixels in ahead(images, lambda image: prepare(to_rgb(image), towers)):
        pairs = [(index, row[prompts[start + index]]) for index in range(len(pixels))]
        for name, values in score_batch(scorers, pixels, pairs, text).items():
            results[name].append(values)
        start += len(pixels)
    return {name: np.concatenate([np.zeros(0, np.float32), *parts]) for name, parts in results.items()}


def distinct_towers(scorers: Sequence[Scorer]) -> list[ImageTower]:
    """The image towers of the scorers, shared ones once."""
    return list(dict.fromkeys(scorer.tower for scorer in scorers))


def encode_prompts(scorers: Sequence[Scorer], prompts: Sequence[str]) -> dict[str, Tensor]:
    """Scorer name -> one row per prompt, for the scorers that read prompts."""
    import torch

    with _encoding, torch.inference_mode():
        return {
            scorer.name: torch.cat([scorer.encode_prompts(chunk) for chunk in chunks(prompts, BATCH_SIZE)])
            for scorer in scorers
            if scorer.needs_prompt and prompts
        }


def prepare(image: Image.Image, towers: Sequence[ImageTower]) -> list[Tensor]:
    """The pixels of an RGB image for each tower; towers whose recipes agree on this image get the same tensor."""
    made: dict[tuple[object, ...], Tensor] = {}
    pixels = []
    for tower in towers:
        recipe: Preprocess = tower.preprocess
        key = recipe.key(*image.size)
        if key not in made:
            made[key] = recipe(image)
        pixels.append(made[key])
    return pixels


def score_batch(
    scorers: Sequence[Scorer],
    pixels: Sequence[Sequence[Tensor]],
    pairs: Sequence[tuple[int, int]],
    text: dict[str, Tensor],
) -> dict[str, np.ndarray]:
    """One batch through all scorers.

    Args:
        pixels: `prepare`'s result for each image of the batch, over `distinct_towers(scorers)`.
        pairs: (position of the image in the batch, row of the prompt in `text`).
        text: `encode_prompts`'s result.

    Returns:
        Scorer name -> float32 scores: one per pair, or one per image for scorers that need no prompt.
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
            features[tower] = tower.encode(stacked[same])
        images, rows = torch.tensor(list(pairs), dtype=torch.long).reshape(-1, 2).unbind(1)
        for scorer in scorers:
            seen = features[scorer.tower]
            if not scorer.needs_prompt:
                values = scorer.score(seen, seen)
            elif len(pairs) == 0:
                values = seen.new_zeros(0)
            else:
                prompts = text[scorer.name]
                values = scorer.score(seen[images.to(seen.device)], prompts[rows.to(prompts.device)])
            results[scorer.name] = values.float().cpu().numpy()
    return results


def ahead(items: Iterable[Item], work: Callable[[Item], Ready]) -> Iterator[list[Ready]]:
    """Batches of `work(item)` in order, computed by threads one batch ahead of the consumer."""
    with ThreadPoolExecutor(min(DECODE_THREADS, os.cpu_count() or 1)) as pool:
        waiting: deque[list[Future[Ready]]] = deque()
        for chunk in chunks(items, BATCH_SIZE):
            waiting.append([pool.submit(work, item) for item in chunk])
            if len(waiting) > 1:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of up to `size` consecutive items."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
