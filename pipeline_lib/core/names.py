"""What trained models are called: after the loss that trained them, and the preset."""

from __future__ import annotations

SHORT = {"diffusion-dpo": "dpo", "balanced-dpo": "balanced", "adaptive-dpo": "adaptive"}
"""The losses of the presets' methods of these names; others keep their own name, such as `ipo`."""


def model_name(preset: str, loss: str) -> str:
    """Name of an MLflow experiment and a registered model, such as `balanced-sdxl` or `ipo-shapes`.

    Args:
        loss: `TrainConfig.method`: what trained the model, whichever training flow was given it.
    """
    return f"{SHORT.get(loss, loss)}-{preset}"
