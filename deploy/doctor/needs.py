"""What a preset's runs need of a machine, in bytes; from pipeline_lib.sizing."""

from dataclasses import dataclass

from pipeline_lib.presets import preset
from pipeline_lib.scoring.scorers import files_of
from pipeline_lib.sizing.bases import BASES, TOKENS
from pipeline_lib.sizing.data import PICKAPIC_V2, image_store_bytes, latent_bytes, latent_numbers, text_bytes
from pipeline_lib.sizing.training import disk_bytes, gpu_bytes

SMALL = 500_000_000
"""More than `align/shapes` writes to the store and to the state folder."""


@dataclass(frozen=True)
class Needs:
    """Bytes: free on the disks of store, hub cache and state folder; memory of the GPU, and free in /dev/shm."""

    store: int
    cache: int
    state: int
    gpu: int
    shared: int


def needs_of(name: str) -> Needs:
    """Of all methods of the preset, the most that any of them needs. The built-in world needs no GPU."""
    settings, base = preset(name), BASES.get(name)
    if base is None:
        return Needs(SMALL, 0, SMALL, 0, 0)
    trains = [alignment.train for alignment in settings.methods.values()]
    encoded = latent_bytes(PICKAPIC_V2.images, latent_numbers(settings.encode.resolution), settings.encode.flipped)
    text = text_bytes(PICKAPIC_V2.prompts, TOKENS, base.text_width, base.pooled_width)
    return Needs(
        store=image_store_bytes(PICKAPIC_V2) + encoded + text,
        cache=base.download_bytes + sum(file.bytes for file in files_of(settings.scorers)),
        state=max(disk_bytes(train, base.unet) for train in trains),
        gpu=max(gpu_bytes(train, base.unet) for train in trains),
        shared=2**30,
    )
