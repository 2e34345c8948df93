"""Methods: a loss, its reference policy, its annotators, and the labels it can use. Importing this loads no torch.

To add one, write a function with the signature `losses.Loss`, and a line in `_OWN`; from another package, an entry
point of `preference_alignment.losses` that leads to a `Method`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal, cast

from pipeline_lib.core.config import TrainConfig, require
from pipeline_lib.core.errors import LabelError
from pipeline_lib.core.overrides import validated
from pipeline_lib.core.registry import Registry

if TYPE_CHECKING:
    import polars as pl

    from pipeline_lib.training.losses import Loss

_LOSSES = "pipeline_lib.training.losses"
_ADAPTIVE = "pipeline_lib.training.adaptive"


@dataclass(frozen=True, kw_only=True)
class Method:
    """How a method trains.

    Attributes:
        loss: `module:function` of the signature `losses.Loss`.
        recipe: the label recipe it is meant for, by name.
        reference: "frozen" base model, "refresh" copies the policy into it every `reference_refresh` steps, or "none".
        annotators: Adaptive-DPO's historical models (EMA footprints of the trainable parameters) are kept.
        hard_labels: targets must be 0 or 1.
        synthetic: needs the synthetic annotator's `g_hat` for every pair and human labels for some.
        flip_rate: uses `TrainConfig.flip_rate`.
    """

    loss: str
    recipe: str = "human"
    reference: Literal["frozen", "refresh", "none"] = "frozen"
    annotators: bool = False
    hard_labels: bool = False
    synthetic: bool = False
    flip_rate: bool = False


_OWN: dict[str, Method] = {
    "diffusion-dpo": Method(loss=f"{_LOSSES}:diffusion_dpo"),
    "balanced-dpo": Method(loss=f"{_LOSSES}:diffusion_dpo", recipe="balanced", reference="refresh"),
    "dedpo": Method(loss=f"{_LOSSES}:dedpo", recipe="dedpo25", synthetic=True),
    "adaptive-dpo": Method(loss=f"{_ADAPTIVE}:adaptive_dpo", annotators=True, hard_labels=True),
    "adaptive-ipo": Method(loss=f"{_ADAPTIVE}:adaptive_ipo", annotators=True, hard_labels=True),
    "ipo": Method(loss=f"{_LOSSES}:ipo"),
    "hinge": Method(loss=f"{_LOSSES}:hinge"),
    "robust-dpo": Method(loss=f"{_LOSSES}:robust_dpo", flip_rate=True),
    "conservative-dpo": Method(loss=f"{_LOSSES}:conservative_dpo", flip_rate=True),
    "sft-chosen": Method(loss=f"{_LOSSES}:sft_chosen", reference="none"),
}

METHODS: Registry[Method] = Registry("method", _OWN, group="losses")
"""This project's, and those of other packages: an entry point leads to a `Method`."""


def method(name: str) -> Method:
    """The method of that name; raises UnknownNameError with suggestions."""
    return METHODS.get(name)


def load_loss(name: str) -> Loss:
    """The loss of the method of that name; imports torch. Raises UnknownNameError with suggestions."""
    module, _, attribute = method(name).loss.partition(":")
    return cast("Loss", getattr(import_module(module), attribute))


def check_config(config: TrainConfig) -> Method:
    """The method of a configuration; raises ConfigError for settings that cannot do what they say."""
    chosen = method(config.method)
    validated(config)
    require(config.warmup_steps <= config.steps, f"warmup_steps is {config.warmup_steps}.", "Set it in 0..steps.")
    first, last = config.timestep_range or (0, 0)
    require(first <= last, f"timestep_range is {[first, last]}.", "Give first <= last.")
    refreshes = config.reference_refresh > 0
    require(
        refreshes or chosen.reference != "refresh",
        f"{config.method} copies the policy into its reference every reference_refresh steps, which is 0.",
        "Set reference_refresh (BalancedDPO: 100), or train diffusion-dpo on the same labels for a frozen reference.",
    )
    require(
        not refreshes or chosen.reference == "refresh",
        f"reference_refresh is {config.reference_refresh}, but {config.method} never refreshes.",
        "Set reference_refresh to 0, or use balanced-dpo.",
    )
    require(
        0 < config.flip_rate < 0.5 if chosen.flip_rate else config.flip_rate == 0,
        f"flip_rate is {config.flip_rate}, method {config.method}.",
        "Set it in (0, 0.5) for robust-dpo and conservative-dpo, and to 0 for every other method.",
    )
    _check_draws(config, chosen)
    if chosen.annotators:
        _check_adaptive(config)
    return chosen


