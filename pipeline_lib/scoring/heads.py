"""The scoring head of ImageReward and the aesthetic predictor: five linear layers, no activation between them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from pipeline_lib.scoring.checkpoints import check_keys

INDICES = (0, 2, 4, 6, 7)
"""Positions of the linear layers; dropout layers, which have no tensors, lie at 1, 3 and 5."""


def linear_head(state: Mapping[str, Tensor], path: Path) -> tuple[Tensor, Tensor]:
    """Fold `layers.N.{weight,bias}` to one affine map: `features @ weight + bias`.

    Composed in float64, so it differs from the layer-by-layer fp32 evaluation by the latter's rounding only.

    Args:
        state: exactly the ten tensors of the head.
        path: the file they come from, for messages.

    Returns:
        weight (features,) and bias (), both float32.

    Raises:
        CheckpointError: a key is missing or unexpected, or the layers' widths do not follow each other.
    """
    names = {f"layers.{index}.{kind}" for index in INDICES for kind in ("weight", "bias")}
    check_keys(path, missing=names - state.keys(), unexpected=state.keys() - names)
    layers = [(state[f"layers.{index}.weight"], state[f"layers.{index}.bias"]) for index in INDICES]
    widths = [tuple(weight.shape) for weight, _ in layers]
    wrong = [
        f"layers.{index}.weight is {shape}"
        for index, before, shape in zip(INDICES[1:], widths, widths[1:], strict=False)
        if shape[1] != before[0]
    ]
    wrong += [
        f"layers.{index}.bias"
        for index, (weight, bias) in zip(INDICES, layers, strict=True)
        if bias.shape != weight.shape[:1]
    ]
    check_keys(path, misshapen=wrong + ([] if widths[-1][0] == 1 else ["layers.7.weight has more than one output"]))
    weight, bias = (tensor.double() for tensor in layers[0])
    for next_weight, next_bias in layers[1:]:
        weight, bias = next_weight.double() @ weight, next_weight.double() @ bias + next_bias.double()
    return weight[0].float(), bias[0].float()
