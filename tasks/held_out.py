"""Held-out pairs, looked at as soon as it is known what was trained on."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task

from pipeline_lib.core.store import open_dataset
from pipeline_lib.evaluation.implicit import check_unseen
from tasks.settings import IO_TASK


@task(name="check-held-out", **IO_TASK)
def check_held_out(heldout: str, pairs: Sequence[str]) -> None:
    """Refuse held-out pairs (URI of an ingest) that share all prompts with the training `pairs`: hours later nothing
    could be measured on them."""
    check_unseen(open_dataset(heldout), [open_dataset(uri) for uri in pairs])