def check_sharding(config: TrainConfig) -> None:
    """Raise ConfigError for what a run cut into shards cannot do."""
    wanted = {
        "adapter": (("full",), "Train LoRA without: its weights are small. Or set adapter='full'"),
        "optimizer": (("adamw",), "Set optimizer='adamw': the others keep sums over whole matrices"),
        "mixed_precision": (("no", "bf16"), "Set mixed_precision='bf16': fp16 needs a gradient scaler for shards"),
        "compile": ((False,), "Set compile=False"),
        "fixed_draws": ((0,), "Set fixed_draws=0: processes that find their errors cached leave the others waiting"),
    }
    for name, (allowed, remedy) in wanted.items():
        value = getattr(config, name)
        require(value in allowed, f"sharding='fsdp' does not work with {name}={value!r}.", f"{remedy}.")


def _check_draws(config: TrainConfig, chosen: Method) -> None:
    require(
        config.fixed_draws == 0 or chosen.reference == "frozen",
        f"fixed_draws is {config.fixed_draws}, but {config.method} has no frozen reference with errors to keep.",
        "Set fixed_draws to 0, or use a method with a frozen reference.",
    )
    require(
        config.fixed_draws == 0 or config.timestep_sampling == "uniform",
        "Fixed draws recur in another order at every visit, so they cannot be stratified.",
        "Set fixed_draws to 0 or timestep_sampling to 'uniform'.",
    )


def _check_adaptive(config: TrainConfig) -> None:
    require(
        len(config.ema_decays) > 0,
        "ema_decays is empty.",
        "Give at least one decay in [0, 1): the stability of the metric is a variance over models.",
    )
    require(
        config.batch_size >= 2,
        f"batch_size is {config.batch_size}, but {config.method} takes scale and margin from the pairs of one forward "
        "pass: of a single pair the loss is the same whatever the errors are.",
        f"Set batch_size to 2 or more (the authors: 16), and keep the pairs of a step by gradient_accumulation "
        f"({max(1, config.gradient_accumulation // 2)} with batch_size 2).",
    )


def check_labels(config: TrainConfig, labels: pl.DataFrame) -> None:
    """Raise LabelError, naming the recipe that works, when `labels` (schema LABELS) cannot train the method."""
    chosen = method(config.method)
    remedy = f"Build the labels with recipe {chosen.recipe!r}"
    if labels.is_empty():
        raise LabelError(f"{config.method}: the label dataset has no pairs.", f"{remedy} from pairs that have labels.")
    target = labels["target"]
    outside = int((target.is_null() | target.is_nan() | ~target.is_between(0, 1)).sum())
    if outside:
        raise LabelError(f"{outside} of {len(labels)} targets are not probabilities.", f"{remedy}.")
    if bool((target == 0.5).all()):
        raise LabelError("Every pair is a tie: there is nothing to learn.", f"{remedy} from pairs with a winner.")
    undecided = int((~target.is_in([0.0, 1.0])).sum())
    if chosen.hard_labels and undecided:
        raise LabelError(
            f"{config.method} needs a winner in every pair; {undecided} of {len(labels)} targets are ties or soft.",
            f"{remedy} with the step {{filter: ties}}, or use diffusion-dpo, which takes probabilities.",
        )
    if chosen.synthetic:
        _check_synthetic(config.method, labels, remedy)


def _check_synthetic(name: str, labels: pl.DataFrame, remedy: str) -> None:
    missing = int((labels["g_hat"].is_null() | labels["g_hat"].is_nan()).sum())
    if missing:
        raise LabelError(
            f"{name} needs the synthetic annotator's g_hat for every pair; {missing} of {len(labels)} have none.",
            f"{remedy}: it reveals a share of the human labels and pseudo-labels all pairs.",
        )
    human = labels.filter(labels["is_human"])["human"]
    if human.is_empty() or human.null_count():
        raise LabelError(
            f"{name} corrects with human labels; {len(human)} pairs are human, {human.null_count()} without label.",
            f"{remedy}: it keeps the revealed human labels in the column `human`.",
        )
