"""Recipes as written by users, and the label stage on datasets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline_lib.core import schemas
from pipeline_lib.core.errors import LabelError, PipelineError, UnknownNameError
from pipeline_lib.core.store import Dataset, writer
from pipeline_lib.labels.flips import Flip
from pipeline_lib.labels.parse import STEPS
from pipeline_lib.labels.recipe import build_labels, required_scorers
from pipeline_lib.labels.recipes import names, steps_of
from pipeline_lib.labels.votes import Vote
from tests.pipeline_lib.labels.tables import ingested, scores


@pytest.mark.parametrize(
    "written",
    [
        {"vote": ["human", "clip"], "ties": "drop"},
        {"vote": {"voters": ["human", "clip"], "ties": "drop"}},
        {"ties": "drop", "vote": ["human", "clip"]},
    ],
)
def test_step_may_be_written_in_several_ways(written: dict[str, Any]) -> None:
    assert steps_of([written]) == [Vote(voters=("human", "clip"), ties="drop")]


def test_plain_form_parses_to_the_same_steps() -> None:
    for recipe in names():
        steps = steps_of(recipe)
        assert steps_of([step.plain() for step in steps]) == steps
    assert steps_of([{"single": "human"}, {"flip": 1}])[1] == Flip(rate=1.0, seed=0)


def test_the_page_shows_every_step_and_recipes_that_work() -> None:
    page = (Path(__file__).parents[3] / "docs" / "labels.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert [step.name for step in steps_of(example)] == ["filter", "reveal", "pseudo_label", "dedpo", "weight"]
    written = [cell for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for cell in re.findall("`(.*?)`", row)]
    shown = {}
    for cell in written:
        step = yaml.safe_load(cell)
        shown[step if isinstance(step, str) else next(iter(step))] = step
    assert set(shown) == set(STEPS)
    before, after = ["filter", "reveal", "pseudo_label"], ["flip", "weight", "balance", "subsample", "split"]
    for name in ("single", "vote", "aggregate", "soft", "dedpo", "mix"):
        assert len(steps_of([shown[step] for step in (*before, name, *after)])) == 9
    assert len(steps_of([shown[step] for step in ("filter", "oracle", "reveal", "dedpo")])) == 4
    assert all(name in page for name in ("human", "balanced", "voting5", "dedpo25", "naive25", "aggregate-random"))


@pytest.mark.parametrize(
    ("recipe", "scorers"),
    [
        ("human", []),
        ("balanced", ["hpsv2", "clip", "pickscore", "aesthetic"]),
        ("voting5", ["pickscore", "imagereward", "aesthetic", "hpsv2"]),
        ("dedpo25", ["clip"]),
        ("flip30", []),
        ([{"vote": ["human", "clip"], "ties": "prior:hpsv2"}], ["clip", "hpsv2"]),
        ([{"pseudo_label": "clip"}, "dedpo"], ["clip"]),
    ],
)
def test_required_scorers(recipe: Any, scorers: list[str]) -> None:
    assert required_scorers(recipe) == scorers


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("balancd", "Did you mean 'balanced'"),
        ([], "list of steps"),
        ({"single": "human"}, "list of steps"),
        ([{"votes": ["human"]}], "Did you mean 'vote'"),
        ([3], "Step 1 is 3"),
        ([{"single": "human", "tie": "drop"}], r"Step 1 \(single\): Unknown option 'tie'"),
        ([{"single": {}}], "lacks 'annotator'"),
        ([{"dedpo": 3}], r"Step 1 \(dedpo\)"),
        ([{"vote": []}], "no voters"),
        ([{"vote": ["clip", "clip"]}], "named twice"),
        ([{"vote": ["clip"], "ties": "prior:"}], "Unknown tie rule 'prior:'"),
        ([{"vote": ["human"], "ties": "margin"}], "needs a scorer"),
        ([{"vote": ["clip", 3.5]}], "not a list of names"),
        ([{"filter": ["tie"]}, {"single": "human"}], "Did you mean 'ties'"),
        ([{"reveal": 0}, {"single": "human"}], "not in"),
        ([{"single": "human"}, {"flip": 1.5}], "rate=1.5"),
        ([{"single": "human"}, {"flip": "0.1"}], "not a number"),
        ([{"single": "human"}, {"flip": 0.1, "seed": 1.5}], "not a whole number"),
        ([{"single": "human"}, {"flip": True}], "not a number"),
        ([{"filter": "ties"}], "never says what the target is"),
        ([{"single": "human"}, {"vote": ["clip"]}], "step 1 .single. has set the target"),
        (["dedpo"], "no g_hat yet"),
        ([{"single": "human"}, {"reveal": 0.5}], "after the target is set"),
        ([{"pseudo_label": "human"}, "dedpo"], "their own synthetic annotator"),
        ([{"pseudo_label": "clip", "folds": 1}, "dedpo"], "folds=1"),
        ([{"pseudo_label": "clip", "calibrate": "isotonc"}, "dedpo"], "Did you mean 'isotonic'"),
        ([{"aggregate": ["human", "clip"]}], "no score to aggregate"),
        ([{"oracle": 1.1}, "dedpo"], r"Step 1 \(oracle\): accuracy=1.1"),
        ([{"oracle": -0.1}, "dedpo"], "accuracy=-0.1"),
        ([{"oracle": 0.4, "calibrated": True}, "dedpo"], "would say the opposite"),
        ([{"oracle": 0.9, "calibrated": 1}, "dedpo"], "calibrated=1 is not true or false"),
        (
            [{"reveal": 0.5}, {"oracle": 0.9}, "dedpo"],
            r"(?s)Step 2 \(oracle\): step 1 \(reveal\) has hidden.*above step 1",
        ),
        ([{"oracle": 0.9}, {"pseudo_label": "clip"}, "dedpo"], r"Step 2 \(pseudo_label\): step 1 has set g_hat"),
        ([{"pseudo_label": "clip"}, {"oracle": 0.9}, "dedpo"], r"Step 2 \(oracle\): step 1 has set g_hat"),
        ([{"single": "human"}, {"oracle": 0.9}], "after the target is set"),
    ],
)
def test_bad_recipe_names_the_step(recipe: Any, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        steps_of(recipe)


def clip_scores(store: str) -> Dataset:
    """By prompt; image 0-a has another score under another prompt, which must not be used."""
    return scores(
        store,
        "clip",
        {("0-a", "p9"): -9, ("0-a", "p0"): 2, ("0-b", "p0"): 1, ("1-a", "p1"): 1, ("1-b", "p1"): 2, ("2-a", "p2"): 1},
    )


def test_label_dataset(tmp_path: Path) -> None:
    store = str(tmp_path)
    pairs = ingested(store, [0.0, 1.0, 0.5, 1.0])
    clip = clip_scores(store)
    taste = scores(
        store, "aesthetic", {(f"{i}-{side}", None): float(i + (side == "a")) for i in range(4) for side in "ab"}
    )
    recipe = [{"vote": ["clip", "aesthetic"], "ties": "human"}, {"flip": 0.5}]
    steps: list[tuple[int, int]] = []
    dataset = build_labels(store, recipe, pairs, {"clip": clip, "aesthetic": taste}, lambda *step: steps.append(step))
    table = pq.read_table(f"{dataset.uri}/part-00000.parquet")
    assert table.schema.names == [*schemas.LABELS.names, "vote_clip", "vote_aesthetic"]
    assert schemas.conform(table, schemas.LABELS, "labels").schema.field("target").nullable is False
    rows = table.to_pylist()
    assert [(r["image_0"], r["vote_clip"], r["vote_aesthetic"], r["vote_sum"]) for r in rows] == [
        ("0-a", 1, 1, 2),
        ("1-a", -1, 1, 0),
    ]
    assert [r["target"] != (1.0 if r["flipped"] else 0.0) for r in rows].count(True) == 2  # both would be 1
    assert dataset.counts == {
        "pairs": 4,
        "dropped:0.scores:unscored-clip": 2,
        "kept": 2,
        "human": 1,
        "flipped": 1,
        "tied": 0,
    }
    assert steps == [(1, 2), (2, 2)]
    assert [source["uri"] for source in dataset.inputs] == [pairs.path(), taste.path(), clip.path()]
    again = build_labels(store, recipe, pairs, {"aesthetic": taste, "clip": clip, "unused": taste})
    assert again == dataset
    spelled = [{"vote": {"voters": ["clip", "aesthetic"]}}, {"flip": {"rate": 0.5, "seed": 0}}]
    assert build_labels(store, spelled, pairs, {"aesthetic": taste, "clip": clip}).uri == dataset.uri
    other = build_labels(store, [{"single": "clip"}], pairs, {"clip": clip})
    assert other.uri != dataset.uri


def test_scores_that_are_not_finite_count_as_missing(tmp_path: Path) -> None:
    store = str(tmp_path)
    pairs = ingested(store, [1.0, 1.0, 1.0])
    values = {("0-a", None): 1.0, ("0-b", None): float("nan"), ("1-a", None): float("inf"), ("1-b", None): 0.0}
    taste = scores(store, "aesthetic", {**values, ("2-a", None): 1.0, ("2-b", None): 0.0})
    dataset = build_labels(store, [{"single": "aesthetic"}], pairs, {"aesthetic": taste})
    assert (dataset.counts["kept"], dataset.counts["dropped:0.scores:unscored-aesthetic"]) == (1, 2)


def test_scorer_without_dataset_fails_before_any_work(tmp_path: Path) -> None:
    pairs = ingested(str(tmp_path), [1.0])
    with pytest.raises(LabelError, match=r"needs scores by hpsv2.*given: clip"):
        build_labels(str(tmp_path), [{"vote": ["clip", "hpsv2"]}], pairs, {"clip": clip_scores(str(tmp_path))})
    with pytest.raises(UnknownNameError):
        build_labels(str(tmp_path), "nonsense", pairs, {})


def test_two_scores_for_one_image_are_refused(tmp_path: Path) -> None:
    store = str(tmp_path)
    pairs = ingested(store, [1.0])
    once = scores(store, "clip", {("0-a", "p0"): 1, ("0-b", "p0"): 2})
    w = writer(store, "scores-clip", 1, {})
    twice = w.commit([w.write_table("part-00000.parquet", once.read(once.shards[0]).take([0, 0, 1]))])
    with pytest.raises(LabelError, match="twice"):
        build_labels(store, [{"single": "clip"}], pairs, {"clip": twice})


def test_keys_that_hash_alike_are_still_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = str(tmp_path)
    pairs = ingested(store, [0.0, 1.0, 0.5, 1.0])
    clip = clip_scores(store)
    expected = build_labels(store, [{"single": "clip"}], pairs, {"clip": clip})
    with monkeypatch.context() as patch:
        patch.setattr(pl.Expr, "hash", lambda self, seed=0: self.is_null().cast(pl.UInt64))
        found = build_labels(str(tmp_path / "other"), [{"single": "clip"}], pairs, {"clip": clip})
    assert found.digest == expected.digest and found.counts["kept"] == 2


BOMB = "\n".join(
    ["a: &a [x, x, x, x, x, x, x, x, x]"]
    + [f"{n}: &{n} [{', '.join(['*' + m] * 9)}]" for m, n in zip("abcdefgh", "bcdefghi", strict=True)]
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "alias"),
        ("[" * 9000, "20 levels"),
        ("- 2001-99-99", "month"),
        ("- !!timestamp abc", "cannot be read"),
        ("- {flip: " + "9" * 5000 + "}", "cannot be read"),
        ("- {flip: .inf}", "not a number"),
        ("- {flip: 0.1, seed: " + "9" * 30 + "}", "not a whole number"),
        ("- a\0b", "not YAML"),
        ("- " + "x y " * 9000, "characters"),
        ("- [" + "z" * 15000 + "]", "Step 1"),
    ],
)
def test_hostile_text_is_refused_in_few_words(text: str, words: str) -> None:
    with pytest.raises(PipelineError, match=words) as said:
        steps_of(text)
    assert len(str(said.value)) < 700
