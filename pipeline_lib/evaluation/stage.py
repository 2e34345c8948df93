"""Stage "evaluation": models compared on the same prompts and noise, by every scorer, with the report.

Images ("images", one dataset per model) and their scores ("image-scores") are datasets of their own, so the base is
painted and scored once, however many checkpoints are compared with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline_lib.core import schemas, store
from pipeline_lib.core.config import BaseModel, EvaluateConfig
from pipeline_lib.core.digest import digest
from pipeline_lib.core.errors import ConfigError, EvaluationError
from pipeline_lib.core.identity import identity
from pipeline_lib.core.registry import unknown_name
from pipeline_lib.core.resident import release
from pipeline_lib.core.store import Dataset, DatasetWriter, Shard
from pipeline_lib.data.prompts import prompt_id
from pipeline_lib.evaluation import report as reports
from pipeline_lib.evaluation.background import background
from pipeline_lib.evaluation.comparisons import compare_models
from pipeline_lib.evaluation.diversity import DIVERSITY
from pipeline_lib.evaluation.examples import Scored, choose
from pipeline_lib.evaluation.gate import Gate
from pipeline_lib.evaluation.implicit import (
    check_unseen,
    implicit_accuracy,
    judges_pairs,
    rewards_by_model,
    trained_prompts,
)
from pipeline_lib.evaluation.scores import KEYS, diversity_tower, open_judging, score_generated
from pipeline_lib.evaluation.unmoved import unmoved
from pipeline_lib.generation.prompts import PromptSet, leaked, load_prompts
from pipeline_lib.generation.stage import Progress, check_paintable, generate, open_painting, shard_path
from pipeline_lib.models.identity import base_identity
from pipeline_lib.reports import Curve
from pipeline_lib.scoring import SCORERS
from pipeline_lib.scoring import identities as scorer_identities

STAGE = "evaluation"
VERSION = 5
REPORT_JSON = "report.json"
REPORT_HTML = "report.html"


def evaluate(
    root: str,
    models: Mapping[str, Dataset | None],
    base: BaseModel,
    config: EvaluateConfig,
    scorers: Sequence[str],
    mirror: str,
    training_pairs: Sequence[Dataset] = (),
    progress: Progress | None = None,
    *,
    device: str = "auto",
    title: str | None = None,
    metrics: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    pull: Mapping[str, str] | None = None,
    champion: str | None = None,
    bases: Mapping[str, BaseModel] | None = None,
    held_out: Dataset | None = None,
    agreement: Dataset | None = None,
    reference: str | None = None,
    gated: bool = True,
    unchecked: Sequence[str] = (),
) -> Dataset:
    """Generate, score, compare and report.

    Args:
        root: the store's URL.
        models: name -> dataset of stage "model", or None for the base.
        base: the pipeline the models were trained from.
        scorers: names in `scoring.SCORERS`; `mirror` says where their weights come from (`hub.snapshot`).
        training_pairs: the ingest datasets that were trained on. Prompts that occur there are reported and left out
            of every number (their images stay in "images", which does not depend on what a model was trained on).
        progress: called with (images painted and images scored, the sum of both at the end).
        device: "cpu", "cuda", "cuda:1", ... or "auto", which takes CUDA when there is one.
        title: headline of the report.
        metrics: model name -> objects of its training's metrics.jsonl, drawn as curves.
        pull: model name -> text of the commands that fetch and use it.
        champion: which of `models` the gate compares the others with; None takes the base, or the first.
        bases: model name -> the pipeline it was trained from, where that is not `base`; of a model without a dataset,
            the pipeline that it is.
        reference: which of `models` the others are compared with; None takes the base, or the first.
        gated: whether to ask the gate before `@champion`.
        unchecked: names of the models whose training prompts are not known, for the report.
        agreement: the comparison of scorers with people (stage "agreement"), summed up in the report.
        held_out: the ingest dataset of pairs that no model was trained on: what the models' implicit rewards are
            measured on, and whose prompts the set "heldout" means.

    Returns:
        Table "" with one row per (model, prompt, seed): schemas.EVALUATION and one float32 column per scorer (named by
        `Located.column`), `true` among them where the prompt set knows the truth; `report.json` (its
        `win_rate[model][scorer]` is [point, low, high]; `average` is the scorers' average; `gate[model]` says whether
        the model could become the champion, and why; `implicit[model]` is what `implicit_accuracy` gives, of the
        models that this pipeline trained, where there are held-out pairs; `unmoved[model]` is what to say of one whose
        training did not move its weights); `report.html`.

    Raises:
        ConfigError, UnknownNameError: fewer than two models, two bases, no scorer, an unknown name, or a gate that
            is no share.
        EvaluationError: every prompt, or every held-out pair's, was trained on, or a model paints non-finite pixels.
        HubError, CheckpointError: the base, a model or a scorer cannot be loaded.
    """
    reference = _reference(models, reference, bases or {})
    rival = champion or reference
    if rival not in models:
        raise unknown_name("model as the champion", rival, list(models))
    Gate(config.gate_average, config.gate_scorer)
    if not scorers:
        raise ConfigError("An evaluation needs at least one scorer.", f"Choose from {', '.join(SCORERS.names())}.")
    prompts = load_prompts(config.prompts, config.num_prompts, held_out)
    leaks = find_leaks(prompts, training_pairs)
    owners = {name: (bases or {}).get(name, base) for name in models}
    if held_out and any(map(judges_pairs, models.values())):
        check_unseen(held_out, training_pairs)
    rewards = rewards_by_model(root, models, owners, held_out, config) if held_out else {}
    judges = scorer_identities(scorers, mirror, device)

    for name, model in models.items():
        check_paintable(open_painting(root, model, owners[name], prompts, config, device))

    images: dict[str, Dataset] = {}
    scored: dict[str, Dataset] = {}
    each = len(prompts.prompts) * len(config.seeds)
    total = 2 * len(models) * each
    for number, (name, model) in enumerate(models.items()):
        step = _shifted(progress, number * each, total)
        images[name] = generate(root, model, owners[name], prompts, config, device=device, progress=step)
    for number, name in enumerate(models, start=len(models)):
        step = _shifted(progress, number * each, total)
        judging = open_judging(root, images[name], prompts, judges)
        scored[name] = score_generated(judging, mirror, device, step)
    release()
    painted = images[reference].config
    tower = diversity_tower(scorers, images[reference])

    settings = {**_plain(config, gated, bool(rewards)), "prompts": prompts.name, "batch_size": painted["batch_size"]}
    curves = {name: reports.training_curves(rows) for name, rows in (metrics or {}).items()}
    about: dict[str, Any] = {
        "title": title or f"{', '.join(name for name in models if name != reference)} against {reference}",
        "reference": reference,
        "champion": champion,
        "settings": settings,
        "base": {**base_identity(base), "revision": base.revision},
        "scorers": {name: {k: v for k, v in who.items() if k != "scorer"} for name, who in judges.items()},
        "pull": dict(pull or {}),
    }
    drawn = digest({name: list(lines) for name, lines in curves.items()}, 16)
    question = {**about, "models": list(models), "curves": drawn, "categories": digest(list(prompts.categories), 16)}
    question["unchecked"] = list(unchecked)
    inputs = [*images.values(), *scored.values(), *rewards.values(), *training_pairs]
    inputs += [agreement] if agreement else []
    key = {**question, "settings": _identity(settings, gated), "base": identity(question["base"], BaseModel)}
    writer = store.writer(root, STAGE, VERSION, question, inputs, identity=key, modules=[__name__])
    if finished := writer.finished():
        return finished

    kept = {prompt_id(prompt) for prompt in prompts.prompts if prompt not in leaks}
    about["prompts"] = {
        "name": prompts.name,
        "digest": prompts.digest,
        "used": len(kept),
        "checked": bool(training_pairs),
        "unchecked": list(unchecked),
        "leaked": list(leaks),
    }
    about["statistics"] = reports.statistics_used(
        len(kept), config.tie_spread, tower, config.implicit_draws if rewards else 0
    )
    about["training_pairs"] = [{"uri": p.path(), "digest": p.digest} for p in training_pairs]
    about["models"] = {
        name: {"images": {"uri": data.path(), "digest": data.digest}, "weights": list(data.inputs)}
        for name, data in images.items()
    }
    seen = trained_prompts(held_out, training_pairs) if held_out else set()
    about["implicit"] = {name: implicit_accuracy(found, seen) for name, found in rewards.items()}
    if still := unmoved(models):  # left out elsewhere: a report keeps its digest
        about["unmoved"] = still
    about |= background(root, inputs)
    shards = [
        shard
        for number, name in enumerate(models)
        for shard in join_model(writer, number, name, images[name], scored[name], kept)
    ]
    categories = dict(zip(map(prompt_id, prompts.prompts), prompts.categories, strict=False))
    shards += write_reports(writer, about, images, scored, kept, curves, categories)
    return writer.commit(shards, {"prompts": len(kept), "leaked_prompts": len(leaks)})


def join_model(
    writer: DatasetWriter, number: int, name: str, images: Dataset, scores: Dataset, kept: set[str]
) -> list[Shard]:
    """Publish one model's rows of the evaluation table: images beside scores, prompts outside `kept` left out."""
    shards = []
    for index, (left, right) in enumerate(zip(images.tables(), scores.tables(), strict=True)):
        path = shard_path(number * len(images.tables()) + index)
        shard = writer.existing(path)
        if shard is None:
            table, columns = images.read(left), scores.read(right)
            table = table.append_column("model", pa.array([name] * table.num_rows))
            for column in columns.drop_columns(KEYS).column_names:
                table = table.append_column(column, columns[column])
            table = schemas.conform(_only(table, kept), schemas.EVALUATION, path)
            shard = writer.write_table(path, table, {"images": table.num_rows})
        shards.append(shard)
    return shards


