"""Cross-attention that projects a text once for all images that have it: the two of a pair, in training."""

from __future__ import annotations

from typing import Any

from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def share_text(unet: Any) -> bool:
    """Let a UNet2DConditionModel take n texts for k * n images, where image i has text i modulo n.

    Parameters, their names and results stay; a text per image still works.

    Returns:
        whether it can: its texts go to cross-attention only, of the usual kind. Otherwise it is left as it is.
    """
    config = unet.config
    plain = config.addition_embed_type in (None, "text_time") and config.encoder_hid_dim_type is None
    blocks = [module for module in unet.modules() if isinstance(module, BasicTransformerBlock)]
    if not plain or not all(block.attn2 and isinstance(block.attn2.processor, AttnProcessor2_0) for block in blocks):
        return False
    for block in blocks:
        block.attn2.set_processor(SharedText())
    return True


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
