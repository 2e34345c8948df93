from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

from pipeline_lib import shapes
from pipeline_lib.shapes import hub_files as files
from pipeline_lib.shapes.build.pairs import SCHEMA
from pipeline_lib.shapes.renderer import decode

MEGABYTE = 1_000_000


def shipped() -> Iterator[Path]:
    return (path for path in shapes.assets_dir().rglob("*") if path.is_file())


def test_files_are_small() -> None:
    sizes = {path: path.stat().st_size for path in shipped()}
    assert max(sizes.values()) < 3 * MEGABYTE
    assert sum(sizes.values()) < 16 * MEGABYTE


def test_held_out_prompts_are_in_no_pair() -> None:
    table = pq.read_table(shapes.pairs_dir(), columns=["caption"])
    seen = {caption.strip() for caption in table["caption"].to_pylist()}
    assert len(set(shapes.prompts("test"))) >= 256
    assert len(set(shapes.prompts("validation"))) >= 128
    assert not seen & {*shapes.prompts("test"), *shapes.prompts("validation")}
    assert seen - {""} == set(shapes.prompts("train"))


def test_pairs_have_pick_a_pics_schema_and_share_of_ties() -> None:
    for path in sorted(shapes.pairs_dir().glob("*.parquet")):
        assert pq.read_schema(path).remove_metadata().equals(SCHEMA)
    labels = pq.read_table(shapes.pairs_dir(), columns=["label_0"])["label_0"].to_numpy()
    assert len(labels) > 5000
    assert 0.09 < np.mean(labels == 0.5) < 0.13


def test_held_out_pairs_are_new_images_of_the_test_captions() -> None:
    table = pq.read_table(shapes.held_out_dir())
    assert table.schema.remove_metadata().equals(SCHEMA)
    assert {caption.strip() for caption in table["caption"].to_pylist()} == set(shapes.prompts("test"))

    def uids(path: Path) -> set[str]:
        columns = pq.read_table(path, columns=["image_0_uid", "image_1_uid"])
        return {uid for column in columns.columns for uid in column.to_pylist()}

    shown = uids(shapes.held_out_dir())
    assert len(table) == 256 and not shown & uids(shapes.pairs_dir())
    known = pq.read_table(shapes.assets_dir() / "heldout_truth.parquet").to_pylist()
    assert {row["image_uid"] for row in known} == shown
    value = {row["image_uid"]: row["true_utility"] for row in known}
    labels = [(row["label_0"], value[row["image_0_uid"]], value[row["image_1_uid"]]) for row in table.to_pylist()]
    decided = [(label == 1) == (left > right) for label, left, right in labels if label != 0.5]
    assert 0.8 < np.mean(decided) < 0.95, "people are as far from unanimous as on the other pairs"


def test_truth_is_what_the_pixels_say() -> None:
    truth = {row["image_uid"]: row for row in pq.read_table(shapes.assets_dir() / "truth.parquet").to_pylist()}
    rows = pq.read_table(next(iter(sorted(shapes.pairs_dir().glob("*.parquet"))))).slice(0, 60).to_pylist()
    good = [row for row in rows if row["image_0_uid"] and row["jpg_0"] and len(row["jpg_0"]) > 600]
    known = [truth[row["image_0_uid"]] for row in good if row["caption"].strip()]
    images = np.stack([decode(row["jpg_0"]) for row in good if row["caption"].strip()])
    measured = shapes.true_utility(images, [row["prompt"] for row in known])
    # People judged the picture before JPEG; the compression moves the measured utility a little.
    np.testing.assert_allclose(measured, [row["true_utility"] for row in known], atol=0.6)
    assert np.corrcoef(measured, [row["true_utility"] for row in known])[0, 1] > 0.97


def test_calibration_is_near_its_targets() -> None:
    from pipeline_lib.shapes.build.measure import TARGETS

    record = json.loads((shapes.assets_dir() / "build.json").read_text(encoding="utf-8"))
    figures = record["calibration"]["pairs"]
    for name, target in TARGETS.items():
        assert figures["all"]["accuracy_against_people"][name] == pytest.approx(target, abs=0.03), name
    sampled = [row["mean"] for name, row in figures["utility"].items() if "base" in name]
    assert max(sampled) < figures["ideal_utility"] - 1.0


def test_the_base_model_loads_plainly_and_follows_captions() -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(shapes.HUB / files.BASE, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    captions = shapes.prompts("validation")[:8]
    images = pipeline(captions, num_inference_steps=15, guidance_scale=3.0, output_type="np").images
    assert images.shape == (8, 32, 32, 3)
    others = captions[4:] + captions[:4]
    assert shapes.true_utility(images, captions).mean() > shapes.true_utility(images, others).mean() + 1.0


def test_the_xl_model_loads_plainly() -> None:
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(shapes.HUB / files.BASE_XL)
    pipeline.set_progress_bar_config(disable=True)
    out = pipeline(shapes.prompts("validation")[0], num_inference_steps=3, output_type="np")
    assert out.images.shape == (1, 32, 32, 3)


def test_text_encoders_have_the_official_names_which_older_libraries_read() -> None:
    towers = [*shapes.HUB.glob("shapes/*/text_encoder*")]
    assert len(towers) == 3
    for folder in towers:
        with safe_open(folder / "model.safetensors", "pt") as weights:
            names = set(weights.keys())
        assert {name.partition(".")[0] for name in names} <= {"text_model", "text_projection"}, folder
        assert json.loads((folder / "config.json").read_text())["torch_dtype"] == "float32", folder
        tokenizer = folder.with_name(folder.name.replace("text_encoder", "tokenizer"))
        written = {path.name for path in tokenizer.iterdir()}
        assert {"vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json"} <= written


def test_reward_models_score_shipped_images_better_than_chance() -> None:
    from pipeline_lib.shapes.build.measure import scorers

    truth = pq.read_table(shapes.assets_dir() / "truth.parquet").slice(0, 320).to_pydict()
    stored: dict[str, bytes] = {}
    for path in sorted(shapes.pairs_dir().glob("*.parquet")):
        table = pq.read_table(path, columns=["image_0_uid", "jpg_0"]).to_pydict()
        stored |= {uid: data for uid, data in zip(*table.values(), strict=True) if uid and data and len(data) > 600}
        break
    rows = [row for row, uid in enumerate(truth["image_uid"]) if uid in stored]
    images = np.round(np.stack([decode(stored[truth["image_uid"][row]]) for row in rows]) * 255).astype(np.uint8)
    captions = [truth["prompt"][row] for row in rows]
    values = np.array([truth["true_utility"][row] for row in rows])
    floors = {"pickscore": 0.4, "hpsv2": 0.25, "imagereward": 0.1}
    for name, score in scorers(shapes.assets_dir()).items():
        result = score(images, captions)
        assert result.shape == (len(rows),)
        assert np.isfinite(result).all()
        assert np.corrcoef(result, values)[0, 1] > floors.get(name, -0.1), name


def test_no_asset_says_where_it_was_built() -> None:
    for path in shipped():
        if path.suffix in {".json", ".md", ".txt"}:
            text = path.read_text(encoding="utf-8")
            assert "/tmp/" not in text, path
            assert "/work/" not in text, path