def write_reports(
    writer: DatasetWriter,
    about: dict[str, Any],
    images: Mapping[str, Dataset],
    scored: Mapping[str, Dataset],
    kept: set[str],
    curves: Mapping[str, Sequence[Curve]],
    categories: Mapping[str, str],
) -> list[Shard]:
    """Compare every model with the reference, and the champion's challengers with the champion; publish `report.json`
    (`about` and the numbers) and `report.html`. `categories` maps prompt ids, where the prompt set has any."""
    reference = about["reference"]
    rows = {name: _only(pa.concat_tables(map(data.read, data.tables())), kept) for name, data in scored.items()}
    keys = list(zip(*(rows[reference][key].to_pylist() for key in KEYS), strict=True))
    ids = [prompt for prompt, _ in keys]
    spread = {name: table[DIVERSITY].to_numpy() for name, table in rows.items() if DIVERSITY in table.column_names}
    scorers = {who["column"]: scorer for scorer, who in about["scorers"].items()}
    sides = {
        name: Scored(
            name,
            images[name],
            {scorers.get(c, c): table[c].to_numpy() for c in table.column_names if c not in (*KEYS, DIVERSITY)},
        )
        for name, table in rows.items()
    }
    for name, side in sides.items():
        about["models"][name]["means"] = {c: float(np.mean(v, dtype=np.float64)) for c, v in side.scores.items()}
        if name in spread:
            about["models"][name]["diversity"] = float(np.mean(spread[name], dtype=np.float64))
    categories_of_rows = [categories[prompt] for prompt in ids] if categories else []
    about |= compare_models(sides, about, ids, categories_of_rows, spread)
    challengers = list(about["comparisons"])
    count = max(reports.EXAMPLES // len(challengers), 2)
    examples = {name: choose(sides[name], sides[reference], keys, count, categories) for name in challengers}
    return [
        writer.write_bytes(REPORT_JSON, json.dumps(about, indent=1, allow_nan=False).encode()),
        writer.write_bytes(REPORT_HTML, reports.render(about, examples, curves).encode()),
    ]


def _reference(models: Mapping[str, Dataset | None], reference: str | None, pipelines: Mapping[str, BaseModel]) -> str:
    bases = [name for name, model in models.items() if model is None and name not in pipelines]
    if len(models) < 2 or len(bases) > 1:
        raise ConfigError(
            "A comparison needs two or more models, at most one of them the base itself; got "
            f"{', '.join(models) or 'none'} ({len(bases)} of them the base).",
            'Give, for example, {"base": None, "aligned": <dataset of stage "model">}.',
        )
    if reference is not None and reference not in models:
        raise unknown_name("model as the reference", reference, list(models))
    return reference or (bases[0] if bases else next(iter(models)))


def find_leaks(prompts: PromptSet, training_pairs: Sequence[Dataset]) -> tuple[str, ...]:
    """The prompts that occur in the training pairs; raises EvaluationError when these are all."""
    found = {prompt for pairs in training_pairs for prompt in leaked(prompts.prompts, pairs)}
    leaks = tuple(prompt for prompt in prompts.prompts if prompt in found)
    if len(leaks) == len(prompts.prompts):
        raise EvaluationError(
            f"Every prompt of {prompts.name!r} also occurs in the training pairs "
            f"{', '.join(pairs.uri for pairs in training_pairs)}.",
            "Evaluate on prompts that were not trained on.",
        )
    return leaks


def _only(table: pa.Table, kept: set[str]) -> pa.Table:
    return table.filter(pa.array([row in kept for row in table["prompt_id"].to_pylist()], pa.bool_()))


def _plain(config: EvaluateConfig, gated: bool, judged: bool) -> dict[str, Any]:
    asked = {"gate_": gated, "implicit_": judged}
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}
    left_out = tuple(part for part, wanted in asked.items() if not wanted)
    return {key: value for key, value in settings.items() if not key.startswith(left_out)}


def _identity(settings: Mapping[str, Any], gated: bool) -> dict[str, Any]:
    """The settings as they stand in the key; the number of images at once is the images', not the setting's."""
    asked = {} if gated else {"gated": False}
    return {**identity(settings, EvaluateConfig), "batch_size": settings["batch_size"], **asked}


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    return (lambda done, _: progress(before + done, total)) if progress else None
