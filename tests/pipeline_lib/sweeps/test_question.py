"""What a sweep asks, from a flow's parameters or from a claim, and what is refused before anything runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline_lib.core.errors import ConfigError, UnknownNameError
from pipeline_lib.presets import preset
from pipeline_lib.sweeps.claim_files import read
from pipeline_lib.sweeps.question import Question, ask

JUDGING = preset("shapes").evaluate
SETTINGS = {"low": {"beta": 250}, "high": {"beta": 500}}
CLAIM = read(
    "made-up",
    """
title: Beta matters
sources: ["Nobody, 2026"]
says: It does.
miniature: Nothing.
sweep:
  seeds: [0, 1, 2, 3]
  common: {method: dpo}
  settings: {low: {beta: 250}, high: {beta: 500}}
  reference: low
  measures: [train/loss]
findings:
  matters: {says: High wins, contrasts: [{measure: win/quality, of: {high: 1, low: -1}, above: 0.0}]}
""",
)


def asked(truth: bool = True, judging: Any = JUDGING, **given: Any) -> Question:
    given = given if given.get("claim") else {"settings": SETTINGS, "common": {"method": "dpo"}, **given}
    return ask("shapes", judging, ("clip", "hpsv2"), truth, **given)


def test_without_measures_every_judge_is_asked() -> None:
    found = asked(truth=False)
    judges = ("clip", "hpsv2", "average", "quality")
    assert found.measures == tuple(f"{kind}/{judge}" for kind in ("win", "gain") for judge in judges)
    assert {"win/true", "gain/true"} <= set(asked().measures)
    assert (found.seeds, found.reference, len(found.cells)) == ((0, 1, 2), None, 6)
    assert asked(measures=["win/clip", "train/loss"]).measures == ("win/clip", "train/loss")


def test_a_claim_gives_settings_seeds_and_measures_which_may_only_be_added_to() -> None:
    found = asked(claim=CLAIM, measures=["labels/tied"])
    assert (found.seeds, found.reference) == ((0, 1, 2, 3), "low")
    assert found.measures[:4] == ("win/quality", "train/loss", "labels/tied", "win/clip")
    assert (found.title, found.headline) == ("Beta matters", ("win/quality", "train/loss"))
    assert asked(claim=CLAIM, seeds=[5, 6, 7]).seeds == (5, 6, 7)
    shorter = asked(claim=CLAIM, common={"steps": 3, "method": "dedpo"})
    assert [dict(s.parameters) for s in shorter.settings] == [{"steps": 3, **s.parameters} for s in found.settings]
    assert shorter.settings[0].method == "dpo", "the claim's own comes first"
    for own in ({"settings": SETTINGS}, {"grid": {"beta": [1]}}):
        with pytest.raises(ConfigError, match=f"{next(iter(own))} cannot change them"):
            asked(claim=CLAIM, **own)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"seeds": [0]}, ConfigError, "Give 2 or more"),
        ({"claim": CLAIM, "seeds": [0, 1]}, ConfigError, "Give 3 or more"),
        ({"claim": replace(CLAIM, presets=("sd15",))}, ConfigError, "cannot be tested on shapes"),
        ({"seeds": [1, 1]}, ConfigError, "each once"),
        ({"reference": "lower"}, UnknownNameError, "'low'"),
        ({"measures": ["win/clap"]}, UnknownNameError, "'clip'"),
        ({"measures": ["win/pickscore"]}, UnknownNameError, "pickscore"),
        ({"measures": ["wins/clip"]}, UnknownNameError, "wins/clip"),
        ({"measures": ["win/true"], "truth": False}, UnknownNameError, "win/true"),
        ({"measures": ["diversity"]}, ConfigError, "two image seeds"),
    ],
)
def test_wrong_questions_are_refused(given: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        asked(**given)


def test_two_image_seeds_allow_diversity() -> None:
    found = asked(judging=replace(JUDGING, seeds=(0, 1)), measures=["diversity"])
    assert [measure.name for measure in found.wants("diversity")] == ["diversity"]


def test_the_key_is_that_of_the_question() -> None:
    other = [
        asked(seeds=[0, 1]),
        asked(reference="low"),
        asked(measures=["win/clip"]),
        asked(judging=replace(JUDGING, num_prompts=4)),
        asked(common={"method": "dpo", "steps": 3}),
        asked(claim=CLAIM),
    ]
    assert asked().key == asked().key
    assert len({asked().key, *(question.key for question in other)}) == len(other) + 1
