"""`agreement`: how far scorers agree with people and with each other."""

from __future__ import annotations

from prefect import flow

from flows.ingest import ingest as ingest_flow
from flows.score import score
from pipeline_lib.chain.given import check_given
from pipeline_lib.core.code import recomputing
from pipeline_lib.presets import PresetName
from pipeline_lib.presets import preset as find_preset
from tasks.agreement import agreement as agreement_task
from tasks.fields import Count, Location, Names, ScoreUris, SourceLocation, Text
from tasks.outcome import Outcome
from tasks.parameters import described
from tasks.run_names import flow_run_name
from tasks.settings import store_url
from tasks.values import IngestSettings


@flow(name="agreement", flow_run_name=flow_run_name)
@described
def agreement(
    preset: PresetName = "shapes",
    source: SourceLocation | None = None,
    split: Text | None = None,
    limit: Count | None = None,
    ingest: IngestSettings | None = None,
    scorers: Names | None = None,
    weights: Location | None = None,
    pairs: Location | None = None,
    scores: ScoreUris | None = None,
    store: Location | None = None,
    force: bool = False,
) -> Outcome:
    """Report accuracy against human labels, agreement with each other, ties, and the pairs scorers dispute most.

    Args:
        scorers: Reward models to compare; those without an entry in `scores` are run.
        scores: URIs of score datasets by scorer, of `score` or `import-scores`; compared besides `scorers`.
    """
    found = dict(scores or {})
    wanted = scorers or ([] if found else list(find_preset(preset).scorers))
    missing = [name for name in wanted if name not in found]
    check_given(scorers=missing, scores=found, weights=weights, pairs=pairs)
    with recomputing(force):
        pairs = pairs or ingest_flow(preset, source, split, limit, ingest=ingest, store=store).uri
        if missing:
            outcomes = score(preset, scorers=missing, weights=weights, pairs=pairs, store=store)
            found |= {name: outcome.uri for name, outcome in outcomes.items()}
        return agreement_task(store_url(store), pairs, found)
