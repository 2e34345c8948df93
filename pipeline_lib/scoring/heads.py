"""The scoring head of ImageReward and the aesthetic predictor: five linear layers, no activation between them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.core.weights.keys import check_keys
from pipeline_lib.scoring.checkpoints import REMEDY

if TYPE_CHECKING:
    from torch import Tensor

INDICES = (0, 2, 4, 6, 7)
"""Positions of the linear layers; dropout layers, which have no tensors, lie at 1, 3 and 5."""


def linear_head(state: Mapping[str, Tensor], path: Path, prefix: str = "") -> tuple[Tensor, Tensor]:
    """Fold `layers.N.{weight,bias}` to one affine map: `features @ weight + bias`.

    Composed in float64, so it differs from the layer-by-layer fp32 evaluation by the latter's rounding only.

    Args:
        state: exactly the ten tensors of the head.
        path: the file they come from, for messages.
        prefix: what the file's names have before `layers`.

    Returns:
        weight (features,) and bias (), both float32.

    Raises:
        CheckpointError: a key is missing or unexpected, or the layers' widths do not follow each other.
    """
    names = [(f"{prefix}layers.{index}.weight", f"{prefix}layers.{index}.bias") for index in INDICES]
    known = {name for layer in names for name in layer}
    check_keys(path, missing=known - state.keys(), unexpected=state.keys() - known, remedy=REMEDY)
    layers = [(state[weight], state[bias]) for weight, bias in names]
    widths = [tuple(weight.shape) for weight, _ in layers]
    wrong = [
        f"{weight} is {shape}, after a layer of {before[0]}"
        for (weight, _), before, shape in zip(names[1:], widths, widths[1:], strict=False)
        if len(shape) != 2 or shape[1] != before[0]
    ]
    wrong += [
        f"{name} is {tuple(bias.shape)}, expected {tuple(weight.shape[:1])}"
        for (_, name), (weight, bias) in zip(names, layers, strict=True)
        if bias.shape != weight.shape[:1]
    ]
    if len(widths[0]) != 2 or widths[-1][0] != 1:
        wrong.append(f"{names[0][0]} {widths[0]} to {names[-1][0]} {widths[-1]} (features to one score)")
    check_keys(path, misshapen=wrong, remedy=REMEDY)
    weight, bias = (tensor.double() for tensor in layers[0])
    for next_weight, next_bias in layers[1:]:
        weight, bias = next_weight.double() @ weight, next_weight.double() @ bias + next_bias.double()
    return weight[0].float(), bias[0].float()
