"""Every step on a hand-made world, against the plain-Python reading of its definition."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from pipeline_lib.core import schemas
from pipeline_lib.core.store import Dataset, writer
from pipeline_lib.labels.parse import STEPS
from pipeline_lib.labels.recipe import build_labels, required_scorers
from tests.pipeline_lib.labels import plain
from tests.pipeline_lib.labels.tables import scores

NAN = float("nan")
# prompt, image_0, image_1, human, user, model_0, model_1, split
PAIRS = [
    ("p0", "a", "b", 1.0, "u1", "m1", "m2", "train"),
    ("p0", "b", "a", 0.0, "u1", "m2", "m1", "train"),  # the same comparison in the other order
    ("p0", "a", "c", 0.0, "u1", "m1", "m1", "train"),
    ("p1", "d", "e", 0.5, "u2", "m1", "m2", "train"),  # a human tie
    ("p1", "d", "f", None, None, "m1", "m3", "validation"),  # unlabelled
    ("p1", "e", "f", 1.0, "u2", "m2", "m3", "train"),  # 2-2
    ("p1", "f", "e", 0.0, "u2", "m3", "m2", "train"),  # 2-2 in the other order
    ("p2", "g", "h", 1.0, "u3", "m1", "m2", "train"),  # all scores equal
    ("p2", "g", "i", 0.0, "u3", "m1", None, "train"),  # i: NaN by w
    ("p2", "h", "j", 1.0, "u3", "m2", "m2", "train"),  # j: no score by z
    ("p3", "k", "l", 0.0, "u1", "m1", "m2", "train"),
    ("p3", "k", "m", 1.0, "u4", "m1", "m3", "train"),
    ("p3", "l", "m", None, "u4", "m2", "m3", "validation"),  # 2-2, unlabelled
    ("p4", "n", "o", 1.0, "u4", "m1", "m2", "train"),
    ("p4", "o", "n", 0.5, "u4", "m2", "m1", "train"),  # another verdict on the same two, in the other order
    ("p5", "q", "r", 0.0, "u5", "m1", "m2", "train"),
    ("p5", "q", "s", 1.0, "u5", "m1", "m2", "train"),
]
IMAGES = "abcdefghijklmnoqrs"
#             a    b    c    d    e    f    g   h    i    j    k    l    m    n    o    q    r    s
SCORES: dict[str, list[float | None]] = {
    "v": [2.0, 1.0, 3.0, 1.0, 2.0, 1.0, 5.0, 5.0, 4.0, 6.0, 1.0, 2.0, 1.0, 3.0, 1.5, 0.0, 1.0, 0.5],
    "w": [0.1, 0.3, 0.2, 0.5, 0.5, 0.1, 0.7, 0.7, NAN, 0.9, 0.3, 0.4, 0.2, 0.8, 0.1, 0.3, 0.9, 0.2],
    "y": [30.0, 10.0, 20.0, 15.0, 10.0, 30.0, 20.0, 20.0, 10.0, 10.0, 5.0, 10.0, 30.0, 9.0, 40.0, 30.0, 20.0, 10.0],
    "z": [1.0, 0.5, 2.0, 1.0, 1.0, 3.0, 2.0, 2.0, 1.0, None, 3.0, 2.0, 2.5, 4.0, 2.0, 1.0, 3.0, 0.0],
}
FOUR = ("v", "w", "y", "z")
DECIDED = ("filter", {"drop": ("ties", "unlabelled")})
SHOWN = ("reveal", {"fraction": 0.6, "seed": 3})
TRUST = ("pseudo_label", {"from_": ("v",), "calibrate": "platt", "folds": 3})

RECIPES: list[list[tuple[str, dict[str, Any]]]] = [
    [("single", {"annotator": "human"})],
    [("single", {"annotator": "w"})],
    [DECIDED, ("single", {"annotator": "human"})],
    [("filter", {"models": ("m1", "m2")}), ("single", {"annotator": "human"})],
    [("filter", {"users": ("u1", "u4"), "splits": ("train",)}), ("single", {"annotator": "human"})],
    [("filter", {"margin": {"v": 1.0, "y": 10.0}}), ("single", {"annotator": "v"})],
    [("filter", {"agreement": 0.75, "among": ("human", *FOUR)}), ("single", {"annotator": "y"})],
    *([("vote", {"voters": FOUR, "ties": ties})] for ties in ("human", "drop", "prior:y", "prior:w", "margin")),
    [("vote", {"voters": ("human", *FOUR), "ties": "margin"})],
    [("vote", {"voters": ("human", "v", "y"), "weights": {"human": 2.0, "v": 0.5}, "ties": "drop"})],
    [("vote", {"voters": FOUR, "epsilon": {"v": 1.0, "z": 0.5}, "ties": "human"})],
    [("aggregate", {"of": FOUR, "how": "sum"})],
    [("aggregate", {"of": FOUR, "how": "normalised_sum"})],
    [("aggregate", {"of": FOUR, "how": "random", "seed": 4})],
    [("soft", {"from_": ("v",), "calibrate": "platt", "folds": 3})],
    [("soft", {"from_": ("v", "y"), "calibrate": "isotonic", "folds": 2, "seed": 1})],
    [("soft", {"from_": ("z",), "calibrate": "logit"})],
    [SHOWN, TRUST, ("dedpo", {})],
    [SHOWN, ("pseudo_label", {"from_": ("z",), "calibrate": "isotonic", "folds": 3, "seed": 2}), ("dedpo", {})],
    [SHOWN, ("pseudo_label", {"from_": FOUR, "calibrate": "platt", "folds": 3}), ("dedpo", {})],
    [SHOWN, ("pseudo_label", {"from_": ("v", "y"), "calibrate": "none"}), ("mix", {})],
    [SHOWN, TRUST, ("mix", {})],
    [("oracle", {"accuracy": 0.75, "seed": 4}), SHOWN, ("dedpo", {})],
    [("oracle", {"accuracy": 0.6, "calibrated": True}), SHOWN, ("mix", {})],
    [("single", {"annotator": "human"}), ("flip", {"rate": 0.4, "seed": 2})],
    [("flip", {"rate": 0.5, "seed": 1}), ("vote", {"voters": ("human", "v"), "ties": "drop"})],
    [SHOWN, TRUST, ("dedpo", {}), ("flip", {"rate": 0.5, "seed": 9})],
    *(
        [("single", {"annotator": "human"}), ("flip", {"rate": 0.3, "seed": 5, "stratify": by})]
        for by in ("prompt", "user", "models", "label")
    ),
    [("single", {"annotator": "v"}), ("weight", {"by": "prompt"})],
    [("single", {"annotator": "v"}), ("weight", {"by": "prompt", "normalise": True})],
    [("vote", {"voters": FOUR, "ties": "human"}), ("weight", {"by": "confidence"}), ("weight", {"by": "prompt"})],
    [("soft", {"from_": ("v",), "calibrate": "platt", "folds": 3}), ("weight", {"by": "confidence"})],
    *(
        [("single", {"annotator": "human"}), ("balance", {"by": by, "seed": 6})]
        for by in ("label", "prompt", "user", "models")
    ),
    [("single", {"annotator": "v"}), ("balance", {"by": "prompt", "at_most": 2, "seed": 1})],
    [("subsample", {"fraction": 0.5, "seed": 8}), ("single", {"annotator": "v"})],
    [("single", {"annotator": "human"}), ("subsample", {"pairs": 4, "seed": 8})],
    [("split", {"fold": 1, "folds": 3}), ("single", {"annotator": "human"})],
    [("split", {"fold": 1, "folds": 3, "keep": "fold"}), ("single", {"annotator": "v"})],
]


def ids(step: str) -> list[str]:
    """Ids as long as real ones."""
    return [f"{step}{i:015x}" for i in range(len(PAIRS))]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Dataset, Mapping[str, Dataset]]:
    """PAIRS and SCORES as datasets; `z` scores images alone, the others (image, prompt)."""
    store = str(tmp_path_factory.mktemp("store"))
    w = writer(store, "ingest", 1, {"golden": 1})
    names = ("prompt", "image_0", "image_1", "label_0", "user_id", "model_0", "model_1", "split")
    rows = [dict(zip(names, pair, strict=True)) for pair in PAIRS]
    for row, pair_id in zip(rows, ids("c"), strict=True):
        row |= {"pair_id": pair_id, "prompt_id": plain_prompt(row["prompt"]), "created_at": None}
    pairs = w.commit([w.write_table("pairs/part-00000.parquet", pa.Table.from_pylist(rows, schema=schemas.PAIRS))])
    prompt_of = {image: pair[0] for pair in PAIRS for image in pair[1:3]}
    datasets = {
        name: scores(
            store,
            name,
            {
                (image, None if name == "z" else prompt_of[image]): value
                for image, value in zip(IMAGES, values, strict=True)
                if value is not None
            },
        )
        for name, values in SCORES.items()
    }
    return store, pairs, datasets


def plain_prompt(prompt: str) -> str:
    from pipeline_lib.core.digest import text_id

    return text_id(prompt)


def plain_rows() -> list[plain.Row]:
    value = {name: dict(zip(IMAGES, values, strict=True)) for name, values in SCORES.items()}

    def difference(name: str, first: str, second: str) -> float | None:
        pair = value[name][first], value[name][second]
        if any(score is None or math.isnan(score) for score in pair):
            return None
        # Scores are stored as 32-bit floats.
        return float(pa.scalar(pair[0], pa.float32()).as_py()) - float(pa.scalar(pair[1], pa.float32()).as_py())

    return [
        {
            "pair_id": pair_id,
            "prompt_id": plain_prompt(prompt),
            "image_0": first,
            "image_1": second,
            "human": human,
            "user_id": user,
            "model_0": model_0 or "",
            "model_1": model_1 or "",
            "split": split,
            "d": {name: difference(name, first, second) for name in SCORES},
        }
        for pair_id, (prompt, first, second, human, user, model_0, model_1, split) in zip(ids("c"), PAIRS, strict=True)
    ]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: " ".join(name for name, _ in recipe))
def test_step_is_its_plain_definition(
    recipe: list[tuple[str, dict[str, Any]]], world: tuple[str, Dataset, Mapping[str, Dataset]]
) -> None:
    store, pairs, datasets = world
    written = [{name: {key.rstrip("_"): value for key, value in options.items()}} for name, options in recipe]
    scorers = required_scorers(written)
    expected, dropped = plain.run(plain_rows(), recipe, scorers)
    assert expected, "a recipe that keeps nothing tests nothing"
    labels = build_labels(store, written, pairs, datasets)
    found = labels.scan().collect().to_dicts()
    assert [row["pair_id"] for row in found] == [row["pair_id"] for row in expected]
    for mine, wanted in zip(found, expected, strict=True):
        for name in ("target", "human", "g_hat", "vote_sum", "weight"):
            assert mine[name] == (wanted[name] if wanted[name] is None else pytest.approx(wanted[name], abs=2e-6)), (
                name
            )
        for name in ("is_human", "source", "flipped"):
            assert mine[name] == wanted[name], name
    counted = {name.removeprefix("dropped:"): n for name, n in labels.counts.items() if name.startswith("dropped:")}
    assert counted == dict(dropped)
    assert labels.counts["pairs"] == len(PAIRS) == labels.counts["kept"] + sum(counted.values())


def test_every_step_is_tested_here() -> None:
    assert {name for recipe in RECIPES for name, _ in recipe} == set(STEPS) == set(plain.STEPS)


def test_the_hand_made_world_has_the_hard_cases() -> None:
    rows = [row for row in plain_rows() if all(d is not None for d in row["d"].values())]
    sums = [sum(plain.sign(d) for d in row["d"].values()) for row in rows]
    split = [row for row, total in zip(rows, sums, strict=True) if total == 0 and any(row["d"].values())]
    assert sum(sorted(map(plain.sign, row["d"].values())) == [-1, -1, 1, 1] for row in split) >= 3
    assert any(not any(row["d"].values()) for row in rows)
    assert {row["human"] for row in split} >= {1.0, 0.0, None}


def test_keys_are_the_plain_ones() -> None:
    from pipeline_lib.labels.chance import keys

    texts = ["", "p", "0123456789abcdef", "ünïcode"]
    assert keys(pl.Series(texts), 7, "flip").tolist() == [plain.key(text, 7, "flip") for text in texts]
