"""`agreement`: how far scorers agree with people and with each other."""

from __future__ import annotations

from prefect import flow

from flows.ingest import ingest
from flows.score import score
from pipeline_lib.chain.given import check_given
from pipeline_lib.core.code import recomputing
from pipeline_lib.presets import PresetName
from pipeline_lib.presets import preset as find_preset
from tasks.agreement import agreement as agreement_task
from tasks.fields import Count, Location, Names, ScoreUris, SourceLocation, Text
from tasks.outcome import Outcome
from tasks.run_names import flow_run_name
from tasks.settings import store_url


@flow(name="agreement", flow_run_name=flow_run_name)
def agreement(
    preset: PresetName = "shapes",
    source: SourceLocation | None = None,
    split: Text | None = None,
    limit: Count | None = None,
    scorers: Names | None = None,
    weights: Location | None = None,
    pairs: Location | None = None,
    scores: ScoreUris | None = None,
    store: Location | None = None,
    force: bool = False,
) -> Outcome:
    """Report accuracy against human labels, agreement with each other, ties, and the pairs scorers dispute most.

    Args:
        preset: Settings to start from; empty fields below take its values.
        source: Source of pairs, when `pairs` is empty.
        split: Split to read, when `pairs` is empty.
        limit: At most this many source rows, when `pairs` is empty.
        scorers: Reward models to compare; those without an entry in `scores` are run.
        weights: Where reward-model checkpoints come from.
        pairs: URI of an ingest dataset; empty runs ingest.
        scores: URIs of score datasets by scorer, of `score` or `import-scores`; compared besides `scorers`.
        store: Dataset store; empty for the machine's default.
        force: Make again what other code made; the log says so where it is used. What is there stays.
    """
    found = dict(scores or {})
    wanted = scorers or ([] if found else list(find_preset(preset).scorers))
    missing = [name for name in wanted if name not in found]
    check_given(scorers=missing, scores=found, weights=weights, pairs=pairs)
    with recomputing(force):
        pairs = pairs or ingest(preset, source, split, limit, store=store).uri
        if missing:
            outcomes = score(preset, scorers=missing, weights=weights, pairs=pairs, store=store)
            found |= {name: outcome.uri for name, outcome in outcomes.items()}
        return agreement_task(store_url(store), pairs, found)
