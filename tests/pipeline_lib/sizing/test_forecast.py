"""What a training run says before it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline_lib.core.config import BaseModel
from pipeline_lib.presets import METHODS, alignment, preset
from pipeline_lib.sizing.data import PICKAPIC_V2
from pipeline_lib.sizing.forecast import MANY_EPOCHS, forecast, known_base
from pipeline_lib.sizing.rates import DEFAULT_TERAFLOPS, PRICE
from pipeline_lib.sizing.table import Machine, stages

SD15 = preset("sd15").base
DPO = alignment("sd15", "dpo").train
KEPT_OF_PICKAPIC = 851_293
"""Pairs without ties (arXiv 2311.12908)."""


def test_a_preset_made_for_a_million_pairs_warns_on_five_thousand() -> None:
    found = forecast(SD15, DPO, 5000)
    assert found.epochs == pytest.approx(2000 * 2048 / 5000)
    assert found.words() == (
        "2,000 steps of 2,048 pairs see the 5,000 labels 819 times (819 epochs). By estimate 609 GPU hours, which "
        "cost 1,523 at 2.5 an hour, on GPUs that sustain 15 TFLOP/s (docs/cost.md; no GPU was timed)."
    )
    page = (Path(__file__).resolve().parents[3] / "docs" / "cost.md").read_text("utf-8").replace("\n> ", " ")
    assert found.words() in page
    words = found.warning()
    assert words and words.startswith("The run sees each of its 5,000 labels 819 times") and "steps=122" in words
    assert forecast(SD15, replace(DPO, steps=122), 5000).warning() is None, "the remedy is one"


@pytest.mark.parametrize("name", ["sd15", "sd21", "sdxl"])
@pytest.mark.parametrize("method", METHODS)
def test_no_preset_warns_on_the_data_it_is_made_for(name: str, method: str) -> None:
    """And the hours are those of the table of all stages."""
    found = forecast(preset(name).base, alignment(name, method).train, KEPT_OF_PICKAPIC)
    assert found.warning() is None and found.epochs < MANY_EPOCHS / 10
    machine = Machine(flops_per_second=DEFAULT_TERAFLOPS * 1e12, price=PRICE, rates={})
    (row,) = (row for row in stages(name, method, PICKAPIC_V2, machine) if row.name == "train")
    assert found.seconds == pytest.approx(3600 * row.hours)


@pytest.mark.parametrize("method", METHODS)
def test_the_built_in_world_says_seconds_of_a_cpu(method: str) -> None:
    found = forecast(preset("shapes").base, alignment("shapes", method).train, 5411, 32)
    assert not found.on_gpu and found.warning() is None
    assert found.seconds == pytest.approx(4800 / 44 * (6 if method == "adaptive" else 4) / 4), (
        "annotators are passes, too"
    )
    assert "0.89 epochs" in found.words() and "of a CPU core" in found.words() and "GPU" not in found.words()


def test_a_base_of_unknown_size_gets_no_figure() -> None:
    other = BaseModel(family="sd", repo="someone/model")
    found = forecast(other, DPO, 5000)
    assert found.seconds is None and "not known beforehand" in found.words() and found.warning()
    assert known_base(replace(other, family="sdxl")) == "sdxl"
    assert known_base(replace(SD15, mirror="/mirror")) == "sd15"


def test_half_the_side_is_a_quarter_of_the_work() -> None:
    whole, half = forecast(SD15, DPO, 5000), forecast(SD15, DPO, 5000, 256)
    assert whole.seconds and half.seconds == pytest.approx(whole.seconds / 4)
    assert forecast(SD15, DPO, 5000, 512) == whole
