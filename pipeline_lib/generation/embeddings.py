"""Prompts as embeddings: encoded once per process, shared by all models on one base, as none trains its encoder."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline_lib.models.family import Family

Embedding = tuple["Tensor", "Tensor | None"]
"""[tokens, width], and pooled [width] where the family has it."""

BLOCK = 16
"""Prompts per batch, always: a prompt's bits must not depend on which others are new."""
MOST_BYTES = 512 << 20
"""About 800 prompts of SDXL in fp32."""


class Texts:
    """What the stock pipeline of a family gives its UNet for a prompt, the least recently used dropped first."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._known: OrderedDict[str, Embedding] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()  # tokenizers cannot be shared by threads

    def of(self, pipeline: Any, prompts: Iterable[str]) -> dict[str, Embedding]:
        """Embeddings by prompt; "" is the unconditional one. `pipeline` encodes those that are new."""
        with self._lock:
            found = {prompt: self._known.get(prompt) for prompt in prompts}
            new = [prompt for prompt, embedding in found.items() if embedding is None]
            made: dict[str, Embedding] = {}
            for start in range(0, len(new), BLOCK):
                made |= self._encode(pipeline, new[start : start + BLOCK])
            found |= made
            self._known |= made
            self._bytes += sum(_size(embedding) for embedding in made.values())
            for prompt in found:
                self._known.move_to_end(prompt)
            while self._bytes > MOST_BYTES:
                self._bytes -= _size(self._known.popitem(last=False)[1])
        return {prompt: embedding for prompt, embedding in found.items() if embedding is not None}

    def _encode(self, pipeline: Any, prompts: list[str]) -> dict[str, Embedding]:
        import torch

        with torch.no_grad():
            full = [*prompts, *[""] * (BLOCK - len(prompts))]
            embeddings, pooled = self._family.encode_prompts(pipeline, full)
        return {
            prompt: (embeddings[row].clone(), None if pooled is None else pooled[row].clone())
            for row, prompt in enumerate(prompts)
        }


def conditions(prompts: Sequence[Embedding], empty: Embedding) -> dict[str, Tensor]:
    """Arguments of a diffusers pipeline for prompts, with the empty one for guidance."""
    import torch

    given = {}
    for kind, rows in (("", prompts), ("negative_", [empty] * len(prompts))):
        given[f"{kind}prompt_embeds"] = torch.stack([embedding for embedding, _ in rows])
        pooled = [pooled for _, pooled in rows if pooled is not None]
        if pooled:
            given[f"{kind}pooled_prompt_embeds"] = torch.stack(pooled)
    return given


def _size(embedding: Embedding) -> int:
    return sum(part.nbytes for part in embedding if part is not None)
