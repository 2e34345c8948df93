"""The benchmark's own figures: FLOPs, shares, the list of pairs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipeline_lib.scoring.blip import Blip, VisionShape
from tests.bench.score import SESSION, write_pairs
from tests.bench.score_models import FULL, REDUCED


def test_the_reduced_architectures_keep_the_shares() -> None:
    full, reduced = FULL.flops(), REDUCED.flops()
    for name, value in full.items():
        assert reduced[name] / sum(reduced.values()) == pytest.approx(value / sum(full.values()), abs=0.01)
    assert 2 * FULL.huge.flops() / sum(full.values()) > 0.6


def test_flops_are_those_that_torch_counts() -> None:
    vision, bert = REDUCED.blip, REDUCED.bert
    med = {
        "hidden_size": bert.width,
        "intermediate_size": 4 * bert.width,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 64,
        "num_attention_heads": bert.width // bert.head,
        "num_hidden_layers": bert.layers,
        "vocab_size": 60,
    }
    blip = Blip(VisionShape(vision.width, vision.patch, vision.tokens, vision.layers, 4 * vision.width), med).eval()
    tokens = torch.zeros(1, bert.tokens, dtype=torch.long)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as counted:
            seen = blip.visual_encoder(torch.zeros(1, 3, 224, 224))
        assert counted.get_total_flops() == pytest.approx(vision.flops(), rel=1e-3)
        with FlopCounterMode(display=False) as counted:
            blip.text_encoder(tokens, tokens == 0, seen)
        assert counted.get_total_flops() == pytest.approx(bert.flops(), rel=1e-3)


def test_an_image_stands_in_1_8_pairs(tmp_path: Path) -> None:
    write_pairs(tmp_path, [bytes([i]) for i in range(3 * SESSION)])
    pairs = pl.read_parquet(tmp_path / "*.parquet")
    shown = Counter(pairs["image_0_uid"].to_list() + pairs["image_1_uid"].to_list())
    assert len(shown) == 3 * SESSION
    assert shown.total() / len(shown) == 1.8
    assert pairs["caption"].n_unique() == 3
    assert max(shown.values()) > 2, "some winners stay for several rounds"
