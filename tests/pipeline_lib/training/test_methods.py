"""A method asked for what it cannot do fails before training, and says what would work."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.errors import ConfigError, LabelError, UnknownNameError
from pipeline_lib.training.methods import METHODS, check_config, check_labels, load_loss


def config(method: str, **changes: Any) -> TrainConfig:
    needs: dict[str, Any] = {
        "balanced-dpo": {"reference_refresh": 10},
        "robust-dpo": {"flip_rate": 0.2},
        "conservative-dpo": {"flip_rate": 0.2},
    }
    return TrainConfig(method=method, **{**needs.get(method, {}), **changes})


def frame(**columns: list[Any]) -> pl.DataFrame:
    plain = {"target": [1.0, 0.0], "is_human": [True, False], "human": [1.0, None], "g_hat": [0.7, 0.2]}
    types = {"target": pl.Float32, "is_human": pl.Boolean, "human": pl.Float32, "g_hat": pl.Float32}
    return pl.DataFrame({**plain, **columns}, schema=types)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_loss_and_accepts_good_labels(name: str) -> None:
    check_config(config(name))
    assert callable(load_loss(name))
    check_labels(config(name), frame())


def test_unknown_method_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="balanced-dpo"):
        check_config(config("balance-dpo"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "balanced-dpo", "reference_refresh": 0}, "reference_refresh"),
        ({"method": "diffusion-dpo", "reference_refresh": 5}, "balanced-dpo"),
        ({"method": "robust-dpo", "flip_rate": 0.5}, "flip_rate"),
        ({"method": "diffusion-dpo", "flip_rate": 0.1}, "flip_rate"),
        ({"method": "adaptive-dpo", "ema_decays": ()}, "at least one decay"),
        *(
            (
                {"method": f"adaptive-{kind}", "batch_size": 1, "gradient_accumulation": 128},
                r"(?s)batch_size is 1.*Set batch_size to 2 or more.*gradient_accumulation \(64 with batch_size 2\)",
            )
            for kind in ("dpo", "ipo")
        ),
        ({"method": "adaptive-dpo", "stability": "author"}, "'author'.*'authors', 'variance' or 'unscaled'"),
        ({"method": "adaptive-dpo", "margin_offset": "mean"}, "'mean'.*'logits' or 'authors'"),
        ({"method": "diffusion-dpo", "steps": 0}, "steps"),
        ({"method": "diffusion-dpo", "beta": 0.0}, "beta"),
        ({"method": "diffusion-dpo", "prompt_dropout": 1.0}, "prompt_dropout"),
        ({"method": "diffusion-dpo", "warmup_steps": 9, "steps": 5}, "warmup_steps"),
    ],
)
def test_settings_that_cannot_do_what_they_say(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_config(config(**changes))


@pytest.mark.parametrize(
    ("method", "columns", "words"),
    [
        ("adaptive-dpo", {"target": [0.5, 1.0]}, r"(?s)1 of 2 .*recipe .human.*filter: ties"),
        ("dedpo", {"g_hat": [0.5, None]}, r"(?s)1 of 2 have none.*recipe 'dedpo25'"),
        ("dedpo", {"is_human": [False, False]}, r"(?s)0 pairs are human.*'dedpo25'"),
        ("dedpo", {"human": [None, None]}, r"(?s)1 without label.*'dedpo25'"),
        ("diffusion-dpo", {"target": [1.5, 0.0]}, r"(?s)1 of 2 targets"),
        ("diffusion-dpo", {"target": [float("nan"), 0.0]}, r"(?s)1 of 2 targets"),
        ("balanced-dpo", {"target": [0.5, 0.5]}, r"(?s)tie.*recipe 'balanced'"),
    ],
)
def test_labels_that_a_method_cannot_use(method: str, columns: dict[str, list[Any]], words: str) -> None:
    with pytest.raises(LabelError, match=words):
        check_labels(config(method), frame(**columns))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_single_pairs_are_refused_only_where_statistics_are_over_pairs(method: str) -> None:
    single = config(method, batch_size=1)
    if METHODS[method].annotators:
        with pytest.raises(ConfigError, match="batch_size is 1"):
            check_config(single)
    else:
        check_config(single)


def test_no_pairs() -> None:
    with pytest.raises(LabelError, match="no pairs"):
        check_labels(config("diffusion-dpo"), frame().clear())
