"""What both sides score: crops of real images with real captions, and prompts that tokenizers disagree about."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

DATA = Path(os.environ.get("PREFERENCE_DATA", Path(__file__).resolve().parents[3] / "shared/data"))
PAIRS = DATA / "mj-bench-objects/train-00000-of-00004.parquet"

# Width and height of the crop from the middle of a real image: as they are, wide, tall, smaller than 224, exactly 224,
# and 3 pixels too long (half of that is where crop offsets are rounded). Every two images share a prompt.
SIZES = [
    (1024, 1024),
    (1024, 1024),
    (1024, 576),
    (640, 960),
    (333, 777),
    (900, 120),
    (224, 224),
    (100, 80),
    (227, 224),
    (224, 227),
]
UNUSUAL = {
    2: "Un café à Zürich,  naïve   STYLE: it's the 1920s' best!! (8k, f/1.4) #art @home 50% off… «déjà vu»",
    3: "画一只猫 🐱 on a ½-pipe, x²+y²=1 & <lora:style:0.8> don't, we'll, I'm_an_underscore",
    4: "",
}


def write_cases(folder: Path) -> int:
    """Write `cases.json` ([{"image": path, "prompt": text}]) and its PNG files; returns how many there are.

    The last prompt is longer than what any of the text encoders reads.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pairs = pq.ParquetFile(PAIRS).read(columns=["jpg_0", "jpg_1", "caption"]).slice(0, len(SIZES) // 2).to_pylist()
    long = " ".join(pair["caption"] for pair in pairs * 2)
    cases = []
    for index, size in enumerate(SIZES):
        number, side = divmod(index, 2)
        pair = pairs[number]
        prompt = long if number == len(pairs) - 1 else UNUSUAL.get(number, pair["caption"])
        path = folder / f"{index:02d}.png"
        crop(Image.open(io.BytesIO(pair[f"jpg_{side}"])).convert("RGB"), size).save(path)
        cases.append({"image": str(path), "prompt": prompt})
    (folder / "cases.json").write_text(json.dumps(cases))
    return len(cases)


def crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle `size` (width, height) pixels."""
    left, top = ((have - want) // 2 for have, want in zip(image.size, size, strict=True))
    return image.crop((left, top, left + size[0], top + size[1]))
