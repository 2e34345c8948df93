"""The caches are what the encoders give, shard by shard, resumable, and the same bytes each time."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from pipeline_lib.core import schemas
from pipeline_lib.core.errors import CheckpointError, ConfigError, SourceError
from pipeline_lib.core.store import Dataset, DatasetWriter, Shard, writer
from pipeline_lib.encoding import stage as encoding
from pipeline_lib.encoding.plan import EMPTY_PROMPT_ID, SHAPE_KEY, encoded_writer
from pipeline_lib.encoding.stage import Encoder, encode, encode_images, open_encoder
from pipeline_lib.models.aligned import load_pipeline
from tests.pipeline_lib.models import tiny


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mirror")
    tiny.write_all(folder)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def ingested(store: str) -> Dataset:
    return tiny.ingest(store)


@pytest.mark.parametrize("name", ["v", "xl"])
def test_rows_are_what_the_stock_encoders_give(mirror: Path, store: str, ingested: Dataset, name: str) -> None:
    base = tiny.base(mirror, name)
    seen: list[tuple[int, int]] = []
    dataset = encode(store, base, tiny.ENCODE, ingested, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert dataset.counts == {"images": 12, "prompts": 3}
    pipeline = load_pipeline(None, base)
    latents = dataset.scan("latents").collect()
    assert latents["image_uid"].to_list() == [f"image-{i:02d}" for i in range(12)]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(tiny.png(i)))) for i in range(12)])
    with torch.no_grad():
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
        posterior = pipeline.vae.encode(batch).latent_dist
    for column, expected in (("mean", posterior.mean), ("std", posterior.std)):
        stored = np.array(latents[column].to_list(), np.float32)
        np.testing.assert_allclose(stored, expected.flatten(1).numpy(), rtol=2e-3, atol=1e-4)
    prompts = {row["prompt_id"]: row for row in dataset.scan("prompts").collect().to_dicts()}
    assert EMPTY_PROMPT_ID in prompts
    shape = json.loads(dataset.read(dataset.tables("prompts")[0]).schema.metadata[SHAPE_KEY])
    assert shape == {"shape": [12, 24], "pooled": 8} if name == "xl" else {"shape": [12, 16], "pooled": 0}


@pytest.mark.parametrize(("setting", "zeros"), [("inference", True), ("encoded", False)])
def test_empty_prompt_of_sdxl_is_what_guidance_uses_or_encoded(
    mirror: Path, store: str, ingested: Dataset, setting: Any, zeros: bool
) -> None:
    config = replace(tiny.ENCODE, empty_prompt=setting)
    dataset = encode(store, tiny.base(mirror, "xl"), config, ingested)
    rows = {row["prompt_id"]: row for row in dataset.scan("prompts").collect().to_dicts()}
    empty = rows.pop(EMPTY_PROMPT_ID)
    assert [not np.any(empty[column]) for column in ("embedding", "pooled")] == [zeros, zeros]
    assert all(np.any(row["embedding"]) for row in rows.values())


def test_each_prompt_is_encoded_once(ingested: Dataset) -> None:
    prompts = encoding.unique_prompts(ingested)
    assert sorted(prompts["prompt"]) == ["", "a blue square", "a red circle"]
    assert prompts["prompt_id"].is_sorted()


def test_interrupted_encoding_continues_and_gives_the_same_bytes(
    mirror: Path, store: str, ingested: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny.base(mirror, "v")
    whole = encode(store, base, tiny.ENCODE, ingested)
    w = encoded_writer(str(tmp_path), base, tiny.ENCODE, ingested)
    encode_images(w, ingested, 0, open_encoder(base, tiny.ENCODE))
    calls: list[int] = []
    plain = encode_images

    def counted(w: DatasetWriter, ingested: Dataset, index: int, encoder: Encoder) -> Shard:
        calls.append(index)
        return plain(w, ingested, index, encoder)

    monkeypatch.setattr(encoding, "encode_images", counted)
    again = encode(str(tmp_path), base, tiny.ENCODE, ingested)
    assert calls == [1]
    assert again.digest == whole.digest
    encode(str(tmp_path), base, tiny.ENCODE, ingested)
    assert calls == [1]


def test_one_thread_encodes_so_that_other_cores_give_the_same_bytes(
    mirror: Path, store: str, ingested: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny.base(mirror, "v")
    threads: list[int] = []

    def counted(plain: Callable[..., Shard]) -> Callable[..., Shard]:
        def call(*given: Any) -> Shard:
            threads.append(torch.get_num_threads())
            return plain(*given)

        return call

    monkeypatch.setattr(encoding, "encode_images", counted(encoding.encode_images))
    monkeypatch.setattr(encoding, "encode_prompts", counted(encoding.encode_prompts))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert (
            encode(str(tmp_path), base, tiny.ENCODE, ingested).digest
            == encode(store, base, tiny.ENCODE, ingested).digest
        )
        assert (set(threads), torch.get_num_threads()) == ({1}, 3)
    finally:
        torch.set_num_threads(before)


def test_key_follows_weights_and_settings_not_the_place(mirror: Path, store: str, ingested: Dataset) -> None:
    base = tiny.base(mirror, "v")
    key = encoded_writer(store, base, tiny.ENCODE, ingested).key
    moved = replace(base, mirror=str(mirror / "tiny" / ".."))
    assert encoded_writer(store, moved, tiny.ENCODE, ingested).key == key
    assert encoded_writer(store, base, replace(tiny.ENCODE, resolution=16), ingested).key != key
    assert encoded_writer(store, tiny.base(mirror, "epsilon"), tiny.ENCODE, ingested).key != key


@pytest.mark.parametrize(("size", "box"), [((8, 8), (8, 8, 0, 0)), ((40, 20), (20, 40, 0, 4)), ((6, 9), (9, 6, 2, 0))])
def test_shorter_side_is_resized_and_the_centre_cropped(size: tuple[int, int], box: tuple[int, ...]) -> None:
    image, found = encoding._square(tiny.png(1, size), 8, "uid")
    assert image.shape == (8, 8, 3)
    assert found == box


@pytest.mark.parametrize(
    ("size", "box"), [((8, 8), (8, 8, 0, 0)), ((40, 20), (20, 40, -2, 0)), ((3, 12), (12, 3, 0, -3))]
)
def test_padding_keeps_the_whole_image_between_black_bars(size: tuple[int, int], box: tuple[int, ...]) -> None:
    image, found = encoding._square(tiny.png(1, size), 8, "uid", "pad")
    assert image.shape == (8, 8, 3)
    assert found == box
    top, left = -box[2], -box[3]
    inside = np.zeros((8, 8), bool)
    inside[top : 8 - top, left : 8 - left] = True
    assert (image[inside] > 0).all()  # a bright image
    assert not image[~inside].any()
    picture = Image.open(io.BytesIO(tiny.png(1, size)))
    shown = picture.resize((8 - 2 * left, 8 - 2 * top), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(image[inside].reshape(8 - 2 * top, 8 - 2 * left, 3), np.asarray(shown))


def test_stretching_shows_the_whole_image_in_another_shape() -> None:
    image, found = encoding._square(tiny.png(1, (40, 20)), 8, "uid", "stretch")
    assert found == (20, 40, 0, 0)
    picture = Image.open(io.BytesIO(tiny.png(1, (40, 20))))
    np.testing.assert_array_equal(image, np.asarray(picture.resize((8, 8), Image.Resampling.BILINEAR)))


def test_aspect_and_size_are_part_of_the_key_and_wrong_sizes_are_refused(
    mirror: Path, store: str, ingested: Dataset
) -> None:
    base = tiny.base(mirror, "v")
    keys = {
        encoded_writer(store, base, replace(tiny.ENCODE, aspect=a), ingested).key for a in ("crop", "pad", "stretch")
    }
    assert len(keys) == 3
    wide = encode(store, base, replace(tiny.ENCODE, aspect="pad", resolution=12), ingested)
    assert json.loads(wide.read(wide.tables("latents")[0]).schema.metadata[SHAPE_KEY])["shape"] == [4, 6, 6]
    with pytest.raises(ConfigError, match=r"(?s)resolution is 9.*multiple of 2"):
        encode(store, base, replace(tiny.ENCODE, resolution=9), ingested)


def test_a_picture_of_the_right_size_is_untouched_and_grey_or_transparent_ones_become_rgb() -> None:
    png = tiny.png(3)
    np.testing.assert_array_equal(encoding._square(png, 8, "uid")[0], np.asarray(Image.open(io.BytesIO(png))))
    for mode in ("L", "RGBA", "P"):
        buffer = io.BytesIO()
        Image.open(io.BytesIO(png)).convert(mode).save(buffer, "PNG")
        assert encoding._square(buffer.getvalue(), 8, "uid")[0].shape == (8, 8, 3)


def test_undecodable_image_is_named(mirror: Path, tmp_path: Path, ingested: Dataset) -> None:
    row = {"image_uid": "broken-7", "bytes": b"no image", "width": 8, "height": 8, "sha256": ""}
    w = writer(str(tmp_path), "ingest", 1, {})
    pairs = ingested.read(ingested.tables("pairs")[0])
    bad = w.commit(
        [
            w.write_table("pairs/part-00000.parquet", pairs),
            w.write_table("images/part-00000.parquet", pa.Table.from_pylist([row], schema=schemas.IMAGES)),
        ]
    )
    with pytest.raises(SourceError, match="broken-7"):
        encode(str(tmp_path), tiny.base(mirror, "v"), tiny.ENCODE, bad)


def test_overflowing_encoder_is_an_error_with_a_remedy() -> None:
    with pytest.raises(CheckpointError, match=r"(?s)not finite.*sdxl-vae-fp16-fix"):
        encoding._fixed(np.full((1, 4), 1e6, np.float32), "latents")
