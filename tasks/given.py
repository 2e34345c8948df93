"""What a flow was given, looked at before any stage runs: what cannot be used ends the flow in its first second."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from pipeline_lib.config import require
from pipeline_lib.errors import ConfigError, DatasetUnfinishedError, HubError, ManifestError, StoreError, excerpt
from pipeline_lib.evaluation.prompts import HELD_OUT, check_name, load_prompts
from pipeline_lib.hub import check_mirror
from pipeline_lib.models.names import check_base_name
from pipeline_lib.registry import unknown_name
from pipeline_lib.scoring.scorers import SCORERS
from pipeline_lib.store import absolute, open_dataset
from pipeline_lib.urls import local_path
from tasks.base import MLFLOW_SCHEMES

STAGES = {
    "pairs": "ingest",
    "heldout": "ingest",
    "labels": "labels",
    "encoded": "encoded",
    "model": "model",
    "models": "model",
    "evaluation": "evaluation",
    "agreement": "agreement",
}
"""Of which stage the dataset must be that a parameter names."""
SCORES = re.compile(r"scores-.+")


def check_given(
    *,
    base: str | None = None,
    weights: str | None = None,
    prompts: str | None = None,
    num_prompts: int | None = None,
    file: str | None = None,
    scorers: Iterable[str] | None = None,
    scores: Mapping[str, str] | None = None,
    models: Iterable[str] | None = None,
    **datasets: str | None,
) -> None:
    """Check parameters of a flow, by their names; those that are empty are not looked at.

    Storage that cannot be reached at the moment is left to the stages, which try again.

    Raises:
        UnknownNameError, ConfigError: a name that there is not, or a dataset of another stage.
        HubError: a mirror that there is not.
        CheckpointError: `base` is a folder whose weights cannot be used.
        DatasetUnfinishedError, ManifestError: no finished dataset under a URI, or one that cannot be read.
    """
    if base and not base.startswith(MLFLOW_SCHEMES):
        check_base_name(base)
        if (folder := local_path(base)).is_dir():
            from pipeline_lib.models.local import check_folder  # loads torch

            check_folder(folder.resolve())
    if weights:
        check_mirror(weights)
    if prompts:
        check_name(prompts)
    if prompts and num_prompts and prompts != HELD_OUT:
        with suppress(HubError):
            load_prompts(prompts, num_prompts)
    if file and "://" not in file and not Path(absolute(file)).is_file():
        raise ConfigError(f"There is no file {excerpt(file)}.", "Give its whole path, as the worker's machine has it.")
    for scorer in scorers or ():
        if scorer not in SCORERS.targets:
            raise unknown_name("scorer", scorer, SCORERS.names())
    for name, uri in datasets.items():
        if uri:
            _check_dataset(name, uri, re.compile(STAGES[name]))
    for uri in models or ():
        _check_dataset("models", uri, re.compile(STAGES["models"]))
    for name, uri in (scores or {}).items():
        _check_dataset(f"scores, {excerpt(name)}", uri, SCORES)


def _check_dataset(name: str, uri: str, stage: re.Pattern[str]) -> None:
    try:
        found = open_dataset(uri)
    except (ConfigError, DatasetUnfinishedError, ManifestError) as error:
        raise type(error)(f"{name}: {error.problem}", error.remedy) from error
    except StoreError:
        return
    require(
        bool(stage.fullmatch(found.stage)),
        f"{name}: {excerpt(uri)} is a dataset of the stage {found.stage}.",
        f"Give one of the stage {stage.pattern.replace('.+', '<scorer>')}.",
    )
