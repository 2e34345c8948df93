"""`sweep`: settings of `align` by training seeds, or a paper's claim; every model judged alike, and one report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger

from flows.encode import encode as encode_flow
from flows.evaluate import held_out
from flows.ingest import ingest as ingest_flow
from flows.paint import paint_and_judge
from flows.score import score
from flows.train import TRAINING_FLOWS
from pipeline_lib.chain.given import check_given
from pipeline_lib.core.code import recomputing
from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.errors import SweepError
from pipeline_lib.core.overrides import override
from pipeline_lib.generation.prompts import HELD_OUT
from pipeline_lib.presets import PresetName
from pipeline_lib.presets import preset as find_preset
from pipeline_lib.sweeps.claim import load
from pipeline_lib.sweeps.question import Question
from pipeline_lib.training.launch.job import Stopped
from pipeline_lib.training.launch.launcher import visible_gpus
from tasks import sweep_tracking, tracking
from tasks.base import base_model, checked_base
from tasks.fields import ClaimName, Count, FileLocation, Location, Names, Seeds, Text, Workers
from tasks.held_out import check_held_out
from tasks.locks import alone
from tasks.outcome import Outcome
from tasks.parameters import described
from tasks.progress import reporter
from tasks.run_names import flow_run_name
from tasks.runners import as_ended, as_finished
from tasks.settings import IO_TASK, store_url
from tasks.stopping import stopped_together
from tasks.sweep import Finished, Ready, check_sweep, conclude, encode_held_out, judge_held_out, plan_sweep
from tasks.values import EvaluateSettings, Grid, Setting, Settings

CELL_PARAMETERS = ("recipe", "steps", "learning_rate", "beta", "adapter", "train")
"""Of a training flow, those that a setting may have; what a cell reads is made by `upstream`."""


@dataclass(frozen=True)
class Inputs:
    """What a cell's training reads, made once for all cells that share it; and its base."""

    pairs: str
    scores: dict[str, str]
    encoded: str
    base: str | None
    model: BaseModel


