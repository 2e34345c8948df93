from __future__ import annotations

import io
import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline_lib.shapes import annotators, truth
from pipeline_lib.shapes.build import pairs
from pipeline_lib.shapes.grammar import split_captions
from pipeline_lib.shapes.renderer import to_uint8
from pipeline_lib.shapes.web import draw

PER_PROMPT = pairs.ROUNDS_PER_PROMPT * (pairs.COMPARISONS_PER_ROUND + 1)


@pytest.fixture(scope="module")
def gallery() -> pairs.Gallery:
    names = tuple(caption for caption in split_captions("train")[:20] for _ in range(PER_PROMPT))
    images = to_uint8(draw(names, np.random.default_rng(0)))
    uids = pairs.new_uids(len(names), seed=1)
    return pairs.Gallery(images, truth.attributes(images, names), names, uids, ("drawn",) * len(names))


@pytest.fixture(scope="module")
def rows(gallery: pairs.Gallery) -> list[dict[str, Any]]:
    return pairs.rounds(gallery, annotators.crowd(30, seed=2), seed=3)


def test_columns_are_pick_a_pics(rows: list[dict[str, Any]]) -> None:
    assert all(sorted(row) == sorted(pairs.SCHEMA.names) for row in rows)


def test_labels_winner_and_difference_agree(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert row["label_0"] + row["label_1"] == 1.0
        best = {1.0: row["image_0_uid"], 0.0: row["image_1_uid"], 0.5: "tie"}[row["label_0"]]
        assert row["best_image_uid"] == best
        assert row["are_different"] == (row["label_0"] != 0.5)


def test_a_round_is_one_persons_and_keeps_its_winner(rows: list[dict[str, Any]]) -> None:
    by_round: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        by_round.setdefault(row["ranking_id"], []).append(row)
    assert len(by_round) == 20 * pairs.ROUNDS_PER_PROMPT
    for members in by_round.values():
        assert len(members) == pairs.COMPARISONS_PER_ROUND
        assert len({row["user_id"] for row in members}) == 1
        for before, after in itertools.pairwise(members):
            shown = {after["image_0_uid"], after["image_1_uid"]}
            if before["label_0"] != 0.5:
                assert before["best_image_uid"] in shown
            assert len(shown & {before["image_0_uid"], before["image_1_uid"]}) == 1


def test_an_image_stands_in_nearly_two_pairs(rows: list[dict[str, Any]]) -> None:
    count = Counter(uid for row in rows for uid in (row["image_0_uid"], row["image_1_uid"]))
    assert 1.6 < np.mean(list(count.values())) < 1.9


def test_sides_are_shuffled_and_better_images_win(gallery: pairs.Gallery, rows: list[dict[str, Any]]) -> None:
    value = dict(zip(gallery.uids, truth.utility(gallery.parts), strict=True))
    decided = [row for row in rows if row["label_0"] != 0.5]
    assert 0.4 < np.mean([row["label_0"] for row in decided]) < 0.6
    right = [(value[row["image_0_uid"]] > value[row["image_1_uid"]]) == (row["label_0"] == 1.0) for row in decided]
    assert 0.7 < np.mean(right) < 0.98


def test_prompts_differ_by_outer_white_space(rows: list[dict[str, Any]]) -> None:
    typed = {row["caption"] for row in rows}
    assert len({text.strip() for text in typed}) == 20
    assert len(typed) > 20
    count = Counter(row["caption"] for row in rows)
    assert all(row["num_example_per_prompt"] == count[row["caption"]] for row in rows)


def test_broken_rows_are_added_and_good_ones_kept(rows: list[dict[str, Any]]) -> None:
    damaged = pairs.with_broken_rows(rows, seed=4)
    assert [row["__index_level_0__"] for row in damaged] == list(range(len(rows) + 10))

    def fault(row: dict[str, Any]) -> str:
        for side in "01":
            data = row[f"jpg_{side}"]
            if data is None:
                return "no image"
            try:
                Image.open(io.BytesIO(data)).load()
            except OSError:
                return "truncated image"
        if not row["caption"].strip():
            return "empty prompt"
        if row["label_0"] + row["label_1"] != 1.0:
            return "labels do not add up"
        return "none" if row["image_0_uid"] and row["image_1_uid"] else "no uid"

    assert Counter(map(fault, damaged)) == {
        "none": len(rows),
        "no image": 2,
        "truncated image": 2,
        "empty prompt": 2,
        "labels do not add up": 2,
        "no uid": 2,
    }


def test_the_same_seeds_give_the_same_rows(gallery: pairs.Gallery, rows: list[dict[str, Any]]) -> None:
    people = annotators.crowd(30, seed=2)
    assert pairs.rounds(gallery, people, seed=3) == rows
    assert pairs.rounds(gallery, people, seed=4) != rows
