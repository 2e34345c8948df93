"""DeDPO's bookkeeping by Monte Carlo: what the label table's estimate of the fully labelled loss is on average.

The population is fixed, with all human labels known; which quarter of them is revealed is drawn again in every run.
The model under training is a fixed logit per pair that has learnt something about people. Effect sizes, as a share of
the fully labelled loss (measured with these seeds; a standard error is 2 to 3%):

    annotator              DeDPO    naive mix
    good                    2%        94%
    weak                    2%       175%
    adversarial             0%       284%
    isotonic, cross-fitted  5%        -
    isotonic on its own    25%        -
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.labels.calibration import FITS
from pipeline_lib.training.losses import Pairs, dedpo
from tests.pipeline_lib.labels.tables import label, random_frame

CONFIG = TrainConfig(method="dedpo", beta=2.0)  # so that z = ell


def logits(table: pl.DataFrame, seed: int = 5) -> np.ndarray:
    return 3 * (table["human"].to_numpy() - 0.5) + np.random.default_rng(seed).normal(size=len(table))


def cross_entropy(logit: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, logit) - target * logit


def dedpo_estimate(labels: pl.DataFrame, logit: np.ndarray) -> float:
    """The trainer's loss over the whole label table."""
    columns = labels.select(
        "target", pl.col("is_human").cast(pl.Float32), pl.col("human").fill_null(0.0), "g_hat", "weight"
    )
    target, is_human, human, g_hat, weight = torch.from_numpy(columns.to_numpy().T.astype(np.float64).copy())
    policy = torch.stack([-torch.from_numpy(logit), torch.zeros(len(logit), dtype=torch.float64)])
    losses, _ = dedpo(
        Pairs(
            policy=policy,
            reference=torch.zeros_like(policy),
            target=target,
            annotators=torch.zeros(0, *policy.shape),
            is_human=is_human,
            human=human,
            g_hat=g_hat,
            flipped=torch.zeros_like(target),
            weight=weight,
            labelled_share=float(is_human.mean()),
        ),
        CONFIG,
    )
    return float((weight * losses).mean())


def annotators(n: int) -> pl.DataFrame:
    """`good` and `weak` see the utility through noise, `adversarial` is wrong as often as `good` is right."""
    table = random_frame(n, seed=3, good=0.3, weak=3.0, adversarial=0.3)
    return table.with_columns(-pl.col("d_adversarial"))


@pytest.mark.parametrize(("annotator", "naive_bias"), [("good", 0.5), ("weak", 1.0), ("adversarial", 2.5)])
def test_dedpo_is_unbiased_whatever_the_annotator_and_the_naive_mix_is_not(annotator: str, naive_bias: float) -> None:
    table, runs = annotators(400), 100
    logit = logits(table)
    full = cross_entropy(logit, table["human"].to_numpy()).mean()

    def recipe(seed: int, last: str) -> list[Any]:
        return [{"reveal": 0.25, "seed": seed}, {"pseudo_label": annotator, "calibrate": "none"}, last]

    debiased, naive = [], []
    for seed in range(runs):
        labels, counts = label(table, recipe(seed, "dedpo"))
        assert (counts["n_l"], counts["n_u"]) == (100, 300)
        debiased.append(dedpo_estimate(labels, logit))
        mixed, _ = label(table, recipe(seed, "mix"))
        naive.append(cross_entropy(logit[mixed["i"].to_numpy()], mixed["target"].to_numpy()).mean())
    error = np.std(debiased) / np.sqrt(runs)
    assert abs(np.mean(debiased) - full) < 3 * error
    assert error < 0.04 * full, "precise enough to see a bias"
    assert np.mean(naive) - full > naive_bias * full
    assert np.mean(naive) - full > 10 * np.std(naive) / np.sqrt(runs)


def test_labels_that_correct_themselves_bias_the_estimate_and_cross_fitted_ones_do_not() -> None:
    table, runs = random_frame(80, seed=3, scorer=1.0), 300
    human, logit = table["human"].to_numpy(), logits(table)
    full = cross_entropy(logit, human).mean()
    x = table["d_scorer"].to_numpy()
    x = x / np.sqrt(np.mean(x**2))
    fitted, own = [], []
    for seed in range(runs):
        recipe = [{"reveal": 0.25, "seed": seed}, {"pseudo_label": "scorer", "calibrate": "isotonic"}, "dedpo"]
        labels, _ = label(table, recipe)
        fitted.append(dedpo_estimate(labels, logit))
        known = labels["is_human"].to_numpy()
        itself = FITS["isotonic"](x[known], human[known])(x)  # the same calibration, fitted on what it will correct
        own.append(dedpo_estimate(labels.with_columns(pl.Series("g_hat", itself, pl.Float32)), logit))
    errors = [np.std(values) / np.sqrt(runs) for values in (fitted, own)]
    assert abs(np.mean(fitted) - full) < 3 * errors[0]
    assert np.mean(own) - full > 6 * errors[1]
    assert np.mean(own) - full > 0.15 * full
