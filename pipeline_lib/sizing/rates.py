"""How fast: what was measured on CPUs, and what a published run implies; this pipeline was never timed on a GPU."""

from __future__ import annotations

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.sizing.flops import PASSES, TERA, pairs_trained, train

INGEST_BYTES_PER_SECOND = 1295.6 / 1000 * 69.5e6
"""CPU. `python -m tests.bench.ingest`, idle machine of a few virtual cores: 1,295.6 pairs/s of a source of 1,000 pairs
in 69.5 MB, images of 512 px, local disk."""
LABEL_PAIRS_PER_SECOND = 1_000_000 / 2.45
"""CPU. `python -m tests.bench.label`, quiet machine of 4 virtual cores: recipe voting5, 1,000,000 pairs in 2.45 s."""
COMPUTE_SHARE = {"score": 1.0, "encode": 1.0, "train": 1.0, "evaluate": 0.919}
"""Share of a stage's time that its models compute, by `python -m tests.bench.score` (1.056, .985: about 1), `...train`
(data and logging cost .003 to .007) and `...evaluate`; small models on a CPU. encode was not measured by itself."""

PRICE = 2.5
"""Of a GPU hour, in any currency, where none is given: an assumption."""
SHAPES_PASSES_PER_SECOND = 44 * 2 * 4
"""CPU. The built-in world's UNet, on images of 32 px: the fastest tenth of 193 steps of train-dpo/shapes did 44
pairs/s and more, in one thread on a machine of 2 virtual cores whose other work made the slower steps wait. A pair is
two images, an image four passes (flops.forward_passes). It was not measured on a quiet machine."""

_PUBLISHED = TrainConfig(method="diffusion-dpo", adapter="lora", steps=12_000, batch_size=128, mixed_precision="fp16")
_PUBLISHED_GPU_SECONDS = 25 * 3600 * 8


def published_flops_per_second() -> float:
    """What one V100 sustained in Adaptive-DPO's run of Diffusion-DPO on SD 1.5 (arXiv 2503.16921): 12,000 steps of 128
    pairs on 8 V100 in 25 hours. The UNet's passes, and the VAE's that its code runs in every step."""
    passes = PASSES["sd15"]
    vae = pairs_trained(_PUBLISHED) * 2 * passes.vae_encode
    return (train(passes, _PUBLISHED) + vae) / _PUBLISHED_GPU_SECONDS


DEFAULT_TERAFLOPS = round(published_flops_per_second() / TERA)