@flow(name="sweep", flow_run_name=flow_run_name)
@described
def sweep(
    claim: ClaimName | None = None,
    preset: PresetName = "shapes",
    grid: Grid | None = None,
    settings: Settings | None = None,
    common: Setting | None = None,
    seeds: Seeds | None = None,
    reference: Text | None = None,
    measures: Names | None = None,
    prompts: FileLocation | None = None,
    num_prompts: Count | None = None,
    image_seeds: Seeds | None = None,
    evaluate: EvaluateSettings | None = None,
    weights: Location | None = None,
    heldout: Location | None = None,
    max_parallel: Workers | None = None,
    store: Location | None = None,
    force: bool = False,
) -> Outcome:
    """Train every setting with every seed, judge all models alike, and compare the settings, with intervals.

    A model that is in the store is not trained again. One that cannot be trained does not stop the others.

    Args:
        claim: A claim of a paper, by the name of its file in pipeline_lib/presets/claims, which gives settings, seeds,
            measures and the rule of the verdict; the fields grid and settings then stay empty.
        grid: Parameters of align with lists of values, such as {"beta": [250, 500]}; every combination is a setting.
            {"times": 2} is twice the preset's value, {"of_steps": 0.25} a quarter of the run's steps,
            {"with_steps": 1} the preset's value where the run is as long as the preset's, half of it in half the
            steps; "$seed" is the training seed.
        settings: Further settings by name, such as {"clean": {"recipe": "human"}, "noisy": {"recipe": "flip30"}}.
        common: Parameters of all settings that do not have their own, such as {"method": "dpo", "steps": 100}; of a
            claim's settings, too.
        seeds: Training seeds, two or more, for a claim three or more; empty for 0, 1, 2.
        reference: Setting that the others are compared with; empty for none, or the claim's.
        measures: What is measured of each model: win/<judge>, gain/<judge>, diversity, implicit, train/<metric>,
            labels/<count>; judges are scorers, true, average and quality. Empty for win and gain by every judge.
        image_seeds: Images per prompt, one for each seed; diversity needs two.
        heldout: URI of an ingest dataset of pairs that were not trained on, for the measures implicit; empty for the
            preset's, if it has any.
        max_parallel: Models trained at a time; empty for one with GPUs, else one per core.
    """
    room = max_parallel or (1 if visible_gpus() else len(os.sched_getaffinity(0)))
    check_given(prompts=prompts or (evaluate or {}).get("prompts"), weights=weights, heldout=heldout)
    chosen, tested = find_preset(preset), load(claim) if claim else None
    wanted = [*(measures or ()), *(tested.measures if tested else ())]
    implicit = any(name.partition("/")[0] == "implicit" for name in wanted)
    of_claim = {"seeds": tested.image_seeds} if tested and tested.image_seeds else {}
    given = {**of_claim, **(evaluate or {})}
    judging = override(chosen.evaluate, given, prompts=prompts, num_prompts=num_prompts, seeds=image_seeds or None)
    asked: dict[str, Any] = {"grid": grid, "settings": settings, "common": common}
    asked |= {"seeds": seeds, "reference": reference, "measures": measures}
    with recomputing(force):
        if heldout is None and (implicit or judging.prompts == HELD_OUT):
            base_versions(preset, check_sweep(preset, judging, chosen.scorers, tested, asked))
            heldout = held_out(preset, (common or {}).get("source"), weights, store)
        question, cells = plan_sweep(preset, judging, chosen.scorers, heldout, tested, asked)
        root, mirror = store_url(store), weights or chosen.weights
        with alone(f"sweep-{question.key}"):  # a second sweep of the same would fight over its MLflow run
            run_id = open_sweep(question)
            with tracking.closing(run_id):
                inputs = upstream(preset, cells, weights, store)
                if implicit and heldout:
                    check_held_out(heldout, list(dict.fromkeys(one.pairs for one in inputs)))
                models = train_all(question, cells, inputs, room, run_id, weights, store)
                bases = dict.fromkeys(one.base for one in models)
                contestants = [(None, base) for base in bases] + list({(one.model, one.base): None for one in models})
                pairs = list(dict.fromkeys(one.pairs for one in models))
                device = paint_and_judge(root, contestants, judging, question.scorers, mirror, pairs, heldout)
                if implicit and heldout:
                    for base in bases:
                        encode_held_out(root, base, heldout, judging)
                    tell = reporter("implicit", "models")
                    judged = list(dict.fromkeys((m.model, m.base) for m in models))
                    ended = as_finished(lambda one: judge_held_out.submit(root, *one, heldout, judging), judged, room)
                    for done, _ in enumerate(ended, start=1):
                        tell(done, len(judged))
                return conclude(root, question, models, mirror, heldout, device, run_id)


@task(name="open-sweep", **IO_TASK)
def open_sweep(question: Question) -> str:
    """The sweep's run in MLflow."""
    return sweep_tracking.open_sweep(question)


def upstream(preset: PresetName, cells: Sequence[Ready], weights: str | None, store: str | None) -> list[Inputs]:
    """Pairs, scores and encodings of every cell, each made once, after every base has been looked at."""
    bases = base_versions(preset, cells)
    pairs: dict[Any, str] = {}
    scores: dict[str, dict[str, str]] = {}
    encoded: dict[Any, str] = {}
    models: dict[str | None, BaseModel] = {}
    for source in dict.fromkeys(cell.source for cell in cells):
        pairs[source] = ingest_flow(preset, *source, store=store).uri
    for uri in dict.fromkeys(pairs.values()):
        needed = [name for cell in cells if pairs[cell.source] == uri for name in cell.scorers]
        names = list(dict.fromkeys(needed))
        outcomes = score(preset, scorers=names, weights=weights, pairs=uri, store=store) if names else {}
        scores[uri] = {name: outcome.uri for name, outcome in outcomes.items()}
    found = []
    for cell in cells:
        uri, base = pairs[cell.source], bases[cell.parameters.get("base")]
        if base not in models:
            models[base] = base_model(preset, base)
        flipped = cell.config.flip > 0 or None
        if (uri, base, flipped) not in encoded:
            encoded[uri, base, flipped] = encode_flow(preset, flipped=flipped, pairs=uri, base=base, store=store).uri
        own = {scorer: scores[uri][scorer] for scorer in cell.scorers}
        found.append(Inputs(uri, own, encoded[uri, base, flipped], base, models[base]))
    return found


