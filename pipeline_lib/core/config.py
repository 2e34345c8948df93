"""Settings of every stage as flat dataclasses of JSON-like values; which of them are in keys, identity.py says.

Presets (pipeline_lib/presets) hold the values for each base model; flows override single fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.hub import HUB
from pipeline_lib.core.identity import undecided

# Types with bounds: forms, Python and the command line refuse what lies outside. Infinities and NaN lie in none.
LARGEST = 2**63 - 1
"""Of the whole numbers that a server can store and list."""
MAX_ITEMS = 1000
Seed = Annotated[int, Field(ge=0, le=LARGEST)]
Steps = Annotated[int, Field(ge=1, le=1_000_000)]
"""Of the optimizer."""
Interval = Annotated[int, Field(ge=0, le=1_000_000)]
"""Optimizer steps between two of something; 0 for never."""
Timestep = Annotated[int, Field(ge=0, le=999)]
"""Of the presets' noise schedules. A base with fewer is looked at when it is known (`models.noise.check_range`)."""
Timesteps = Annotated[int, Field(ge=1, le=1000)]
"""Their number."""
Count = Annotated[int, Field(ge=1, le=10**12)]
"""Rows or prompts: at most so many."""
Batch = Annotated[int, Field(ge=1, le=65_536)]
Pixels = Annotated[int, Field(ge=8, le=8192)]
"""Side of a square image."""
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
"""A learning rate."""
Beta = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Guidance = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A diffusers text-to-image pipeline to align."""

    family: Literal["sd", "sdxl"]
    repo: str
    revision: str | None = None
    vae_repo: str | None = None
    """Replaces the pipeline's own VAE (SDXL's overflows in fp16)."""
    vae_revision: str | None = None
    mirror: str = HUB


@dataclass(frozen=True, kw_only=True)
class IngestConfig:
    """What to read, and which rows to keep."""

    source: str
    """`hf://datasets/<repo>@<revision>[/split]`, `s3://...`, `shapes://pairs`, or a folder of Parquet."""
    split: str = "train"
    limit: Count | None = None
    """At most this many source rows; None reads all."""
    models: Annotated[tuple[str, ...], Field(max_length=MAX_ITEMS)] | None = None
    """Only pairs whose two images are by generators named here; None takes all."""
    max_pixels: Count = 64_000_000
    """Of an image; one that has more goes to quarantine."""
    max_bytes: Count = 32_000_000
    """Of an image's file."""


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """Latent and text-embedding caches."""

    resolution: Pixels
    """Side of the square that images become, in pixels."""
    aspect: Literal["crop", "pad", "stretch"] = "crop"
    """How an image becomes a square: its shorter side resized and the centre cropped (as Diffusion-DPO), its longer
    side resized and black bars added, or both sides resized."""
    batch_size: Batch = 32
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    flipped: bool = False
    """Also encode every image mirrored left to right, for `TrainConfig.flip`."""
    empty_prompt: Literal["inference", "encoded"] = "inference"
    """What a dropped prompt becomes: what guidance uses at inference (zeros for SDXL), or "" encoded like any prompt,
    as in Diffusion-DPO's code. The SD family knows no difference."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run. `beta` is always in the official convention: logit = 0.5 * beta * ell."""

    method: str
    adapter: Literal["lora", "full"] = "lora"
    lora_rank: Annotated[int, Field(ge=1, le=4096)] = 8
    lora_alpha: Annotated[int, Field(ge=1, le=65_536)] = 8
    lora_dropout: Annotated[float, Field(ge=0, le=0.99, allow_inf_nan=False)] = 0.0
    lora_targets: Annotated[tuple[str, ...], Field(max_length=MAX_ITEMS)] | None = None
    """Names of the linear layers that LoRA adapts; None takes the family's attention projections."""
    beta: Beta = 5000.0
    steps: Steps = 2000
    """Optimizer steps."""
    batch_size: Batch = 16
    """Pairs per forward pass. Adaptive-DPO takes scale and margin from them, and needs 2 or more."""
    gradient_accumulation: Batch = 1
    """Forward passes per optimizer step, shared out among the processes: their number changes no result."""
    learning_rate: Rate = 1e-5
    """As it acts. Papers of this line give it before scaling by the pairs per step (docs/presets.md)."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: Interval = 0
    """First optimizer steps, in which the learning rate rises to its value."""
    optimizer: Literal["adamw", "adamw8bit", "adafactor"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 1e-2
    max_grad_norm: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] = 1.0
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    gradient_checkpointing: bool = False
    compile: bool = False
    """Run the UNet through torch.compile: the policy, and without gradient the reference and the annotators."""
    prompt_dropout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    """Probability that a pair (both images together) is trained with the empty prompt."""
    flip: Share = 0.0
    """Probability that both images of a pair are mirrored; needs `EncodeConfig.flipped`."""
    timestep_range: tuple[Timestep, Timestep] | None = None
    """First and last timestep that are trained; None trains all."""
    timestep_sampling: Literal["uniform", "stratified"] = "uniform"
    """Stratified: consecutive pairs have timesteps spread evenly over the range, which lowers the loss's variance."""
    fixed_draws: Annotated[int, Field(ge=0, le=1000)] = 0
    """K > 0: a pair has K draws of timestep, noise, flip and dropout, used in turn, so that the reference's errors are
    computed before the first step and no copy of it is kept (nor `drift` logged); 0 draws afresh at every visit."""
    reference_refresh: Interval = 0
    """Optimizer steps between copies policy -> reference (BalancedDPO's T); 0 keeps the reference frozen."""
    flip_rate: Annotated[float, Field(ge=0, lt=0.5, allow_inf_nan=False)] = 0.0
    """Assumed label noise (robust-dpo, conservative-dpo)."""
    ema_decays: Annotated[
        tuple[Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)], ...], Field(max_length=MAX_ITEMS)
    ] = (0.9999, 0.5)
    """Decays of Adaptive-DPO's historical annotators, beside the current policy."""
    rho: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] = 15.0
    stability: Literal["authors", "variance", "unscaled"] = "unscaled"
    """Adaptive-DPO's stability s (docs/adaptive-dpo.md), with ell normalised: the authors' code, min(1, standard
    deviation over the models of rho * ell); eq. 12 on rho * ell, the variance; or the variance of ell without rho."""
    k1: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] = 10.0
    reweighting: Literal["none", "linear", "quadratic", "sqrt", "exp"] = "linear"
    margin: Literal["none", "linear", "quadratic"] = "quadratic"
    margin_offset: Literal["logits", "authors"] = "logits"
    """c2 of Adaptive-DPO's margin: the mean of a forward pass's logits, as the paper says, or, as in the authors'
    code, of ell before it is multiplied by beta."""
    seed: Seed = 0
    max_skipped_steps: Interval = undecided(5)
    """A step whose loss or gradient is not finite is skipped; more than this many in a row end the run."""
    checkpoint_every: Steps = undecided(200)
    """Optimizer steps between checkpoints."""
    keep_checkpoints: Steps = undecided(2)
    """Newest checkpoints that are kept."""
    milestones: Annotated[tuple[Steps, ...], Field(max_length=MAX_ITEMS)] = undecided(())
    """Optimizer steps whose checkpoint is written and kept whatever comes after, for as long as the model trains."""
    sample_every: Interval = undecided(0)
    """Optimizer steps between grids of sample images, which are painted while the model trains; 0 paints none."""


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """How pairs are judged. `timesteps` are spread evenly over the schedule; `batch_size` is in pairs."""

    timesteps: Timesteps = 8
    seed: Seed = 0
    batch_size: Batch = 32


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How models are compared; stored with every number."""

    prompts: str
    """A name in evaluation/prompts.py, or a file (evaluation/prompt_files.py)."""
    num_prompts: Count | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=MAX_ITEMS)] = (0,)
    scheduler: Literal["ddim", "dpmsolver++", "euler"] = "dpmsolver++"
    steps: Timesteps = 25
    guidance: Guidance = 7.5
    resolution: Pixels = 512
    batch_size: Batch = 8
    """Images painted at once on CUDA. On the CPU their number follows from the resolution, and decides no pixel."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    tie_spread: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 0.0
    """Scores tie when they are equal, or differ by no more than this share of the scorer's standard deviation."""
    gate_average: Share = 0.5
    """`@champion` needs an average win rate over the scorers above this share with its whole 95% interval ..."""
    gate_scorer: Share = 0.45
    """... and no single scorer whose win rate has its whole interval below this one."""
    implicit_draws: Timesteps = 10
    """Timesteps, each with its noise, at which a model judges a held-out pair (10 as Diffusion-DPO)."""
    implicit_seed: Seed = 0

    @property
    def dtype(self) -> str:
        """What `mixed_precision` means for the weights, as torch names it."""
        return {"no": "float32", "fp16": "float16", "bf16": "bfloat16"}[self.mixed_precision]


def require(condition: bool, problem: str, remedy: str) -> None:
    """Raise ConfigError unless `condition` holds."""
    if not condition:
        raise ConfigError(problem, remedy)
