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
# and 3 pixels too long (half of that is where crop offsets are rounded). Every two images share a prompt; the first
# ones are scored, of all of them the pixels are compared.
SIZES = [
    (1024, 1024),
    (1024, 1024),
    (1024, 576),
    (333, 777),
    (227, 224),
    (900, 120),
    (100, 80),
    (640, 960),
    (224, 227),
    (224, 224),
    (1023, 767),
    (512, 512),
    (240, 1024),
    (151, 149),
    (1024, 225),
    (701, 703),
]
SCORED = 8
UNUSUAL = {
    1: "Un café à Zürich,  naïve   STYLE: it's the 1920s' best!! (8k, f/1.4) #art 50% off… 画一只猫 🐱 x²+y² & <b>",
    2: "",
}


def write_cases(folder: Path) -> Path:
    """Write PNG files and what is asked about them.

    Returns:
        A JSON file: {"images": [path, ...], "asked": [{"image": path, "prompt": text}, ...]}. The last prompt is
        longer than what any of the text encoders reads.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pairs = pq.ParquetFile(PAIRS).read(columns=["jpg_0", "jpg_1", "caption"]).slice(0, len(SIZES) // 2).to_pylist()
    captions = [UNUSUAL.get(number, pair["caption"]) for number, pair in enumerate(pairs[: SCORED // 2])]
    captions[-1] = " ".join(pair["caption"] for pair in pairs * 2)
    images = [folder / f"{index:02d}.png" for index in range(len(SIZES))]
    for index, (path, size) in enumerate(zip(images, SIZES, strict=True)):
        jpeg = pairs[index // 2][f"jpg_{index % 2}"]
        crop(Image.open(io.BytesIO(jpeg)).convert("RGB"), size).save(path)
    asked = [{"image": str(path), "prompt": captions[index // 2]} for index, path in enumerate(images[:SCORED])]
    cases = folder / "cases.json"
    cases.write_text(json.dumps({"images": list(map(str, images)), "asked": asked}))
    return cases


def crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle `size` (width, height) pixels."""
    left, top = ((have - want) // 2 for have, want in zip(image.size, size, strict=True))
    return image.crop((left, top, left + size[0], top + size[1]))
