"""`lora_targets`: every name means layers of the base's UNet, or the run is refused with what is near."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows import align, train
from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.presets import preset
from pipeline_lib.training.policy import build_policy
from pipeline_lib.training.targets import check_targets

SHAPES = preset("shapes")
LORA = replace(SHAPES.methods["dpo"].train, adapter="lora")

GOOD: list[tuple[str, ...]] = [
    ("to_q",),
    ("attn2.to_k", "attn2.to_v"),
    ("to_out.0", "ff.net.0.proj", "ff.net.2"),
    ("conv1", "conv2"),
    ("mid_block.attentions.0.proj_in",),
    ("conv_in",),
]
WRONG: list[tuple[tuple[str, ...], str]] = [
    (("to_q", "to_kk"), r"Unknown layer in lora_targets 'to_kk'\. Did you mean .*'to_k'"),
    (("to_out0",), r"'to_out0'\. Did you mean .*'to_out\.0'"),
    (("TO_Q", "to_k"), "'TO_Q'"),
    (("to_q", "ff.net.1"), r"'ff\.net\.1'|a Dropout"),
    (("q",), "'q'"),
    (("unet.mid_block.attentions.0.proj_in",), "mid_block"),
    (("to_q ",), "'to_q '"),
    (("",), "''"),
    (("to_q", "attn1"), "'attn1' in lora_targets means .*attn1, a Attention: LoRA adapts linear layers"),
    (("norm1",), "a (GroupNorm|LayerNorm)"),
    (("resnets.0",), "a ResnetBlock2D"),
    ((), "lora_targets is empty"),
]


@pytest.mark.parametrize("targets", GOOD)
def test_each_name_of_a_layer_or_the_end_of_one_is_a_target(targets: tuple[str, ...]) -> None:
    check_targets(SHAPES.base, replace(LORA, lora_targets=targets))


@pytest.mark.parametrize(("targets", "words"), WRONG)
def test_a_name_that_means_nothing_or_no_such_layer_is_refused(targets: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_targets(SHAPES.base, replace(LORA, lora_targets=targets))


def test_what_trains_is_what_was_named() -> None:
    policy = build_policy(SHAPES.base, replace(LORA, lora_targets=("attn2.to_k", "conv_in")))
    layers = {name.split(".lora_")[0].rpartition("attn")[2] for name in policy.trainable}
    assert layers == {"2.to_k", "conv_in"}
    with pytest.raises(ConfigError, match="'to_kk'"):
        build_policy(SHAPES.base, replace(LORA, lora_targets=("to_q", "to_kk")))


def test_targets_of_a_full_training_are_not_asked_for() -> None:
    check_targets(SHAPES.base, TrainConfig(method="diffusion-dpo", adapter="full", lora_targets=("no",)))


def test_a_flow_ends_before_any_stage(tmp_path: Path) -> None:
    store, settings = str(tmp_path / "store"), {"lora_targets": ["to_q", "to_kk"], "adapter": "lora"}
    with pytest.raises(ConfigError, match="'to_kk'"):
        train.train_dpo.fn(train=settings, store=store)
    with pytest.raises(ConfigError, match="'to_kk'"):
        align.align.fn(method="dpo", train=settings, store=store)
    assert not (tmp_path / "store").exists()
