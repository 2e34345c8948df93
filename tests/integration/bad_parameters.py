"""Parameters that no run should have, drawn with a seed: what people mistype, and what only a script would send."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

FLOATS = (
    "1e400",
    "-1e400",
    "NaN",
    "Infinity",
    "-Infinity",
    "0",
    "-1",
    "1e12",
    '"fast"',
    "true",
    "[0.1]",
    '{"times": 2}',
)
WHOLE = (
    "1" + "0" * 30,
    str(2**63),
    str(2**64),
    "-1",
    "-" + "9" * 25,
    "1.5",
    "1e400",
    "NaN",
    '"many"',
    "false",
    "[3]",
    "{}",
)
TEXTS = ('"a\\u0000b"', '"\\ud800"', '"x\\udfffy"', "7", "[]", "{}", "true", json.dumps("x" * 5000))
PATHS = (
    '"../pairs"',
    '"/data/../etc"',
    '"s3://bucket/../other"',
    '"file:///data/.."',
    '"s3://key:secret@bucket/pairs"',
    *TEXTS,
)
STEPS = ("steps", "limit", "processes")
RATES = ("learning_rate", "beta")
LOCATIONS = ("source", "weights", "base", "store")
NAMED = ("preset", "adapter", "sharding")
DEEP = ("[" * 60 + "]" * 60, '{"a":' * 60 + "1" + "}" * 60, "[" * 300 + "]" * 300)
_LEVELS = [f"{n}: &{n} [{', '.join(['*' + m] * 9)}]" for m, n in zip("abcdefg", "bcdefgh", strict=True)]
BOMB = "\\n".join(["a: &a [x, x, x, x, x, x, x, x, x]", *_LEVELS])
RECIPES = (
    '"balancd"',
    '"- {flip: 2}"',
    '"- {vote: [human, clipp]}"',
    '"- {vote: [human"',
    '"- {flip: {rate: .nan}}"',
    '"- 2001-99-99"',
    f'"{BOMB}"',
    '"' + "[" * 3000 + '"',
    '"- {flip: ' + "9" * 5000 + '}"',
    "[]",
    "[7]",
    "[{}]",
    "[null]",
    '[{"flip": 1e400}]',
    '[{"flip": {"rate": 0.1, "seed": 1' + "0" * 30 + "}}]",
    '[{"vote": ["human", "\\ud800"]}]',
    '[{"vote": ["human", "clip"], "ties": "toss"}]',
    '[{"votte": ["human", "clip"]}]',
    '[{"single": "human"}, {"single": "clip"}]',
    '[{"subsample": {"pairs": -4}}, {"single": "human"}]',
    '{"single": "human"}',
    *(f'[{{"vote": {deep}}}]' for deep in DEEP),
)
SETTINGS = (
    '{"beeta": 500}',
    '{"method": "ipoo"}',
    '{"optimizer": "lion"}',
    '{"flip": 2}',
    '{"flip": "often"}',
    '{"timestep_range": [1]}',
    '{"timestep_range": [900, 100]}',
    '{"batch_size": 0}',
    '{"weight_decay": -1}',
    '{"max_grad_norm": 1e400}',
    '{"learning_rate": NaN}',
    '{"seed": -3}',
    '{"seed": 1' + "0" * 30 + "}",
    '{"lora_targets": ["a\\u0000"], "lora_rank": 0}',
    '{"\\ud800": 1}',
    '{"reference_refresh": 1e9}',
    '{"config": {}}',
    '{"milestones": [0]}',
    '["flip"]',
    '"flip"',
    *(f'{{"milestones": {deep}}}' for deep in DEEP),
)
ABSENT = ('"/no/such/folder"', '"no-such-thing"', '"~nobody-here/x"', json.dumps("y" * 300))
"""Of the form of a path, and nothing there."""
GIVEN = ("pairs", "labels", "encoded", "weights", "base")
"""Parameters of training flows that name what must be there."""


def _one(name: str, values: tuple[str, ...], draw: random.Random) -> str:
    return f'{{"{name}": {draw.choice(values)}}}'


KINDS: dict[str, Callable[[random.Random], str]] = {
    "whole numbers": lambda draw: _one(draw.choice(STEPS), WHOLE, draw),
    "seeds": lambda draw: _one("seed", WHOLE, draw),
    "rates": lambda draw: _one(draw.choice(RATES), FLOATS, draw),
    "texts": lambda draw: _one("split", TEXTS, draw),
    "paths": lambda draw: _one(draw.choice(LOCATIONS), PATHS, draw),
    "choices": lambda draw: _one(draw.choice(NAMED), ('"sdx1"', "3", "[]", '""', '"Lora"'), draw),
    "recipes": lambda draw: _one("recipe", RECIPES, draw),
    "settings": lambda draw: _one("train", SETTINGS, draw),
    "absent": lambda draw: _one(draw.choice(GIVEN), ABSENT, draw),
    "scores": lambda draw: f'{{"scores": {{"clip": {draw.choice((*PATHS, *ABSENT))}}}}}',
    "unknown": lambda draw: f'{{"stepps": {draw.choice((*WHOLE, *DEEP))}}}',
}


def drawn(count: int, seed: int) -> list[tuple[str, str]]:
    """(kind, parameters as JSON text) of a training flow's runs, every kind as often."""
    draw, kinds = random.Random(seed), list(KINDS)
    return [(kind, KINDS[kind](draw)) for kind in (kinds[i % len(kinds)] for i in range(count))]
