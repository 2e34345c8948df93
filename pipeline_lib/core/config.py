"""Settings of every stage as flat dataclasses of JSON-like values; which of them are in keys, identity.py says.

Presets (pipeline_lib/presets) hold the values for each base model; flows override single fields.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.hub import HUB
from pipeline_lib.core.identity import undecided
from pipeline_lib.core.registry import unknown_name

C = TypeVar("C")


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
    limit: int | None = None
    """At most this many source rows; None reads all."""
    models: tuple[str, ...] | None = None
    """Only pairs whose two images are by generators named here; None takes all."""
    max_pixels: int = 64_000_000
    max_bytes: int = 32_000_000


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """Latent and text-embedding caches."""

    resolution: int
    """Side of the square that images become, in pixels."""
    aspect: Literal["crop", "pad", "stretch"] = "crop"
    """How an image becomes a square: its shorter side resized and the centre cropped (as Diffusion-DPO), its longer
    side resized and black bars added, or both sides resized."""
    batch_size: int = 32
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
    lora_rank: int = 8
    lora_alpha: int = 8
    lora_dropout: float = 0.0
    lora_targets: tuple[str, ...] | None = None
    """Names of the linear layers that LoRA adapts; None takes the family's attention projections."""
    beta: float = 5000.0
    steps: int = 2000
    """Optimizer steps."""
    batch_size: int = 16
    """Pairs per forward pass. Adaptive-DPO takes scale and margin from them, and needs 2 or more."""
    gradient_accumulation: int = 1
    """Forward passes per optimizer step, shared out among the processes: their number changes no result."""
    learning_rate: float = 1e-5
    """As it acts. Papers of this line give it before scaling by the pairs per step (docs/presets.md)."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    optimizer: Literal["adamw", "adamw8bit", "adafactor"] = "adamw"
    weight_decay: float = 1e-2
    max_grad_norm: float = 1.0
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    gradient_checkpointing: bool = False
    compile: bool = False
    """Run the UNet through torch.compile: the policy, and without gradient the reference and the annotators."""
    prompt_dropout: float = 0.0
    """Probability that a pair (both images together) is trained with the empty prompt."""
    flip: float = 0.0
    """Probability that both images of a pair are mirrored; needs `EncodeConfig.flipped`."""
    timestep_range: tuple[int, int] | None = None
    """First and last timestep that are trained; None trains all."""
    timestep_sampling: Literal["uniform", "stratified"] = "uniform"
    """Stratified: consecutive pairs have timesteps spread evenly over the range, which lowers the loss's variance."""
    fixed_draws: int = 0
    """K > 0: a pair has K draws of timestep, noise, flip and dropout, used in turn, so that the reference's errors are
    computed before the first step and no copy of it is kept (nor `drift` logged); 0 draws afresh at every visit."""
    reference_refresh: int = 0
    """Optimizer steps between copies policy -> reference (BalancedDPO's T); 0 keeps the reference frozen."""
    flip_rate: float = 0.0
    """Assumed label noise (robust-dpo, conservative-dpo)."""
    ema_decays: tuple[float, ...] = (0.9999, 0.5)
    """Decays of Adaptive-DPO's historical annotators, beside the current policy."""
    rho: float = 15.0
    stability: Literal["authors", "variance", "unscaled"] = "unscaled"
    """Adaptive-DPO's stability s (docs/adaptive-dpo.md), with ell normalised: the authors' code, min(1, standard
    deviation over the models of rho * ell); eq. 12 on rho * ell, the variance; or the variance of ell without rho."""
    k1: float = 10.0
    reweighting: Literal["none", "linear", "quadratic", "sqrt", "exp"] = "linear"
    margin: Literal["none", "linear", "quadratic"] = "quadratic"
    margin_offset: Literal["logits", "authors"] = "logits"
    """c2 of Adaptive-DPO's margin: the mean of a forward pass's logits, as the paper says, or, as in the authors'
    code, of ell before it is multiplied by beta."""
    seed: int = 0
    max_skipped_steps: int = undecided(5)
    """A step whose loss or gradient is not finite is skipped; more than this many in a row end the run."""
    checkpoint_every: int = undecided(200)
    """Optimizer steps between checkpoints."""
    keep_checkpoints: int = undecided(2)
    """Newest checkpoints that are kept."""
    milestones: tuple[int, ...] = undecided(())
    """Optimizer steps whose checkpoint is written and kept whatever comes after, for as long as the model trains."""
    sample_every: int = undecided(0)
    """Optimizer steps between grids of sample images, which are painted while the model trains; 0 paints none."""


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """How pairs are judged. `timesteps` are spread evenly over the schedule; `batch_size` is in pairs."""

    timesteps: int = 8
    seed: int = 0
    batch_size: int = 32


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How models are compared; stored with every number."""

    prompts: str
    """A name in evaluation/prompts.py, or a file (evaluation/prompt_files.py)."""
    num_prompts: int | None = None
    seeds: tuple[int, ...] = (0,)
    scheduler: Literal["ddim", "dpmsolver++", "euler"] = "dpmsolver++"
    steps: int = 25
    guidance: float = 7.5
    resolution: int = 512
    batch_size: int = 8
    """Images painted at once on CUDA. On the CPU their number follows from the resolution, and decides no pixel."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    tie_spread: float = 0.0
    """Scores tie when they are equal, or differ by no more than this share of the scorer's standard deviation."""
    gate_average: float = 0.5
    """`@champion` needs an average win rate over the scorers above this share with its whole 95% interval ..."""
    gate_scorer: float = 0.45
    """... and no single scorer whose win rate has its whole interval below this one."""
    implicit_draws: int = 10
    """Timesteps, each with its noise, at which a model judges a held-out pair (10 as Diffusion-DPO)."""
    implicit_seed: int = 0

    @property
    def dtype(self) -> str:
        """What `mixed_precision` means for the weights, as torch names it."""
        return {"no": "float32", "fp16": "float16", "bf16": "bfloat16"}[self.mixed_precision]


def override(config: C, /, **changes: Any) -> C:
    """`config` with the fields whose value is not None replaced; raises ConfigError for a field it does not have."""
    known = [f.name for f in fields(config)]  # type: ignore[arg-type]  # C is a dataclass; the bound is not expressible
    for name in changes:
        if name not in known:
            raise unknown_name(f"{type(config).__name__} field", name, known)
    chosen = {name: value for name, value in changes.items() if value is not None}
    return replace(config, **chosen)  # type: ignore[type-var]


def require(condition: bool, problem: str, remedy: str) -> None:
    """Raise ConfigError unless `condition` holds."""
    if not condition:
        raise ConfigError(problem, remedy)
