"""Within what the numbers of a training run must lie, whatever its method."""

from __future__ import annotations

from pipeline_lib.core.config import TrainConfig, require

TIMESTEPS = 1000
"""Of the presets' noise schedules. A base with fewer is looked at when it is known (`models.noise.check_range`)."""
BOUNDS: dict[str, tuple[float, float]] = {
    "lora_rank": (1, 4096),
    "lora_alpha": (1, 65_536),
    "lora_dropout": (0, 0.99),
    "beta": (0, 1e9),
    "steps": (1, 1_000_000),
    "batch_size": (1, 65_536),
    "gradient_accumulation": (1, 65_536),
    "learning_rate": (0, 1),
    "weight_decay": (0, 1000),
    "max_grad_norm": (0, 1e9),
    "fixed_draws": (0, TIMESTEPS),
    "reference_refresh": (0, 1_000_000),
    "rho": (0, 1e6),
    "k1": (0, 1e6),
    "seed": (0, 2**63 - 1),
    "max_skipped_steps": (0, 1_000_000),
    "checkpoint_every": (1, 1_000_000),
    "keep_checkpoints": (1, 1_000_000),
    "sample_every": (0, 1_000_000),
}
"""Both ends included; NaN lies in none."""


def check_bounds(config: TrainConfig) -> None:
    """Raise ConfigError for a number that no training run can have."""
    for name, (low, high) in BOUNDS.items():
        value = getattr(config, name)
        require(low <= value <= high, f"{name} is {value}.", f"Set it in [{low:g}, {high:g}].")
    if config.timestep_range is not None:
        first, last = config.timestep_range
        require(
            0 <= first <= last < TIMESTEPS,
            f"timestep_range is {list(config.timestep_range)}.",
            f"Give first <= last within 0..{TIMESTEPS - 1}.",
        )
    wrong = [step for step in config.milestones if not 1 <= step <= BOUNDS["steps"][1]]
    require(not wrong, f"milestones has {wrong[:5]}.", "Give optimizer steps, from 1.")
