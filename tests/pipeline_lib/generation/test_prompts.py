"""Prompt sets, and the search for prompts that were trained on."""

import io
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from PIL import Image

from pipeline_lib.core import schemas, store
from pipeline_lib.core.errors import ConfigError, EvaluationError, HubError, UnknownNameError
from pipeline_lib.core.store import Dataset
from pipeline_lib.generation.prompt_sets import DRAWBENCH, HPDV2, PICKAPIC
from pipeline_lib.generation.prompts import leaked, load_prompts
from tests.pipeline_lib.hub_server import Hub, serve


def pairs(root: Path, prompts: list[str]) -> Dataset:
    """An ingest dataset with one pair per prompt."""
    rows = [
        {"pair_id": str(i), "prompt_id": str(i), "prompt": p, "image_0": "a", "image_1": "b", "split": "train"}
        for i, p in enumerate(prompts)
    ]
    writer = store.writer(str(root), "ingest", 1, {})
    return writer.commit([writer.write_table("pairs/part-00000.parquet", pa.Table.from_pylist(rows, schemas.PAIRS))])


def test_shapes_sets_are_disjoint_and_know_the_truth() -> None:
    test, validation = load_prompts("shapes-test"), load_prompts("shapes-validation")
    assert (len(test.prompts), len(validation.prompts)) == (256, 128)
    assert not set(test.prompts) & set(validation.prompts)
    assert load_prompts("shapes-heldout").digest == test.digest
    assert test.truth is not None
    red = Image.new("RGB", (32, 32), "red")
    utility = test.truth(
        [red, red], ["a large red circle on a black background", "a small blue ring on a tan background"]
    )
    assert utility.shape == (2,) and np.isfinite(utility).all()
    with pytest.raises(EvaluationError, match="32x32"):
        test.truth([Image.new("RGB", (64, 64))], [test.prompts[0]])


def test_a_text_file_has_one_prompt_per_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("a cat\n\n  a dog  \na   cat\n", encoding="utf-8")
    found = load_prompts(str(file))
    assert (found.name, found.prompts, found.truth) == ("mine.txt", ("a cat", "a dog"), None)


def test_a_tsv_file_is_read_by_its_prompt_column(tmp_path: Path) -> None:
    file = tmp_path / "parti.tsv"
    file.write_text('Prompt\tCategory\n"bond" he said\tAbstract\nlife\tAbstract\n', encoding="utf-8")
    assert load_prompts(str(file)).prompts == ('"bond" he said', "life")
    assert load_prompts(str(file)).categories == ("Abstract", "Abstract")
    file.write_text("Text\tCategory\nbond\tAbstract\n")
    with pytest.raises(ConfigError, match="Prompt"):
        load_prompts(str(file))


def test_every_prompt_keeps_its_category(tmp_path: Path) -> None:
    file = tmp_path / "parti.tsv"
    file.write_text("Category\tPrompt\nAnimals\ta cat\nFood\tcake\nArts\ta  cat\n\tlife\n", encoding="utf-8")
    found = load_prompts(str(file))
    assert (found.prompts, found.categories) == (("a cat", "cake", "life"), ("Animals", "Food", "none"))
    (one,) = load_prompts(str(file), 1).prompts
    assert load_prompts(str(file), 1).categories == (found.categories[found.prompts.index(one)],)
    for shapes in (load_prompts("shapes-test"), load_prompts("shapes-test", 40)):
        assert len(shapes.categories) == len(shapes.prompts)
        assert all(
            f" {category} " in prompt for prompt, category in zip(shapes.prompts, shapes.categories, strict=True)
        )
    text = tmp_path / "mine.txt"
    text.write_text("a cat\n")
    assert load_prompts(str(text)).categories == ()


def test_a_smaller_number_is_part_of_a_larger_one() -> None:
    every = load_prompts("shapes-test").prompts
    few, more = (load_prompts("shapes-test", number).prompts for number in (16, 64))
    assert (len(few), len(more)) == (16, 64)
    assert set(few) < set(more) < set(every)
    assert list(more) == [p for p in every if p in set(more)]
    for wrong in (0, 257):
        with pytest.raises(ConfigError, match="256 distinct"):
            load_prompts("shapes-test", wrong)


