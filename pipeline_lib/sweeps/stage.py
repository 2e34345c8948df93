"""Stage "sweep": what all models of a sweep achieved, and what can be concluded from it.

Images, their scores and implicit rewards are datasets of their own, one per model; here they are found or made, and
read one model at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline_lib.core import store
from pipeline_lib.core.config import BaseModel, EvaluateConfig
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.identity import identity
from pipeline_lib.core.registry import unknown_name
from pipeline_lib.core.resident import release
from pipeline_lib.core.store import Dataset
from pipeline_lib.data.prompts import prompt_id
from pipeline_lib.evaluation.implicit import implicit_rewards, judged_by_prompt, trained_prompts
from pipeline_lib.evaluation.scores import open_judging, score_generated
from pipeline_lib.evaluation.stage import find_leaks
from pipeline_lib.generation.prompts import PromptSet, load_prompts
from pipeline_lib.generation.stage import generate
from pipeline_lib.scoring import identities as scorer_identities
from pipeline_lib.sweeps.further import labelled, made_from, trained
from pipeline_lib.sweeps.measures import measure_of
from pipeline_lib.sweeps.outcomes import Scores, Values, judged, read_scores, table
from pipeline_lib.sweeps.plan import Cell, in_keys
from pipeline_lib.sweeps.question import Question
from pipeline_lib.sweeps.report import render
from pipeline_lib.sweeps.summary import judging_settings, summary

STAGE = "sweep"
VERSION = 1
OUTCOMES = "outcomes.parquet"
REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainedCell:
    """A cell's model (dataset of stage "model"), and the pipeline it was trained from."""

    cell: Cell
    model: Dataset
    base: BaseModel


@dataclass(frozen=True)
class Evidence:
    """The datasets that one model's outcomes are read from; `rewards` where implicit accuracy is asked for."""

    images: Dataset
    scores: Dataset
    rewards: Dataset | None = None


def sweep(
    root: str,
    question: Question,
    models: Sequence[TrainedCell],
    mirror: str,
    held_out: Dataset | None = None,
    progress: Progress | None = None,
    *,
    device: str = "auto",
) -> Dataset:
    """Judge all models of a sweep and conclude.

    Every model is compared with the pipeline it was trained from. Prompts that occur in the training pairs of any
    model are left out for all of them.

    Args:
        root: the store's URL.
        models: one for each cell of the question.
        mirror: where the scorers' weights come from.
        held_out: the ingest of pairs nobody trained on, for `implicit` and the prompt set "heldout".
        progress: called with (models read, models).
        device: as of `evaluation.evaluate`: where what is not in the store yet is made.

    Returns:
        A dataset with `outcomes.parquet` (`outcomes.SCHEMA`), `report.json` (see `summary`) and `report.html`.

    Raises:
        ConfigError, UnknownNameError: a measure that these models cannot have.
        EvaluationError: every prompt was trained on, or a score is not finite.
    """
    config, measures = question.judging, [measure_of(name) for name in question.measures]
    prompts = load_prompts(config.prompts, config.num_prompts, held_out)
    labels = {one.model.digest: made_from(one.model, "labels") for one in models}
    pairs = {found.digest: found for found in (made_from(one, "ingest") for one in labels.values())}
    leaks = find_leaks(prompts, list(pairs.values()))
    kept = {prompt_id(prompt) for prompt in prompts.prompts if prompt not in leaks}
    judges = scorer_identities(question.scorers, mirror, device)
    check_held_out(question, held_out)

    def evidence(model: Dataset | None, base: BaseModel) -> Evidence:
        images = generate(root, model, base, prompts, config, device=device)
        scores = score_generated(open_judging(root, images, prompts, judges), mirror, device)
        if model is None or held_out is None or not question.wants("implicit"):
            return Evidence(images, scores)
        return Evidence(images, scores, implicit_rewards(root, model, base, held_out, config))

    bases = {base: evidence(None, base) for base in dict.fromkeys(one.base for one in models)}
    found = {one.model.digest: evidence(one.model, one.base) for one in models}
    release()
    about = _about(question, judges, prompts, next(iter(bases.values())).images)
    every = [*bases.values(), *found.values()]
    inputs = [*(one.model for one in models), *labels.values(), *(one.scores for one in every)]
    inputs += [one.rewards for one in every if one.rewards] + ([held_out] if held_out and _uses(question) else [])
    unique = list({dataset.uri: dataset for dataset in inputs}.values())
    images_at_once = {"batch_size": about["judging"]["batch_size"]}  # not the setting of that name
    asked = [{**one, "parameters": in_keys(one["parameters"])} for one in about["settings"]]
    key = {**about, "judging": {**identity(about["judging"], EvaluateConfig), **images_at_once}, "settings": asked}
    inputs = [*unique, *pairs.values()]
    writer = store.writer(root, STAGE, VERSION, about, inputs, identity=key, modules=[__name__])
    if finished := writer.finished():
        return finished

    columns = {name: who["column"] for name, who in judges.items()}
    seen = trained_prompts(held_out, pairs.values()) if held_out and question.wants("implicit") else set()
    base_scores = {base: read_scores(one.scores, columns, kept) for base, one in bases.items()}

    def values(one: TrainedCell) -> dict[str, Values]:
        mine = found[one.model.digest]
        scores: Scores = read_scores(mine.scores, columns, kept)
        measured = judged(scores, base_scores[one.base], measures, config.tie_spread)
        for measure in question.wants("implicit"):
            if mine.rewards and held_out:
                measured[measure.name] = judged_by_prompt(mine.rewards, held_out, seen, measure.of or None)
        return measured | trained(one.model, measures) | labelled(labels[one.model.digest], measures)

    rows = []
    for number, one in enumerate(models, start=1):
        rows.append((one.cell.setting.name, one.cell.seed, values(one)))
        if progress:
            progress(number, len(models))
    outcomes = table(rows)
    about["prompts"] = {
        "name": prompts.name,
        "digest": prompts.digest,
        "used": len(kept),
        "leaked": list(leaks),
    }
    report = summary(question, about, outcomes, [(one.cell, one.model) for one in models], unique)
    shards = [
        writer.write_table(OUTCOMES, outcomes.to_arrow()),
        writer.write_bytes(REPORT_JSON, json.dumps(report, indent=1, allow_nan=False).encode()),
        writer.write_bytes(REPORT_HTML, render(report).encode()),
    ]
    return writer.commit(shards, {"models": len(models), "prompts": len(kept), "leaked_prompts": len(leaks)})


