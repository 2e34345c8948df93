"""Settings of a training run from a form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows import align, train
from pipeline_lib.core.errors import ConfigError, PipelineError
from pipeline_lib.presets import METHODS, PRESETS, alignment
from tasks.training_settings import training_config


def test_presets_pass_unchanged() -> None:
    for name in PRESETS:
        for method in METHODS:
            assert training_config(name, method) == alignment(name, method).train


def test_every_field_can_be_set_and_the_form_s_own_fields_win() -> None:
    settings = {"compile": True, "timestep_range": [0, 499], "lora_targets": ["to_q"], "steps": 5, "method": "ipo"}
    found = training_config("shapes", "dpo", settings, steps=7, beta=None)
    assert (found.compile, found.timestep_range, found.lora_targets) == (True, (0, 499), ("to_q",))
    assert (found.steps, found.beta, found.method) == (7, alignment("shapes", "dpo").train.beta, "ipo")


def test_conventions_of_adaptive_dpo_can_be_set() -> None:
    preset = alignment("shapes", "adaptive").train
    for settings in ({"stability": "variance"}, {"stability": "authors", "margin_offset": "authors"}):
        assert training_config("shapes", "adaptive", settings) == replace(preset, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stability": "author"}, "stability='author'.*'authors', 'variance' or 'unscaled'"),
        ({"margin_offset": 0}, "margin_offset=0.*'logits' or 'authors'"),
        ({"batch_size": 1}, r"batch_size is 1.*adaptive-dpo.*gradient_accumulation"),
    ],
)
def test_adaptive_settings_that_mean_nothing_end_a_flow_before_any_work(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    store = str(tmp_path / "store")
    with pytest.raises(PipelineError, match=f"(?s){message}"):
        train.train_adaptive.fn(train=settings, store=store)
    with pytest.raises(PipelineError, match=f"(?s){message}"):
        align.align.fn(method="adaptive", train=settings, store=store)
    assert not (tmp_path / "store").exists()


class Encoding(Exception):
    """Stands in for the encode flow."""


@pytest.mark.parametrize(("flip", "flipped"), [(0.5, True), (0.0, None)])
def test_a_run_with_flips_encodes_mirrored_images(
    flip: float, flipped: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(preset: str, **given: Any) -> None:
        raise Encoding(given["flipped"])

    monkeypatch.setattr(train, "encode_flow", encode)
    monkeypatch.setattr(train, "check_given", lambda **_: None)
    with pytest.raises(Encoding) as stopped:
        train.train_dpo.fn(train={"flip": flip}, pairs="pairs", labels="labels")
    assert stopped.value.args == (flipped,)


def test_what_shards_cannot_do_ends_the_flows_before_any_work(tmp_path: Path) -> None:
    settings = {"adapter": "lora"}
    for flow in (train.train_dpo, align.align):
        with pytest.raises(ConfigError, match=r"(?s)adapter='lora'.*adapter='full'"):
            flow.fn(train=settings, sharding="fsdp", store=str(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradient_acumulation": 2}, r"Did you mean 'gradient_accumulation'"),
        ({"optimizer": "lion"}, r"optimizer='lion'.*'adamw'.*'adafactor'"),
        ({"flip": "often"}, r"flip='often'.*valid number"),
        ({"timestep_range": [1]}, r"timestep_range\.1"),
        ({"method": "dpoo"}, r"Unknown method 'dpoo'"),
        ({"flip": 2}, r"flip is 2.*\[0, 1\]"),
        ({"reference_refresh": 10}, r"never refreshes"),
    ],
)
def test_wrong_settings_end_a_flow_before_any_work(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        training_config("shapes", "dpo", settings)
    store = str(tmp_path / "store")
    with pytest.raises(PipelineError, match=f"(?s){message}"):
        train.train_dpo.fn(train=settings, store=store)
    with pytest.raises(PipelineError, match=f"(?s){message}"):
        align.align.fn(method="dpo", train=settings, store=store)
    assert not (tmp_path / "store").exists()