def test_unknown_and_empty_sets_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="shapes-test"):
        load_prompts("shape-test")
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(ConfigError, match="empty"):
        load_prompts(str(tmp_path / "empty.txt"))


HUB_SETS = ("drawbench", "hpdv2", "partiprompts", "pickapic-test-unique", "pickapic-validation-unique")


@pytest.mark.parametrize("name", HUB_SETS)
def test_an_unreachable_hub_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*args: object, **settings: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(HubError, match="Cannot download"):
        load_prompts(name)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AbstractContextManager[None]]:
    """Serves files by name -> content as a dataset (repository, revision) of the hub, with an empty local cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    def serving(where: Sequence[str], files: dict[str, bytes]) -> AbstractContextManager[None]:
        for name, content in files.items():
            (tmp_path / "repo" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "repo" / name).write_bytes(content)
        return serve(monkeypatch, where[0], tmp_path / "repo", where[1])

    return serving


def test_pickapic_prompts_are_the_caption_column(hub: Callable[..., AbstractContextManager[None]]) -> None:
    def captions(*texts: str) -> bytes:
        file = io.BytesIO()
        pq.write_table(pa.table({"caption": texts, "jpg_0": [b""] * len(texts)}), file)
        return file.getvalue()

    files = {
        "data/validation_unique-00000-of-00001-ab.parquet": captions("a cat", "a dog"),
        "data/test_unique-00000-of-00001-cd.parquet": captions("a tree"),
        "data/test-00000-of-00001-ef.parquet": captions("a house"),
    }
    with hub(PICKAPIC, files):
        validation, test = load_prompts("pickapic-validation-unique"), load_prompts("pickapic-test-unique")
        assert (validation.prompts, test.prompts) == (("a cat", "a dog"), ("a tree",))
        assert test.name == "pickapic-test-unique"
        assert not any("test-00000" in path for _, path, _ in Hub.log), "a split that nobody asked for was fetched"


def test_the_styles_of_hpdv2_are_its_categories(hub: Callable[..., AbstractContextManager[None]]) -> None:
    styles = ("anime", "concept-art", "paintings", "photo")
    files = {f"benchmark/{style}.json": json.dumps([f"{style} é", "a cat"]).encode() for style in styles}
    with hub(HPDV2, files | {"benchmark_imgs.tar.gz": b"large"}):
        found = load_prompts("hpdv2")
        assert found.prompts == ("anime é", "a cat", "concept-art é", "paintings é", "photo é")
        assert found.categories == ("anime", "anime", "concept-art", "paintings", "photo")
        assert not any("tar.gz" in path for _, path, _ in Hub.log)


def test_a_file_the_hub_does_not_have_is_named(hub: Callable[..., AbstractContextManager[None]]) -> None:
    with hub(HPDV2, {"benchmark/anime.json": b"[]"}), pytest.raises(HubError, match="concept-art"):
        load_prompts("hpdv2")


def test_drawbench_is_a_quoted_table_with_categories(hub: Callable[..., AbstractContextManager[None]]) -> None:
    table = 'Prompts,Category\r\n"A sign that says ""Hi"", twice",Text\r\n"A cat,\nand a dog",Gary Marcus et al. \r\n'
    with hub(DRAWBENCH, {"DrawBench Prompts - Sheet1.csv": table.encode()}):
        found = load_prompts("drawbench")
    assert found.prompts == ('A sign that says "Hi", twice', "A cat, and a dog")
    assert found.categories == ("Text", "Gary Marcus et al.")


def test_held_out_pairs_give_their_prompts_once(tmp_path: Path) -> None:
    found = load_prompts("heldout", held_out=pairs(tmp_path, ["a cat", "a dog", "a cat"]))
    assert (found.name, found.prompts, found.truth) == ("heldout", ("a cat", "a dog"), None)
    with pytest.raises(ConfigError, match="held-out pairs"):
        load_prompts("heldout")


def test_leaks_are_found_whatever_case_and_spacing(tmp_path: Path) -> None:
    trained = pairs(tmp_path, ["A Red  Circle", "a blue ring", "a blue ring"])
    assert leaked(["a red circle", "a green cross", "a blue ring"], trained) == ("a red circle", "a blue ring")
    assert leaked(["a green cross"], trained) == ()
