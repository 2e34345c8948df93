"""The stages of the chain, once: what each needs, what it gives, and how it is made in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline_lib.chain.mirrors import held_out_pairs
from pipeline_lib.chain.plan import Plan
from pipeline_lib.core.store import Dataset
from pipeline_lib.labels.recipe import required_scorers
from pipeline_lib.labels.self_training import fold_recipes, reads_self_training
from pipeline_lib.labels.steps import SELF_TRAINING

logger = logging.getLogger(__name__)

Found = Mapping[str, Any]
"""Products by name: a dataset, for scores one by scorer, None for held-out pairs where there are none."""
Report = Callable[[str, int, int], None]
"""Takes (stage, done, total) in the stage's unit."""


@dataclass(frozen=True)
class Stage:
    """One step of the chain.

    Attributes:
        gives: the product that it makes. Where several stages give the same, each works on what the one before gave.
        needs: products that must be there, in the order in which they are made.
        unit: what its progress counts.
        make: makes it, or finds it in the store.
    """

    name: str
    gives: str
    needs: Callable[[Plan], tuple[str, ...]]
    unit: str
    make: Callable[[Plan, Found, Report], Any]


def _told(report: Report, stage: str) -> Callable[..., None]:
    """The progress of a stage as the stages give it: done, total and perhaps bytes."""
    return lambda done, total, *_: report(stage, done, total)


def _ingest(plan: Plan, found: Found, report: Report) -> Dataset:
    from pipeline_lib.data.ingest import ingest

    return ingest(plan.store, plan.ingest, _told(report, "ingest"))


def _hold_out(plan: Plan, found: Found, report: Report) -> Dataset | None:
    from pipeline_lib.data.ingest import ingest
    from pipeline_lib.evaluation.implicit import check_unseen

    config = held_out_pairs(plan.preset, found["pairs"].config["source"], plan.scorer_source)
    if config is None:
        return None
    pairs = ingest(plan.store, config, _told(report, "hold-out"))
    check_unseen(pairs, [found["pairs"]])
    return pairs


def _score(plan: Plan, found: Found, report: Report) -> dict[str, Dataset]:
    from pipeline_lib.scoring import score

    wanted = [*dict.fromkeys([*plan.scorers, *plan.label_scorers()])]
    return score(
        plan.store,
        wanted,
        found["pairs"],
        plan.scorer_source,
        _told(report, "score"),
        plan.device,
    )


def _agree(plan: Plan, found: Found, report: Report) -> Dataset:
    from pipeline_lib.agreement import agreement

    return agreement(plan.store, found["pairs"], {name: found["scores"][name] for name in plan.scorers})


def _self_train(plan: Plan, found: Found, report: Report) -> dict[str, Dataset]:
    """The scores, with those of models trained here where the recipe reads them: for each fold of prompts one, by
    Diffusion-DPO on the human labels that the recipe reveals of the others."""
    from pipeline_lib.chain.run import products
    from pipeline_lib.training.implicit import judge_pairs

    scores = found["scores"]
    if SELF_TRAINING in scores or not reads_self_training(plan.recipe):
        return dict(scores)
    own = replace(plan.train, method="diffusion-dpo", reference_refresh=0, flip_rate=0.0, sample_every=0)
    models = []
    for fold in fold_recipes(plan.recipe):
        there = {name: found[name] for name in ("pairs", "scores", "encoded")}
        models.append(products(replace(plan, recipe=fold, train=own), "model", report, there)["model"])
    judged = judge_pairs(plan.store, models, found["encoded"], found["pairs"], plan.judge, _told(report, "self-train"))
    return {**scores, SELF_TRAINING: judged}


def _label(plan: Plan, found: Found, report: Report) -> Dataset:
    from pipeline_lib.labels.recipe import build_labels

    needed = required_scorers(plan.recipe)
    scores = {name: found["scores"][name] for name in needed}
    return build_labels(plan.store, plan.recipe, found["pairs"], scores, _told(report, "label"))


def _encode(plan: Plan, found: Found, report: Report) -> Dataset:
    from pipeline_lib.encoding.stage import encode

    return encode(plan.store, plan.base, plan.encode, found["pairs"], _told(report, "encode"))


def _train(plan: Plan, found: Found, report: Report) -> Dataset:
    from pipeline_lib.sizing.forecast import of_datasets
    from pipeline_lib.training.launch.job import model_writer, train

    encoded, labels = found["encoded"], found["labels"]
    there = model_writer(plan.store, plan.base, plan.train, encoded, labels).finished()
    if there is None and (expected := of_datasets(plan.base, plan.train, encoded, labels)):
        logger.info("train: %s", expected.words())
        if warning := expected.warning():
            logger.warning("%s", warning)
    plan.scratch.mkdir(parents=True, exist_ok=True)
    return train(
        plan.store,
        plan.base,
        plan.train,
        encoded,
        labels,
        plan.scratch,
        on_metrics=lambda record: report("train", int(record["step"]), plan.train.steps),
        processes=plan.processes,
        sharding=plan.sharding,
    )


def _evaluate(plan: Plan, found: Found, report: Report) -> Dataset:
    from pipeline_lib.core.names import model_name
    from pipeline_lib.evaluation import evaluate
    from pipeline_lib.generation.pull import pull_commands
    from pipeline_lib.models.origin import check_base
    from pipeline_lib.training.launch.job import read_metrics

    model: Dataset = found["model"]
    check_base(model, plan.base)
    name = model_name(plan.preset, model.config["train"]["method"])
    return evaluate(
        plan.store,
        {"base": None, name: model},
        plan.base,
        plan.evaluate,
        plan.scorers,
        plan.scorer_source,
        [found["pairs"]],
        _told(report, "evaluate"),
        metrics={name: read_metrics(model)},
        pull={name: pull_commands(f"models:/{name}@candidate", plan.evaluate)},
        title=f"{name} against base",
        held_out=found["held_out"],
        agreement=found["agreement"],
        device=plan.device,
    )


def _always(*needs: str) -> Callable[[Plan], tuple[str, ...]]:
    return lambda plan: needs


def _for_self_training(plan: Plan) -> tuple[str, ...]:
    return ("pairs", "scores", "encoded") if reads_self_training(plan.recipe) else ("pairs", "scores")


STAGES: tuple[Stage, ...] = (
    Stage("ingest", "pairs", _always(), "rows", _ingest),
    Stage("hold-out", "held_out", _always("pairs"), "rows", _hold_out),
    Stage("score", "scores", _always("pairs"), "shards", _score),
    Stage("agree", "agreement", _always("pairs", "scores"), "scorers", _agree),
    Stage("encode", "encoded", _always("pairs"), "shards", _encode),
    Stage("self-train", "scores", _for_self_training, "pairs", _self_train),
    Stage("label", "labels", _always("pairs", "scores"), "steps", _label),
    Stage("train", "model", _always("labels", "encoded"), "steps", _train),
    Stage("evaluate", "evaluation", _always("pairs", "held_out", "agreement", "model"), "images", _evaluate),
)
"""In the order in which they come; a new stage is one entry."""
