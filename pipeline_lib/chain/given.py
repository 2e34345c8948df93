"""What a flow was given, looked at before any stage runs: what cannot be used ends the flow in its first second."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from pipeline_lib.core import code
from pipeline_lib.core.config import require
from pipeline_lib.core.errors import ConfigError, DatasetUnfinishedError, HubError, ManifestError, StoreError, excerpt
from pipeline_lib.core.hub import check_mirror
from pipeline_lib.core.registry import unknown_name
from pipeline_lib.core.store import Dataset, open_dataset
from pipeline_lib.core.urls import local_path, place
from pipeline_lib.data.same_images import other_images
from pipeline_lib.generation.prompts import HELD_OUT, PROMPT_SETS, check_name, load_prompts
from pipeline_lib.models.names import MLFLOW_SCHEMES, check_base_name
from pipeline_lib.scoring.score_files import read_scores
from pipeline_lib.scoring.scorers import SCORERS

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
_OF_PAIRS = ("pairs", "labels", "encoded")
"""Those that are about the same pairs, with the scores; `heldout` is about others."""


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
        UnknownNameError, ConfigError: a name that there is not, a dataset of another stage, or some that were made of
            different pictures.
        TextFileError, SourceError, SchemaError: a file of prompts or scores that cannot be read.
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
    if prompts and prompts != HELD_OUT and (num_prompts or prompts not in PROMPT_SETS):
        with suppress(HubError):
            load_prompts(prompts, num_prompts)
    if file and "://" not in file:
        if not Path(place(file)).is_file():
            raise ConfigError(
                f"There is no file {excerpt(file)}.", "Give its whole path, as the worker's machine has it."
            )
        read_scores(file)
    for scorer in scorers or ():
        if scorer not in SCORERS:
            raise unknown_name("scorer", scorer, SCORERS.names())
    opened = {name: _check_dataset(name, uri, re.compile(STAGES[name])) for name, uri in datasets.items() if uri}
    for uri in models or ():
        _check_dataset("models", uri, re.compile(STAGES["models"]))
    for name, uri in (scores or {}).items():
        opened[f"scores, {excerpt(name)}"] = _check_dataset(f"scores, {excerpt(name)}", uri, SCORES)
    _check_images(opened)


def _check_images(opened: Mapping[str, Dataset | None]) -> None:
    """Refuse scores, labels and latents that were made of other pictures than the pairs, or than each other."""
    parts = [
        (name, part) for name, part in opened.items() if part and (name in _OF_PAIRS or name.startswith("scores"))
    ]
    for name, part in parts[1:]:
        problem = ""
        with suppress(StoreError):  # not to be reached at the moment
            problem = other_images(parts[0][1], part)
        if problem:
            raise ConfigError(
                f"{parts[0][0]} and {name} do not belong together: {problem}.", "Give datasets that one ingest led to."
            )


def _check_dataset(name: str, uri: str, stage: re.Pattern[str]) -> Dataset | None:
    """The dataset; None where its store cannot be reached at the moment."""
    try:
        found = open_dataset(uri)
    except (ConfigError, DatasetUnfinishedError, ManifestError) as error:
        raise type(error)(f"{name}: {error.problem}", error.remedy) from error
    except StoreError:
        return None
    require(
        bool(stage.fullmatch(found.stage)),
        f"{name}: {excerpt(uri)} is a dataset of the stage {found.stage}.",
        f"Give one of the stage {stage.pattern.replace('.+', '<scorer>')}.",
    )
    code.say_named(found.path(), found.code)
    return found
