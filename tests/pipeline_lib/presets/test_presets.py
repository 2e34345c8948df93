"""The presets of real base models carry the papers' hyper-parameters."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_lib.presets import METHODS, alignment, preset
from pipeline_lib.training.methods import check_config

SD = ("sd15", "sd21")
# Diffusion-DPO's launchers; BalancedDPO, "Method Summary"; DeDPO by a summary of its text; Adaptive-DPO's launcher
# (beta 1000 and 2500, no half). Rates as they act: 1e-8 x 2048; 1e-8 x 128; 1e-7, 2e-8 x 128; Adaptive-DPO's as given.
DPO = {"adapter": "full", "beta": 5000, "steps": 2000, "learning_rate": 2.048e-5, "prompt_dropout": 0.2}
BALANCED = {"beta": 5000, "steps": 2000, "learning_rate": 1.28e-6, "reference_refresh": 100, "warmup_steps": 0}
DEDPO = {"adapter": "full", "beta": 5000, "warmup_steps": 0, "prompt_dropout": 0.2, "reference_refresh": 0}
AUTHORS = {"stability": "authors", "margin_offset": "authors"}
ADAPTIVE = {"adapter": "lora", "lora_rank": 8, "steps": 12_000, "learning_rate": 1e-5, "rho": 15, **AUTHORS}
PAPERS: list[tuple[str, str, int, dict[str, Any]]] = [
    *((name, "dpo", 2048, {**DPO, "warmup_steps": 500, "optimizer": "adamw"}) for name in SD),
    ("sdxl", "dpo", 2048, {**DPO, "warmup_steps": 200, "optimizer": "adafactor"}),
    *((name, "balanced", 128, BALANCED) for name in (*SD, "sdxl")),
    *((name, "dedpo", 128, {**DEDPO, "learning_rate": 1.28e-5, "steps": 1000, "optimizer": "adamw"}) for name in SD),
    ("sdxl", "dedpo", 128, {**DEDPO, "learning_rate": 2.56e-6, "steps": 100, "optimizer": "adafactor"}),
    *((name, "adaptive", 128, {**ADAPTIVE, "beta": 2000, "k1": 10}) for name in SD),
    ("sdxl", "adaptive", 128, {**ADAPTIVE, "beta": 5000, "k1": 1}),
]


@pytest.mark.parametrize(("name", "method", "batch", "values"), PAPERS)
def test_hyper_parameters_are_the_papers(name: str, method: str, batch: int, values: dict[str, Any]) -> None:
    config = alignment(name, method).train
    assert config.batch_size * config.gradient_accumulation == batch
    assert {field: getattr(config, field) for field in values} == values
    assert (config.weight_decay, config.schedule, config.max_grad_norm) == (1e-2, "constant", 1.0)


def test_every_method_of_every_preset_can_be_trained() -> None:
    for name in ("shapes", *SD, "sdxl"):
        for method in METHODS:
            check_config(alignment(name, method).train)
    assert {alignment("sdxl", method).labels for method in METHODS} == {"human", "balanced", "dedpo25"}


def test_sizes_are_those_of_the_base_models() -> None:
    sizes = {name: (preset(name).encode.resolution, preset(name).evaluate.resolution) for name in (*SD, "sdxl")}
    assert sizes == {"sd15": (512, 512), "sd21": (768, 768), "sdxl": (1024, 1024)}
