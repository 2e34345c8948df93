"""The lean UNet: the stock one's numbers with less kept, nothing expensive computed twice, and shared text."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline_lib.models.lean import make_lean
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
    lean = copy.deepcopy(stock)
    assert make_lean(lean)
    return stock, lean, request.param


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
    stock, lean, a = unets
    assert all(torch.equal(x, y) for x, y in zip(run(stock, a), run(lean, a), strict=True))
    assert list(stock.state_dict()) == list(lean.state_dict())


def test_shared_text_is_repeated_text(unets: tuple[Any, Any, Architecture]) -> None:
    stock, lean, a = unets
    for expected, found in zip(run(stock, a), run(lean, a, PAIRS), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_text_that_is_not_for_attention_alone_is_not_shared() -> None:
    settings = {"addition_embed_type": "text", "addition_embed_type_num_heads": 2}
    a = Architecture(64, {**SD.unet, **settings}, SD.vae, SD.text, groups=4)
    assert not make_lean(train_models.unet(a))


class Calls(TorchDispatchMode):
    """Counts what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count[func.overloadpacket.__name__] += 1
        return func(*args, **kwargs or {})


def test_no_convolution_or_matrix_product_runs_twice(unets: tuple[Any, Any, Architecture]) -> None:
    counts = []
    for unet in unets[:2]:
        with Calls() as calls:
            run(unet, unets[2])
        counts.append(calls.count)
    for name in ("convolution", "convolution_backward", "addmm", "mm"):
        assert counts[0][name] == counts[1][name] > 0
    assert counts[1]["silu"] > counts[0]["silu"]  # this is computed again


def kept(unet: Any, a: Architecture) -> int:
    """Bytes kept for the backward pass, without parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in unet.parameters()}
    sizes: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        text = torch.randn(2, 77, a.context)
        found = unet(torch.randn(2, 4, 8, 8), torch.tensor([3, 700]), text, added_cond_kwargs=train_models.added(a, 2))
    assert found.sample.requires_grad
    return sum(size for pointer, size in sizes.items() if pointer not in own)


def test_keeps_less(unets: tuple[Any, Any, Architecture]) -> None:
    stock, lean, a = unets
    assert kept(lean, a) < 0.8 * kept(stock, a)
