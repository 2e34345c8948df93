"""Every error a user can meet. A message says what is wrong and where; its last line says what to do."""

from __future__ import annotations

import reprlib
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict, _SHORT.maxtuple, _SHORT.maxstring = 3, 6, 6, 6, 120
EXCERPT = 300
"""Characters of a value that an error repeats."""


def excerpt(value: Any) -> str:
    """A value as an error repeats it: cut, however large or nested it is, and whatever is written in it."""
    if isinstance(value, int) and value.bit_length() > 512:
        return f"a whole number of {value.bit_length()} bits"
    text = _SHORT.repr(value)
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]}..."


class PipelineError(Exception):
    """Base of all errors raised on purpose.

    Args:
        problem: what is wrong, and where (file, row, parameter).
        remedy: what the user can do about it, as an imperative sentence.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n-> {self.remedy}"


class ConfigError(PipelineError, ValueError):
    """A parameter, preset or recipe that cannot be used as given."""


class UnknownNameError(ConfigError):
    """A registry was asked for a name it does not have."""


class StoreError(PipelineError):
    """The dataset store cannot be read or written."""


class DiskFullError(PipelineError):
    """A disk or quota is full: the store's, the checkpoints' or that of temporary files."""


class DatasetUnfinishedError(StoreError):
    """A dataset without a manifest was opened for reading."""


class DatasetCorruptError(StoreError):
    """A finished dataset that cannot be used: its files are not those that its manifest names."""


class ManifestError(DatasetCorruptError):
    """A manifest that is empty, cut, edited, of a newer format, another dataset's, or something else."""


class SourceError(PipelineError):
    """The source of preference pairs cannot be found or read."""


class UnreadableFileError(SourceError):
    """A source file that holds no readable pairs; ingest puts it into quarantine."""


class TextFileError(ConfigError, SourceError):
    """A file of prompts or scores that cannot be read: another encoding, or not the format that its name says."""


class UnreadableImageError(PipelineError, ValueError):
    """Bytes that are not a whole image in a supported format, or that exceed the bounds."""


class SchemaError(PipelineError, ValueError):
    """A table lacks a column, or has it with another type."""


class HubError(PipelineError):
    """A repository on the model hub cannot be reached, is gated, or lacks a file or revision."""


class CheckpointError(PipelineError):
    """Weights with missing, unexpected or misshapen keys, or an unreadable checkpoint file."""


class ScoringError(PipelineError):
    """The scoring engine cannot go on: its processes die, or its device is too small."""


class LabelError(PipelineError, ValueError):
    """A label recipe that does not fit the data, or labels that a method cannot use."""


class TrainingError(PipelineError):
    """The training process failed."""


class TrainingDivergedError(TrainingError):
    """The loss or the weights are no longer finite."""


class EvaluationError(PipelineError):
    """Models cannot be compared as asked."""


class SweepError(PipelineError):
    """Some models of a sweep could not be trained."""


class PublishError(PipelineError):
    """A result is not published, because nobody can say whether it is still wanted."""
