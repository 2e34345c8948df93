"""What a run of the chain asks for: a preset with everything that was given in its place, checked before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pipeline_lib.chain.given import check_given
from pipeline_lib.chain.mirrors import check_prompts
from pipeline_lib.core.config import (
    BaseModel,
    EncodeConfig,
    EvaluateConfig,
    IngestConfig,
    JudgeConfig,
    TrainConfig,
)
from pipeline_lib.core.errors import ConfigError, excerpt
from pipeline_lib.core.overrides import override
from pipeline_lib.core.store import absolute
from pipeline_lib.evaluation.gate import Gate
from pipeline_lib.labels.recipe import check_recipe
from pipeline_lib.labels.recipes import Recipe
from pipeline_lib.labels.self_training import runnable
from pipeline_lib.labels.steps import SELF_TRAINING
from pipeline_lib.models.names import MLFLOW_SCHEMES
from pipeline_lib.presets import alignment
from pipeline_lib.presets import preset as find_preset
from pipeline_lib.training.methods import check_config, check_sharding

SELF_TRAINING_TIMESTEPS = 4
"""Of models that the chain trains to judge. In the built-in world they agreed with people on .68 and .70 of 400 pairs
by four timesteps, on .70 by eight, which take twice as long, and on .65 by two."""
GIVEN = ("pairs", "scores", "labels", "encoded", "model", "held_out", "agreement", "evaluation")
"""Products of stages that may be given, by name: a URI, or for scores one by scorer."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that decides a run, and where it takes place. Make one with `plan`, which checks it."""

    preset: str
    store: str
    """Root of the dataset store, a whole path or URL."""
    scratch: Path
    """Where trainers keep checkpoints until the model is in the store."""
    base: BaseModel
    ingest: IngestConfig
    scorers: tuple[str, ...]
    """Reward models that judge the evaluation, and are compared with people."""
    scorer_source: str
    """Where reward models come from: "hub", or a directory laid out like it."""
    recipe: Recipe
    encode: EncodeConfig
    train: TrainConfig
    judge: JudgeConfig
    evaluate: EvaluateConfig
    held_out: IngestConfig | None
    """Pairs that are not trained on, as the preset has them."""
    source: str | None = None
    """The source that was given in place of the preset's."""
    processes: int | None = None
    sharding: Literal["none", "fsdp"] = "none"
    device: str = "auto"
    given: Mapping[str, Any] = field(default_factory=dict)
    """Products that need not be made (`GIVEN`)."""

    def label_scorers(self) -> list[str]:
        """The reward models whose scores the recipe reads."""
        known = self.given.get("scores", {})
        return [name for name in check_recipe(self.recipe, known, runnable()) if name != SELF_TRAINING]


def plan(
    preset: str = "shapes",
    method: str = "balanced",
    *,
    store: str,
    scratch: Path,
    recipe: Recipe | None = None,
    source: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    scorers: Sequence[str] | None = None,
    scorer_source: str | None = None,
    base: str | None = None,
    prompts: str | None = None,
    num_prompts: int | None = None,
    ingest: Mapping[str, Any] | None = None,
    encode: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    judge: Mapping[str, Any] | None = None,
    evaluate: Mapping[str, Any] | None = None,
    given: Mapping[str, Any] | None = None,
    processes: int | None = None,
    sharding: Literal["none", "fsdp"] = "none",
    device: str = "auto",
) -> Plan:
    """A preset's run with everything that is given here in its place.

    Args:
        preset, method: names in `presets`; the method brings label recipe and training settings.
        store: folder or fsspec URL that holds the datasets.
        scratch: folder where trainers keep checkpoints.
        recipe: a name, YAML text or a list of steps.
        source, split, limit: of the pairs; fields of IngestConfig.
        scorers: names of reward models that judge.
        scorer_source: "hub", or a directory laid out like it.
        base: `<org>/<name>[@<revision>]` or a folder, of the preset's family.
        prompts, num_prompts: of the evaluation; fields of EvaluateConfig.
        ingest, encode, train, judge, evaluate: any field of these configs by name.
        given: products that need not be made, by name (`GIVEN`): URIs of datasets; `scores` by scorer.
        processes: trainer processes; None for one per GPU. Their number changes no result.

    Raises:
        ConfigError, UnknownNameError, LabelError: something that is not known, cannot be or does not fit together.
        HubError, CheckpointError: a base, mirror or prompt set that there is not.
    """
    chosen, way, given = find_preset(preset), alignment(preset, method), given or {}
    for name in given:
        if name not in GIVEN:
            raise ConfigError(f"No stage makes {excerpt(name)}.", f"Give some of: {', '.join(GIVEN)}.")
    check_recipe(recipe or way.labels, given.get("scores", {}), runnable())
    source, prompts = source or (ingest or {}).get("source"), prompts or (evaluate or {}).get("prompts")
    judged = override(chosen.evaluate, evaluate, prompts=prompts, num_prompts=num_prompts)
    check_prompts(preset, prompts, judged.num_prompts, scorer_source)
    check_given(
        base=base,
        weights=scorer_source,
        prompts=judged.prompts,
        num_prompts=judged.num_prompts,
        scorers=scorers,
        scores=given.get("scores"),
        **{name.replace("held_out", "heldout"): uri for name, uri in given.items() if name != "scores"},
    )
    Gate(judged.gate_average, judged.gate_scorer)
    training = override(way.train, train)
    check_config(training)
    if sharding != "none":
        check_sharding(training)
    encoding = override(chosen.encode, encode)
    found = _base(chosen.base, base, training, judged.steps, scratch)
    return Plan(
        preset=preset,
        store=absolute(store),
        scratch=scratch,
        base=found,
        ingest=override(chosen.ingest, ingest, source=source, split=split, limit=limit),
        scorers=tuple(scorers or chosen.scorers),
        scorer_source=scorer_source or chosen.weights,
        recipe=recipe or way.labels,
        encode=replace(encoding, flipped=True) if training.flip > 0 else encoding,
        train=training,
        judge=override(JudgeConfig(timesteps=SELF_TRAINING_TIMESTEPS), judge),
        evaluate=judged,
        held_out=chosen.held_out,
        source=source,
        processes=processes,
        sharding=sharding,
        device=device,
        given=given,
    )


def _base(own: BaseModel, name: str | None, train: TrainConfig, steps: int, scratch: Path) -> BaseModel:
    """The base model of the run, known to be one that is trained and painted as its authors meant it."""
    from pipeline_lib.core.digest import digest
    from pipeline_lib.models import local, named  # loads torch
    from pipeline_lib.models.noise import check_range, check_steps
    from pipeline_lib.training.targets import check_targets

    if name and name.startswith(MLFLOW_SCHEMES):
        raise ConfigError(
            f"{excerpt(name)} is a model that MLflow holds, which this library does not ask.",
            "Download it (mlflow artifacts download -u <URI> -d <folder>) and give the folder.",
        )
    timesteps = named.check_named(own, name)
    if timesteps is not None:
        check_range(timesteps, train.timestep_range)
        check_steps(timesteps, steps)
    found = named.base_named(own, name, scratch / "bases" / digest([name], 16)) if name else own
    if name and Path(found.mirror).is_dir():
        local.check_weights(found)
    if train.adapter == "lora" and train.lora_targets is not None:
        check_targets(found, train)
    return found
