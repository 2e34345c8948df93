"""Prompts in the form each scorer wants them, encoded once per process as long as memory allows.

They are encoded in blocks of neighbouring prompts of the dataset, never in the groups in which shards happen to ask: a
matrix product's last bits depend on its other rows, and a prompt must have the same features whoever asked first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from pipeline_lib.scoring.base import Scorer
from pipeline_lib.scoring.questions import Questions

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 64
MOST_BYTES = 512 << 20
"""Per scorer: about 130,000 prompts of a ViT-H/14."""

# Tokenizers refuse to be set up while another thread uses them; tasks of one process may share scorers.
_encoding = Lock()


class Encoded:
    """Encoded blocks of one scorer, the least recently used dropped first."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[tuple[str, int], Tensor] = OrderedDict()
        self._bytes = 0

    def block(self, scorer: Scorer, questions: Questions, index: int) -> Tensor:
        """Features of prompts `BLOCK * index` and following; hold `_encoding`."""
        key = (questions.key, index)
        if key in self._blocks:
            self._blocks.move_to_end(key)
            return self._blocks[key]
        made = encode(scorer, questions.prompts[BLOCK * index : BLOCK * (index + 1)])
        self._blocks[key] = made
        self._bytes += made.nbytes
        while self._bytes > MOST_BYTES and len(self._blocks) > 1:
            self._bytes -= self._blocks.popitem(last=False)[1].nbytes
        return made


_encoded: WeakKeyDictionary[Scorer, Encoded] = WeakKeyDictionary()


def features(scorers: Sequence[Scorer], questions: Questions, positions: Sequence[int]) -> dict[str, Tensor]:
    """Scorer name -> one row per position, for the scorers that read prompts; nothing when there are no positions."""
    import torch

    found: dict[str, Tensor] = {}
    with _encoding:
        for scorer in scorers:
            if scorer.needs_prompt and positions:
                known = _encoded.setdefault(scorer, Encoded())
                found[scorer.name] = torch.stack(
                    [known.block(scorer, questions, position // BLOCK)[position % BLOCK] for position in positions]
                )
    return found


def encode_all(scorers: Sequence[Scorer], prompts: Sequence[str]) -> dict[str, Tensor]:
    """Scorer name -> one row per prompt, for the scorers that read prompts; nothing is kept."""
    with _encoding:
        return {scorer.name: encode(scorer, prompts) for scorer in scorers if scorer.needs_prompt and prompts}


def encode(scorer: Scorer, prompts: Sequence[str]) -> Tensor:
    """One row per prompt, in batches that fit the device."""
    import torch

    from pipeline_lib.scoring.batching import run

    with torch.inference_mode():
        return run(scorer.encode_prompts, lambda part: (prompts[part],), len(prompts))
