"""What ingest keeps, rejects and groups."""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import struct
import unicodedata
import zlib
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline_lib.core.config import IngestConfig
from pipeline_lib.core.digest import text_id
from pipeline_lib.core.errors import ConfigError, SourceError, UnreadableFileError
from pipeline_lib.core.store import Dataset, verify
from pipeline_lib.data.ingest import Reason, ingest, units
from pipeline_lib.data.ingest.images import check
from pipeline_lib.data.prompts import normalise_prompt, prompt_id
from tests.pipeline_lib.source_files import PICKAPIC_V2, image_bytes, row, write_file, write_source

DATA = Path(os.environ.get("PREFERENCE_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))


def run(tmp_path: Path, *files: list[dict[str, Any]], **settings: Any) -> Dataset:
    source = write_source(tmp_path / "source", *files)
    return ingest(str(tmp_path / "store"), IngestConfig(source=str(source), **settings))


def rejected(dataset: Dataset) -> list[tuple[str, str]]:
    return list(dataset.scan("quarantine").select("locator", "reason").collect().iter_rows())


def image_uids(dataset: Dataset) -> list[str]:
    return sorted(dataset.scan("images").collect()["image_uid"])


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_sound_rows_become_pairs_and_unique_images(tmp_path: Path) -> None:
    shared = {"image_0_uid": "0-a", "jpg_0": image_bytes("0-a")}
    dataset = run(tmp_path, [row(0), row(1)], [row(2), row(3, **shared)])
    pairs = dataset.scan("pairs").collect()
    assert pairs["image_0"].to_list() == ["0-a", "1-a", "2-a", "0-a"]
    assert pairs["label_0"].to_list() == [1.0] * 4
    assert pairs["user_id"].to_list() == ["0", "1", "0", "1"]
    assert pairs["model_0"].to_list() == ["m0"] * 4
    assert pairs["split"].to_list() == ["train"] * 4
    assert pairs["pair_id"].n_unique() == 4
    assert pairs["prompt_id"].to_list() == [text_id(prompt) for prompt in pairs["prompt"]]
    images = dataset.scan("images").collect()
    assert sorted(images["image_uid"]) == ["0-a", "0-b", "1-a", "1-b", "2-a", "2-b", "3-b"]
    stored = images.row(by_predicate=pl.col("image_uid") == "2-b", named=True)
    content = image_bytes("2-b", kind="JPEG")
    assert stored["bytes"] == content
    assert stored["sha256"] == hashlib.sha256(content).hexdigest()
    assert (stored["width"], stored["height"]) == (16, 16)
    assert dataset.counts == {"rows": 4, "pairs": 4, "ties": 0, "unlabelled": 0, "images": 7}
    verify(dataset)
    assert not (Path(dataset.uri) / "work").exists()


BAD_ROWS: list[tuple[Reason, dict[str, Any]]] = [
    (Reason.PROMPT_EMPTY, {"caption": " \t "}),
    (Reason.PROMPT_EMPTY, {"caption": None}),
    (Reason.PROMPT_NOT_UTF8, {"caption": b"caf\xe9"}),
    (Reason.MISSING_UID, {"image_1_uid": None}),
    (Reason.MISSING_UID, {"image_0_uid": ""}),
    (Reason.SAME_IMAGE, {"image_1_uid": "1-a"}),
    (Reason.LABELS_INCONSISTENT, {"label_1": 1.0}),
    (Reason.LABELS_INCONSISTENT, {"label_0": 0.7, "label_1": 0.3}),
    (Reason.LABELS_INCONSISTENT, {"label_0": None}),
    (Reason.LABELS_INCONSISTENT, {"label_0": float("nan")}),
    (Reason.IMAGE_MISSING, {"jpg_0": None}),
    (Reason.IMAGE_MISSING, {"jpg_1": b""}),
    (Reason.TOO_MANY_BYTES, {"jpg_1": image_bytes("large", size=64)}),
    (Reason.TOO_MANY_PIXELS, {"jpg_0": png_header(30_000, 30_000)}),
    (Reason.TOO_MANY_PIXELS, {"jpg_0": png_header(101, 100)}),
    (Reason.IMAGE_TRUNCATED, {"jpg_1": image_bytes("1-b", kind="JPEG")[:-60]}),
    (Reason.IMAGE_TRUNCATED, {"jpg_0": image_bytes("1-a")[:-100]}),
    (Reason.IMAGE_UNDECODABLE, {"jpg_0": b"not an image"}),
    (Reason.IMAGE_UNDECODABLE, {"jpg_0": b"GIF89a" + bytes(40)}),
    (Reason.UID_CONFLICT, {"image_0_uid": "0-a", "jpg_0": image_bytes("other")}),
    (Reason.DUPLICATE_ROW, {**row(0)}),
]


@pytest.mark.parametrize(("reason", "changes"), BAD_ROWS)
def test_bad_row_is_quarantined_by_reason(tmp_path: Path, reason: Reason, changes: dict[str, Any]) -> None:
    dataset = run(tmp_path, [row(0), row(1, **changes), row(2)], max_pixels=10_000, max_bytes=8_000)
    assert rejected(dataset) == [("train-00000-of-00001.parquet#1", reason.value)]
    assert dataset.scan("pairs").collect()["image_1"].to_list() == ["0-b", "2-b"]
    assert dataset.counts[f"rejected:{reason.value}"] == 1
    assert dataset.counts["rows"] == dataset.counts["pairs"] + 1 == 3


def test_every_reason_has_a_bad_row() -> None:
    assert {reason for reason, _ in BAD_ROWS} == set(Reason) - {Reason.FILE_UNREADABLE}


def test_row_of_later_file_is_located_by_its_own_file(tmp_path: Path) -> None:
    dataset = run(tmp_path, [row(0)], [row(i) for i in range(1, 7)] + [row(7, caption="")])
    assert rejected(dataset) == [("train-00001-of-00002.parquet#6", "prompt-empty")]


def test_ties_and_unlabelled_pairs_are_kept(tmp_path: Path) -> None:
    tie = {"label_0": 0.5, "label_1": 0.5, "best_image_uid": "tie"}
    hidden = {"has_label": False, "label_0": None, "label_1": None}
    hidden_values = {"has_label": False, "label_0": 1.0, "label_1": 0.0}
    dataset = run(
        tmp_path, [row(0, **tie), row(1, **hidden), row(2, **hidden_values), row(3, label_0=0.0, label_1=1.0)]
    )
    assert dataset.scan("pairs").collect()["label_0"].to_list() == [0.5, None, None, 0.0]
    assert (dataset.counts["ties"], dataset.counts["unlabelled"]) == (1, 2)


def test_prompts_that_differ_in_space_or_unicode_form_are_one(tmp_path: Path) -> None:
    spellings = ["a café", " a  café\n", unicodedata.normalize("NFD", "a café"), "a\u00a0café"]
    dataset = run(tmp_path, [row(i, caption=text) for i, text in enumerate(spellings)])
    pairs = dataset.scan("pairs").collect()
    assert pairs["prompt"].unique().to_list() == ["a café"]
    assert pairs["prompt_id"].unique().to_list() == [prompt_id(normalise_prompt(" a café"))]


def test_images_only_shown_by_bad_rows_are_not_stored(tmp_path: Path) -> None:
    dataset = run(tmp_path, [row(0, caption=""), row(1)])
    assert image_uids(dataset) == ["1-a", "1-b"]


def test_conflict_in_a_later_file_loses_whichever_file_is_read_first(tmp_path: Path) -> None:
    other = {"image_1_uid": "0-b", "jpg_1": image_bytes("another")}
    dataset = run(tmp_path, [row(0)], [row(1, **other), row(2)])
    assert rejected(dataset) == [("train-00001-of-00002.parquet#0", "uid-conflict")]
    images = dataset.scan("images").collect()
    assert images.row(by_predicate=pl.col("image_uid") == "0-b", named=True)["bytes"] == image_bytes(
        "0-b", kind="JPEG"
    )


def test_broken_first_copy_costs_only_the_rows_that_show_it(tmp_path: Path) -> None:
    broken = {"image_0_uid": "x", "jpg_0": image_bytes("x")[:-100]}
    sound = {"image_0_uid": "x", "jpg_0": image_bytes("x")}
    other = {"image_0_uid": "x", "jpg_0": image_bytes("y")}
    dataset = run(
        tmp_path, [row(0, **broken)], [row(1, **broken), row(2, **sound)], [row(3, **sound), row(4, **other)]
    )
    assert rejected(dataset) == [
        ("train-00000-of-00003.parquet#0", "image-truncated"),
        ("train-00001-of-00003.parquet#0", "image-truncated"),
        ("train-00002-of-00003.parquet#1", "uid-conflict"),
    ]
    assert dataset.scan("pairs").collect()["image_1"].to_list() == ["2-b", "3-b"]
    x = dataset.scan("images").filter(pl.col("image_uid") == "x").collect()
    assert x["bytes"].to_list() == [image_bytes("x")]
    assert dataset.counts["images"] == dataset.scan("images").collect().height == 6


def test_image_shown_on_either_side_is_one_image(tmp_path: Path) -> None:
    left = {"image_0_uid": "0-b", "jpg_0": image_bytes("0-b", kind="JPEG")}
    right = {"image_1_uid": "0-a", "jpg_1": image_bytes("0-a")}
    wrong = {"image_1_uid": "0-a", "jpg_1": image_bytes("else")}
    dataset = run(tmp_path, [row(0)], [row(1, **left, **right)], [row(2, **wrong)])
    assert image_uids(dataset) == ["0-a", "0-b", "2-a"]
    assert dataset.counts["pairs"] == 2
    assert rejected(dataset) == [("train-00002-of-00003.parquet#0", "uid-conflict")]


def test_damaged_images_are_judged_and_never_raise() -> None:
    rng = random.Random(0)
    reasons = set()
    for kind in ("JPEG", "PNG", "WEBP"):
        sound = image_bytes("sound", size=32, kind=kind)
        for _ in range(100):
            content = bytearray(sound[: rng.randrange(1, len(sound) + 1)])
            for _ in range(rng.randrange(1, 20)):
                content[rng.randrange(len(content))] = rng.randrange(256)
            reasons.add(check(bytes(content), 10_000, 10_000).reason)
    assert reasons <= {None, Reason.IMAGE_TRUNCATED, Reason.IMAGE_UNDECODABLE, Reason.TOO_MANY_PIXELS}
    assert {Reason.IMAGE_TRUNCATED, Reason.IMAGE_UNDECODABLE} <= reasons


def test_drawing_an_eighth_of_a_jpeg_judges_it_as_drawing_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage shows while the coefficients are decoded, which both do."""
    rng = random.Random(1)
    damaged = []
    for options in ({}, {"progressive": True}, {"subsampling": 0}, {"quality": 20}):
        buffer = io.BytesIO()
        Image.open(io.BytesIO(image_bytes("sound", size=100))).save(buffer, "JPEG", **options)
        for _ in range(100):
            content = bytearray(buffer.getvalue()[: rng.choice([None, rng.randrange(2, len(buffer.getvalue()))])])
            for _ in range(rng.randrange(4)):
                content[rng.randrange(len(content))] = rng.randrange(256)
            damaged.append(bytes(content))
    fast = [check(content, 1_000_000, 100_000) for content in damaged]
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.draft", lambda *_: None)
    assert fast == [check(content, 1_000_000, 100_000) for content in damaged]
    assert {checked.reason for checked in fast} >= {None, Reason.IMAGE_TRUNCATED, Reason.IMAGE_UNDECODABLE}


def test_image_on_its_side_has_its_upright_size() -> None:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 10)).save(out, "JPEG", exif=exif)
    assert (check(out.getvalue(), 1000, 10_000).width, check(out.getvalue(), 1000, 10_000).height) == (10, 30)


def test_webp_and_grey_images_are_taken(tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.new("L", (8, 4)).save(out, "WEBP")
    dataset = run(tmp_path, [row(0, jpg_0=out.getvalue())])
    assert dataset.scan("images").filter(pl.col("image_uid") == "0-a").collect().select("width", "height").row(0) == (
        8,
        4,
    )


def test_limit_reads_the_first_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "BATCH_ROWS", 1)  # the limit ends within a row group that has more batches
    dataset = run(tmp_path, [row(i) for i in range(6)], [row(i) for i in range(6, 12)], limit=7)
    assert dataset.scan("pairs").collect()["image_0"].to_list() == [f"{i}-a" for i in range(7)]
    assert dataset.counts["rows"] == 7
    with pytest.raises(ConfigError, match="limit"):
        run(tmp_path, [row(0)], limit=0)


def test_optional_columns_may_be_absent_and_extra_ones_are_dropped(tmp_path: Path) -> None:
    names = ["caption", "image_0_uid", "image_1_uid", "jpg_0", "jpg_1", "label_0"]
    schema = pa.schema([*(PICKAPIC_V2.field(name) for name in names), pa.field("nsfw", pa.float64())])
    rows = [{name: row(i).get(name) for name in schema.names} for i in range(2)]
    write_file(tmp_path / "source" / "part-0.parquet", rows, schema=schema)
    dataset = ingest(str(tmp_path / "store"), IngestConfig(source=str(tmp_path / "source"), split="validation"))
    pairs = dataset.scan("pairs").collect()
    assert pairs["user_id"].to_list() == pairs["created_at"].to_list() == [None, None]
    assert pairs["label_0"].to_list() == [1.0, 1.0]
    assert pairs["split"].to_list() == ["validation"] * 2
    assert "nsfw" not in pairs.columns


def test_v1_columns_are_taken(tmp_path: Path) -> None:
    schema = pa.schema([field for field in PICKAPIC_V2 if field.name != "__index_level_0__"])
    rows = [{name: row(0).get(name) for name in schema.names}]
    write_file(tmp_path / "source" / "train-0.parquet", rows, schema=schema)
    assert ingest(str(tmp_path / "store"), IngestConfig(source=str(tmp_path / "source"))).counts["pairs"] == 1


def test_mirror_without_images_is_refused(tmp_path: Path) -> None:
    schema = pa.schema([field for field in PICKAPIC_V2 if not field.name.startswith("jpg_")])
    rows = [{name: row(0).get(name) for name in schema.names}]
    write_file(tmp_path / "source" / "train-0.parquet", rows, schema=schema)
    with pytest.raises(SourceError, match="no-images mirror"):
        ingest(str(tmp_path / "store"), IngestConfig(source=str(tmp_path / "source")))


@pytest.mark.parametrize(
    ("field", "value"),
    [(pa.field("jpg_0", pa.string()), "text"), (pa.field("label_0", pa.list_(pa.int8())), [1]), (None, None)],
)
def test_unusable_columns_are_named(tmp_path: Path, field: pa.Field | None, value: Any) -> None:
    name = field.name if field else "image_0_uid"
    columns = [field if field and old.name == name else old for old in PICKAPIC_V2 if field or old.name != name]
    schema = pa.schema(columns)
    rows = [{column: (value if column == name else row(0).get(column)) for column in schema.names}]
    write_file(tmp_path / "source" / "train-0.parquet", rows, schema=schema)
    with pytest.raises(SourceError, match=name):
        ingest(str(tmp_path / "store"), IngestConfig(source=str(tmp_path / "source")))


def test_file_that_is_not_parquet_is_quarantined(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", [row(0)])
    (source / "train-00001.parquet").write_bytes(b"PAR1 nonsense")
    dataset = ingest(str(tmp_path / "store"), IngestConfig(source=str(source)))
    assert rejected(dataset) == [("train-00001.parquet#0", "file-unreadable")]
    assert dataset.counts["pairs"] == dataset.counts["rejected:file-unreadable"] == 1
    detail = dataset.scan("quarantine").collect()["detail"][0]
    assert "train-00001.parquet is not readable Parquet" in detail and str(tmp_path) not in detail


def test_source_without_a_readable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train-0.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(UnreadableFileError, match=r"No file of .* can be read; the first: train-0\.parquet"):
        ingest(str(tmp_path / "store"), IngestConfig(source=str(tmp_path)))


def test_rows_before_the_damage_of_a_file_are_kept(tmp_path: Path) -> None:
    """The second row group's images are overwritten; its uid "0-a" is also shown, sound, by a later file."""
    first = {"image_0_uid": "0-a", "jpg_0": image_bytes("0-a")}
    source = write_source(tmp_path / "source", [row(i) for i in range(1, 9)], [row(9), row(10, **first)])
    write_file(source / "train-00000-of-00002.parquet", [*(row(i) for i in range(1, 5)), row(5, **first), row(6)])
    path = source / "train-00000-of-00002.parquet"
    column = pq.read_metadata(path).row_group(1).column(PICKAPIC_V2.names.index("jpg_0"))
    content = bytearray(path.read_bytes())
    at = column.dictionary_page_offset or column.data_page_offset
    content[at : at + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(content)
    dataset = ingest(str(tmp_path / "store"), IngestConfig(source=str(source)))
    assert rejected(dataset) == [(f"{path.name}#{i}", "file-unreadable") for i in (4, 5)]
    assert dataset.scan("pairs").collect()["image_0"].to_list() == ["1-a", "2-a", "3-a", "4-a", "9-a", "0-a"]
    assert "0-a" in image_uids(dataset)
    assert dataset.counts["rows"] == 8 and dataset.counts["pairs"] == 6


def test_pairs_of_named_generators_only(tmp_path: Path) -> None:
    rows = [row(0), row(1, model_1="m2"), row(2, model_0="m1", caption=""), row(3, model_0=None), row(4, model_0="m1")]
    dataset = run(tmp_path, rows, models=("m0", "m1"))
    assert dataset.scan("pairs").collect()["image_0"].to_list() == ["0-a", "4-a"]
    assert image_uids(dataset) == ["0-a", "0-b", "4-a", "4-b"]
    assert rejected(dataset) == [("train-00000-of-00001.parquet#2", "prompt-empty")]
    assert dataset.counts["not-chosen"] == 2 and dataset.counts["rows"] == 5


def test_prompts_that_leak_to_other_splits_are_counted(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", [row(i) for i in range(6)], [row(6, caption="only here")])
    write_source(
        source, [row(20, caption=" prompt  1"), row(21, caption="elsewhere"), row(22, caption="")], split="test"
    )
    write_source(source, [row(30, caption="elsewhere")], split="validation_unique")
    (source / "test-00009.parquet").write_bytes(b"damaged")
    dataset = ingest(str(tmp_path / "store"), IngestConfig(source=str(source)))
    assert {name: n for name, n in dataset.counts.items() if name.startswith("leak")} == {
        "leaked-prompts:test": 1,
        "leaked-pairs:test": 2,
        "leakage-unread-files:test": 1,
        "leaked-prompts:validation_unique": 0,
        "leaked-pairs:validation_unique": 0,
    }
    assert dataset.scan("leakage").select("split", "prompt", "pairs").collect().rows() == [("test", "prompt 1", 2)]
    validation = ingest(str(tmp_path / "store"), IngestConfig(source=str(source), split="validation_unique"))
    assert validation.counts["leaked-prompts:test"] == 1 and validation.counts["leaked-prompts:train"] == 0
    limited = ingest(str(tmp_path / "store"), IngestConfig(source=str(source), limit=2))
    assert not any(name.startswith("leak") for name in limited.counts)


def test_page_shows_pairs_with_their_verdicts(tmp_path: Path) -> None:
    rows = [row(0, caption="<b>first</b>"), row(1, label_0=0.5, label_1=0.5), row(2, jpg_0=b"x")]
    dataset = run(tmp_path, rows, [row(3, jpg_0=image_bytes("3-a", size=400))])
    with dataset.open("samples.html") as file:
        page = file.read().decode()
    assert page.count('<li class="example"') == 3
    assert "&lt;b&gt;first&lt;/b&gt;" in page and "<b>first" not in page
    assert page.count("<b>Preferred</b>") == page.count("<b>Tie</b>") == 2
    assert page.count("<img ") == 6 and page.count('width="320" height="320"') == 1, "a large image is scaled down"
    assert "image-undecodable" in page
    assert not re.search(r"(src|href)=.(?!data:)", page), "the page refers to something outside itself"


def test_real_pairs(tmp_path: Path) -> None:
    folder = DATA / "mj-bench-objects"
    if not folder.is_dir():
        pytest.skip(f"real pairs are absent: no folder {folder} (set PREFERENCE_DATA)")
    dataset = ingest(str(tmp_path), IngestConfig(source=str(folder), limit=50))
    assert dataset.counts == {"rows": 50, "pairs": 50, "ties": 0, "unlabelled": 0, "images": 100}
    assert dataset.scan("images").select("width", "height").unique().collect().rows() == [(1024, 1024)]
    assert dataset.scan("pairs").collect()["model_0"].unique().sort().to_list() == ["edited", "original"]