def check_held_out(question: Question, held_out: Dataset | None) -> None:
    """Refuse to measure implicit rewards without pairs, or on pairs by a generator that made none of them.

    Raises:
        ConfigError, UnknownNameError: that is asked for.
    """
    wanted = question.wants("implicit")
    if not wanted:
        return
    if held_out is None:
        raise ConfigError(
            "The accuracy of implicit rewards is measured on held-out pairs, and there are none.",
            "Give `heldout`, an ingest dataset of another split, or leave the measures `implicit` out.",
        )
    pairs = held_out.scan("pairs").select("model_0", "model_1").unique().collect()
    known = sorted({str(name) for side in pairs.columns for name in pairs[side].unique() if name})
    for measure in wanted:
        if measure.of and measure.of not in known:
            raise unknown_name(f"generator in the measure {measure.name!r},", measure.of, known)


def read_report(dataset: Dataset) -> dict[str, Any]:
    """The numbers of a sweep dataset."""
    with dataset.open(REPORT_JSON) as file:
        return dict(json.load(file))


def _about(
    question: Question, judges: Mapping[str, Mapping[str, Any]], prompts: PromptSet, images: Dataset
) -> dict[str, Any]:
    """The parts of the report that are the question; with the inputs they decide it."""
    claim = question.claim
    return {
        "title": question.title,
        "claim": {
            "title": claim.title,
            "sources": list(claim.sources),
            "says": claim.says,
            "miniature": claim.miniature,
            "findings": [asdict(finding) for finding in claim.findings],
        }
        if claim
        else None,
        "preset": question.preset,
        "seeds": list(question.seeds),
        "image_seeds": list(question.judging.seeds),
        "reference": question.reference,
        "judging": judging_settings(question, prompts.name, images.config["batch_size"]),
        "scorers": {name: {k: v for k, v in who.items() if k != "scorer"} for name, who in judges.items()},
        "measures": list(question.measures),
        "settings": [{"name": one.name, "parameters": one.resolved(question.preset)} for one in question.settings],
    }


def _uses(question: Question) -> bool:
    return bool(question.wants("implicit"))
