"""Evaluation: the same prompts and noise through every model, all scorers' verdicts with intervals, and a report."""

from pipeline_lib.evaluation.stage import evaluate

__all__ = ["evaluate"]