def base_versions(preset: PresetName, cells: Sequence[Ready]) -> dict[str | None, str | None]:
    """Every base that a cell names, and its version, one for all cells even if an alias moves meanwhile.

    Raises:
        ConfigError: a base of a kind that is not known here, or without the timesteps that a cell trains.
    """
    versions: dict[str | None, str | None] = {}
    asked = {(cell.parameters.get("base"), cell.config.timestep_range): cell for cell in cells}
    for (name, _), cell in asked.items():
        versions[name] = checked_base(preset, versions.get(name, name), cell.config)
    return versions


def train_all(
    question: Question,
    cells: Sequence[Ready],
    inputs: Sequence[Inputs],
    room: int,
    run_id: str,
    weights: str | None,
    store: str | None,
) -> list[Finished]:
    """Every cell's model, `room` at a time, in the order of the cells.

    When this flow is told to stop, so are the trainers, which leave checkpoints; they are waited for.

    Raises:
        SweepError: some could not be trained; the others are.
    """
    tell, logger = reporter("sweep", "models"), get_run_logger()
    started: list[PrefectFuture[Finished]] = []
    found: dict[int, Finished] = {}
    failed: dict[str, list[str]] = {}

    def submit(number: int) -> PrefectFuture[Finished]:
        future = train_cell.submit(question, cells[number], inputs[number], run_id, weights, store)
        started.append(future)
        return future

    try:
        with stopped_together():
            for done, (number, future) in enumerate(as_ended(submit, range(len(cells)), room), start=1):
                try:
                    found[number] = future.result()
                except Exception as error:  # whatever it is, it is one model's; all are told below
                    logger.error("sweep: %s failed: %s", cells[number].cell.name, error)
                    failed.setdefault(str(error), []).append(cells[number].cell.name)
                tell(done, len(cells))
    except BaseException:
        for future in started:
            with suppress(Stopped):
                future.wait()
        raise
    if failed:
        listed = "\n".join(f"{'; '.join(names)}: {error}" for error, names in failed.items())
        raise SweepError(
            f"{len(cells) - len(found)} of {len(cells)} models could not be trained.\n{listed}",
            "Mend the cause and run the same sweep again: the models that are finished stay.",
        )
    return [found[number] for number in range(len(cells))]


@task(name="train-cell", task_run_name="{ready.cell.name}", cache_policy=NO_CACHE)
def train_cell(
    question: Question, ready: Ready, inputs: Inputs, run_id: str, weights: str | None, store: str | None
) -> Finished:
    """Train one cell by its method's flow, which finds it where it is in the store."""
    cell, given = ready.cell, ready.parameters
    with sweep_tracking.cell_run(run_id, question, cell) as own:
        trained = TRAINING_FLOWS[cell.setting.method](
            question.preset,
            seed=cell.seed,
            weights=weights,
            pairs=inputs.pairs,
            scores=inputs.scores,
            encoded=inputs.encoded,
            base=inputs.base,
            store=store,
            **{name: given.get(name) for name in CELL_PARAMETERS},
        )
        sweep_tracking.link_training(own, trained.run_id)
    return Finished(cell, trained.outcome.uri, inputs.model, inputs.pairs, own, trained.run_id)
