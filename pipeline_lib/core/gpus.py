"""Whether there can be a GPU here, without torch, which takes two seconds of processor time to load."""

from __future__ import annotations

from pathlib import Path

DEVICES = Path("/dev")
NAMES = ("nvidia*", "dxg", "kfd", "nvhost-*", "nvgpu")
"""Of the device files of drivers: NVIDIA's, Windows' for Linux within it, AMD's, and those of Jetson boards."""


def has_cuda() -> bool:
    """What `torch.cuda.is_available` says; torch is asked only where a driver's file is there."""
    if not any(path for name in NAMES for path in DEVICES.glob(name)):
        return False
    import torch

    return torch.cuda.is_available()
