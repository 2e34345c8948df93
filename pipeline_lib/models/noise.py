"""Noise processes that are understood: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps by a written table of betas.

Training, samples and evaluation read a base's `scheduler_config.json` each with a class of its own. All agree on the
schedulers below: whatever else these do, they share this forward process and the names of its fields. EDM and flow
matching do not, and diffusers would read their configurations as DDPM's by filling in DDPM's defaults.
"""

from __future__ import annotations

import math
from typing import Any

from pipeline_lib.core.config import require
from pipeline_lib.models.configs import Config, finite

SCHEDULERS = (
    "DDIMParallelScheduler",
    "DDIMScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)
PREDICTIONS = ("epsilon", "v_prediction")
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
"""Those that every sampler of the evaluation can draw."""
LEAST_TIMESTEPS, MOST_TIMESTEPS = 100, 10_000
LEAST_SIGNAL = 1e-30
"""Of abar at the last timestep, below which sqrt((1 - abar) / abar), the samplers' sigma, means nothing in fp32."""

_CHOICES: dict[str, tuple[tuple[Any, ...], Any]] = {
    "prediction_type": (PREDICTIONS, "epsilon"),
    "timestep_spacing": (("leading", "linspace", "trailing"), "leading"),
    "timestep_type": (("discrete",), "discrete"),
    "interpolation_type": (("linear", "log_linear"), "linear"),
    "final_sigmas_type": (("zero", "sigma_min"), "zero"),
    "solver_type": (("midpoint", "heun", "logrho", "bh1", "bh2"), "midpoint"),
    "solver_order": ((1, 2, 3), 2),
    "variance_type": ((None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"), None),
    "predict_epsilon": ((True, None), None),
    "rescale_betas_zero_snr": ((True, False, None), False),
}
_ABSENT = {
    "thresholding": "clipping pixels, which latents are not",
    "use_flow_sigmas": "flow matching, which is not supported",
    "use_dynamic_shifting": "flow matching, which is not supported",
    "shift_terminal": "flow matching, which is not supported",
}
_SPACINGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")
_SAMPLERS = (
    "algorithm_type",
    "clip_sample",
    "clip_sample_range",
    "corrector_order",
    "disable_corrector",
    "dynamic_thresholding_ratio",
    "euler_at_final",
    "flow_shift",
    "lambda_min_clipped",
    "lower_order_final",
    "original_inference_steps",
    "predict_x0",
    "sample_max_value",
    "set_alpha_to_one",
    "sigma_max",
    "sigma_min",
    "skip_prk_steps",
    "solver_p",
    "steps_offset",
    "tensor_format",
    "time_shift_type",
    "timestep_scaling",
)
"""Fields that say how a scheduler walks back, not what the noise is; the evaluation brings its own samplers."""
_TABLE = ("beta_end", "beta_schedule", "beta_start", "num_train_timesteps", "trained_betas")
FIELDS = frozenset({*_CHOICES, *_ABSENT, *_SPACINGS, *_SAMPLERS, *_TABLE})


def check_noise(config: Config, named: Any) -> int:
    """Check a scheduler's configuration; returns the number of its timesteps.

    Args:
        config: of `scheduler_config.json`.
        named: the scheduler's class in `model_index.json`.

    Raises:
        ConfigError: another noise process, prediction or field than are known here, or one that lacks its numbers.
    """
    for name in (config.fields.get("_class_name", named), named):
        if name not in SCHEDULERS:
            raise config.refusal(
                f"the scheduler is {name!r}; its noise process is not known here",
                f"Choose a base whose scheduler is one of {', '.join(SCHEDULERS)}.",
            )
    unknown = {k: v for k, v in config.fields.items() if k not in FIELDS and not k.startswith("_")}
    if strange := [name for name, value in unknown.items() if value not in (None, False)]:
        raise config.refusal(
            f"{', '.join(strange)}: no scheduler that is known here has such a field",
            "Remove it if it says nothing about the noise that this model was trained with; else choose another base.",
        )
    for name, (known, default) in _CHOICES.items():
        config.one_of(name, known, default)
    for name, meaning in _ABSENT.items():
        config.absent(name, meaning)
    for name in _SPACINGS:
        config.one_of(name, (True, False, None), False)
    if len(several := [name for name in _SPACINGS if config.fields.get(name)]) > 1:
        raise config.refusal(f"{' and '.join(several)} exclude each other", "Set one of them to false.")
    timesteps = config.whole("num_train_timesteps", 1000, LEAST_TIMESTEPS, MOST_TIMESTEPS)
    config.whole("steps_offset", 0, 0, timesteps)
    signal = _last_signal(config, timesteps)
    rescaled = bool(config.fields.get("rescale_betas_zero_snr"))
    if rescaled and config.fields.get("prediction_type", "epsilon") == "epsilon":
        raise config.refusal(
            "rescale_betas_zero_snr leaves no signal at the last timestep, where epsilon says nothing about the image",
            "Choose a base that predicts v, or set rescale_betas_zero_snr to false if it was not trained with it.",
        )
    if not rescaled and signal < LEAST_SIGNAL:
        raise config.refusal(
            f"the last timestep has no signal (abar {signal:.3g}), which no sampler can begin at",
            "If the model was trained so, say it by rescale_betas_zero_snr.",
        )
    return timesteps


def _last_signal(config: Config, timesteps: int) -> float:
    """abar at the last timestep, before any rescaling; raises ConfigError for betas that are missing or are none."""
    table = config.fields.get("trained_betas")
    if table is not None:
        if not finite(table) or len(table) != timesteps or not all(0 < beta < 1 for beta in table):
            raise config.refusal(
                f"trained_betas are no {timesteps} numbers between 0 and 1, one for each of num_train_timesteps"
            )
        return math.exp(sum(math.log1p(-beta) for beta in table))
    if "beta_schedule" not in config.fields:
        raise config.refusal("it has no beta_schedule, and a guess would be another noise process")
    kind = config.one_of("beta_schedule", BETA_SCHEDULES, None)
    if kind == "squaredcos_cap_v2":
        return 1.0  # capped so that some is left
    low, high = (config.number(name, None, 1e-9, 1 - 1e-9) for name in ("beta_start", "beta_end"))
    if low > high:
        raise config.refusal(f"beta_start is {low}, above beta_end, {high}")
    power = 2 if kind == "scaled_linear" else 1
    first, last = low ** (1 / power), high ** (1 / power)
    betas = ((first + (last - first) * i / (timesteps - 1)) ** power for i in range(timesteps))
    return math.exp(sum(math.log1p(-beta) for beta in betas))


def check_steps(timesteps: int, steps: int) -> None:
    """Raise ConfigError where a sampler cannot take so many steps through a schedule of so many timesteps."""
    require(
        steps <= timesteps,
        f"{steps} sampling steps are more than the {timesteps} timesteps of the base's noise schedule.",
        f"Sample in at most {timesteps} steps.",
    )


def check_range(timesteps: int, first_and_last: tuple[int, int] | None) -> None:
    """Raise ConfigError for a `timestep_range` that a schedule of so many timesteps does not have."""
    first, last = first_and_last or (0, timesteps - 1)
    require(
        0 <= first <= last < timesteps,
        f"timestep_range is {[first, last]}.",
        f"Give first <= last within 0..{timesteps - 1}: the base's noise schedule has {timesteps} timesteps.",
    )
