"""A UNet whose images share texts: the numbers of the stock one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from pipeline_lib.models.shared_text import share_text
from tests.bench import train_models
from tests.bench.train_models import Architecture

SD = Architecture(
    64, {"block_out_channels": (8, 16, 16, 16), "attention_head_dim": 4}, (8,) * 4, ((16, 1, 2),), groups=4
)
SDXL_UNET = {
    "block_out_channels": (8, 16, 16),
    "attention_head_dim": [2, 4, 4],
    "transformer_layers_per_block": [1, 1, 2],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 8 + 6 * 8,
}
SDXL = Architecture(
    64,
    SDXL_UNET,
    (8,) * 4,
    ((8, 1, 2), (8, 1, 2)),
    groups=4,
    down=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
)
PAIRS = 2


@pytest.fixture(params=[SD, SDXL], ids=["sd", "sdxl"])
def unets(request: pytest.FixtureRequest) -> tuple[Any, Any, Architecture]:
    torch.manual_seed(0)
    stock = train_models.unet(request.param)
    shared = copy.deepcopy(stock)
    assert share_text(shared)
    return stock, shared, request.param


def run(unet: Any, a: Architecture, texts: int = 2 * PAIRS) -> list[torch.Tensor]:
    """Prediction, and gradients of a sum that weighs its elements differently."""
    draw = torch.Generator().manual_seed(1)
    noisy = torch.randn(2 * PAIRS, 4, 8, 8, generator=draw)
    weight = torch.randn(2 * PAIRS, 4, 8, 8, generator=draw)
    text = torch.randn(PAIRS, 77, a.context, generator=draw).repeat(2, 1, 1)[:texts]
    timesteps = torch.tensor([3, 700]).repeat(2)
    found = unet(noisy, timesteps, text, added_cond_kwargs=train_models.added(a, 2 * PAIRS)).sample
    unet.zero_grad()
    (found * weight).sum().backward()
    return [found.detach(), *(parameter.grad for parameter in unet.parameters())]


def test_numbers_are_the_stock_ones(unets: tuple[Any, Any, Architecture]) -> None:
    stock, shared, a = unets
    assert all(torch.equal(x, y) for x, y in zip(run(stock, a), run(shared, a), strict=True))
    assert list(stock.state_dict()) == list(shared.state_dict())


def test_shared_text_is_repeated_text(unets: tuple[Any, Any, Architecture]) -> None:
    stock, shared, a = unets
    for expected, found in zip(run(stock, a), run(shared, a, PAIRS), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_text_that_is_not_for_attention_alone_is_not_shared() -> None:
    settings = {"addition_embed_type": "text", "addition_embed_type_num_heads": 2}
    a = Architecture(64, {**SD.unet, **settings}, SD.vae, SD.text, groups=4)
    assert not share_text(train_models.unet(a))
