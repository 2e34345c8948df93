"""A UNet that works less and keeps less for its backward pass, with the same result.

- A convolution keeps its input for the gradient of its weight; the normalization and activation before it keep two
  more tensors of that size. They are cheap to compute again, so only what precedes them is kept; likewise the gate
  before a feed-forward layer's second matrix. The recomputation ends before the convolution or matrix product itself.
- Both images of a pair have the same text, so its keys and values are projected once per pair.
- Blocks do not divide by a scale of 1.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock, FeedForward
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor
from torch.nn.functional import gelu, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint


def make_lean(unet: Any, recompute: bool = True) -> bool:
    """Change how a UNet2DConditionModel computes; parameters, their names and results stay.

    Args:
        recompute: keep less. To be left to torch.compile, which does it by itself, and to gradient checkpointing.

    Returns:
        whether it takes n texts for k * n images, where image i has text i modulo n; otherwise a text per image.
    """
    shared = _shares_text(unet)
    for module in unet.modules():
        if recompute and isinstance(module, ResnetBlock2D) and _usual(module):
            module.forward = MethodType(_residual, module)
        elif recompute and isinstance(module, FeedForward) and isinstance(module.net[0], GEGLU):
            module.forward = MethodType(_feed_forward, module)
        elif isinstance(module, BasicTransformerBlock) and shared:
            module.attn2.set_processor(SharedText())
    return shared


class SharedText(AttnProcessor2_0):
    """Cross-attention of k * n images to n texts."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """[k * n, tokens, width] and [n, text tokens, text width] to [k * n, tokens, width]."""
        text = encoder_hidden_states
        if text is None or len(text) == len(hidden_states):
            return super().__call__(attn, hidden_states, text, *args, **kwargs)
        copies = len(hidden_states) // len(text)
        keys, values = (project(text).repeat(copies, 1, 1) for project in (attn.to_k, attn.to_v))
        heads = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (attn.to_q(hidden_states), keys, values))
        seen = scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](seen))


def _shares_text(unet: Any) -> bool:
    """Text goes to cross-attention only, of the usual kind."""
    config = unet.config
    plain = config.addition_embed_type in (None, "text_time") and config.encoder_hid_dim_type is None
    blocks = [module for module in unet.modules() if isinstance(module, BasicTransformerBlock)]
    return plain and all(block.attn2 and isinstance(block.attn2.processor, AttnProcessor2_0) for block in blocks)


def _usual(block: ResnetBlock2D) -> bool:
    resized = block.upsample is not None or block.downsample is not None
    return not resized and block.time_embedding_norm == "default" and not block.skip_time_act


def _residual(self: ResnetBlock2D, input_tensor: Tensor, temb: Tensor | None, *args: Any, **kwargs: Any) -> Tensor:
    """[n, in, h, w] and [n, time] to [n, out, h, w], as `ResnetBlock2D.forward`."""
    hidden = _recompute(lambda x: self.conv1(self.nonlinearity(self.norm1(x))), input_tensor)
    if temb is not None and self.time_emb_proj is not None:
        hidden = hidden + self.time_emb_proj(self.nonlinearity(temb))[:, :, None, None]
    hidden = _recompute(lambda x: self.conv2(self.dropout(self.nonlinearity(self.norm2(x)))), hidden)
    if self.conv_shortcut is not None:
        input_tensor = self.conv_shortcut(input_tensor)
    total = input_tensor + hidden
    return total if self.output_scale_factor == 1 else total / self.output_scale_factor


def _feed_forward(self: FeedForward, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """[..., width] to [..., width], as `FeedForward.forward`."""

    def after_gate(projected: Tensor) -> Tensor:
        value, gate = projected.chunk(2, dim=-1)
        hidden = value * gelu(gate)
        for module in self.net[1:]:
            hidden = module(hidden)
        return hidden

    return _recompute(after_gate, self.net[0].proj(hidden_states))


def _recompute(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`function(x)`, which keeps x alone for the backward pass."""
    if not torch.is_grad_enabled():
        return function(x)
    return checkpoint(function, x, use_reentrant=False)
