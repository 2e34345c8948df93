"""Adaptive-DPO against independent readings of paper and authors' code (adaptive_readings.py), and its properties."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.presets import PRESETS, alignment
from pipeline_lib.training import adaptive, losses
from pipeline_lib.training.losses import Pairs
from pipeline_lib.training.methods import load_loss
from tests.pipeline_lib.training import adaptive_readings as readings

BETA = 40.0
CONFIG = TrainConfig(method="adaptive-dpo", beta=BETA, k1=3.0)
UNIT = 2.0**-20
"""Errors are multiples of it, so that single precision subtracts them exactly."""
SIZES = [2, 4, 16, 33]


def drawn(n: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> Pairs:
    """n pairs under a policy and two footprints whose errors differ from the reference's by about a hundredth."""
    rng = np.random.default_rng([seed, n])
    reference = rng.uniform(0.05, 0.25, (2, n))
    models = reference + rng.normal(0, 0.01, (3, 2, n))
    errors = torch.from_numpy(np.round(np.stack([reference, *models]) / UNIT) * UNIT).to(dtype)
    ones = torch.ones(n, dtype=dtype)
    return Pairs(
        policy=errors[1].clone().requires_grad_(),
        reference=errors[0],
        target=torch.from_numpy(rng.integers(0, 2, n)).to(dtype),
        annotators=errors[2:],
        is_human=ones,
        human=ones,
        g_hat=ones,
        weight=ones,
        flipped=torch.zeros(n, dtype=dtype),
    )


def ells_of(given: Pairs) -> readings.Array:
    """ell of every model for the labelled winner, [3, n]."""
    errors = torch.cat([given.policy.detach()[None], given.annotators]).double().numpy()
    base, won = given.reference.double().numpy(), given.target.numpy()
    gaps = (errors[:, 1] - errors[:, 0]) - (base[1] - base[0])
    return np.asarray(np.where(won > 0.5, gaps, -gaps))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("offset", readings.OFFSETS)
@pytest.mark.parametrize("stability", readings.METRICS)
def test_metric_weight_margin_and_losses_are_those_of_the_reading(
    stability: Any, offset: Any, n: int, dtype: torch.dtype, tolerance: float
) -> None:
    config = replace(CONFIG, stability=stability, margin_offset=offset)
    for seed in range(3):
        given = drawn(n, seed, dtype)
        ells = ells_of(given)
        expected_u = readings.METRICS[stability](ells)
        near = {"rtol": tolerance, "atol": tolerance}
        u = adaptive.minority_metric(torch.from_numpy(ells).to(dtype), config.rho, stability)
        np.testing.assert_allclose(u.numpy(), expected_u, **near)
        np.testing.assert_allclose(adaptive.weight_of(u, config).numpy(), readings.weight(expected_u, 3), **near)
        gamma = adaptive.margin_of(u, torch.from_numpy(ells[0]).to(dtype), BETA / 2, config)
        np.testing.assert_allclose(gamma.numpy(), readings.margin(expected_u, ells[0], BETA / 2, offset), **near)
        dpo, stats = load_loss("adaptive-dpo")(given, config)
        assert dpo.dtype == dtype
        expected = readings.adaptive_dpo(ells, BETA / 2, 3, stability, offset)
        np.testing.assert_allclose(dpo.detach().numpy(), expected, **near)
        np.testing.assert_allclose(stats["weight_mean"], readings.weight(expected_u, 3).mean(), **near)
        ipo, _ = load_loss("adaptive-ipo")(given, config)
        np.testing.assert_allclose(ipo.detach().numpy(), readings.adaptive_ipo(ells, BETA / 2, 3, stability), **near)


def test_the_authors_u_is_many_times_that_without_rho() -> None:
    """Why the weights of one reading are no weights of another: what they are on the same errors."""
    ells = torch.from_numpy(ells_of(drawn(16)))
    authors, variance, unscaled = (adaptive.minority_metric(ells, 15.0, name) for name in readings.METRICS)
    assert (authors / unscaled).min() > 3
    torch.testing.assert_close(variance, 225 * unscaled)
    assert authors.max() <= 1 < variance.max()


@pytest.mark.parametrize("stability", readings.METRICS)
def test_u_is_zero_at_the_reference_and_where_all_models_agree(stability: Any) -> None:
    """The first step: every model is the reference. And footprints that are the policy, however wrong the label."""
    u = adaptive.minority_metric(torch.zeros(3, 4), 15.0, stability)
    assert u.tolist() == [0.0] * 4
    agreed = torch.tensor([-0.5, 0.25, 1.0, -1.0]).expand(4, 4)
    assert adaptive.minority_metric(agreed, 15.0, stability).tolist() == [0.0] * 4
    one_still = torch.stack([torch.tensor([-1.0, 1.0]), torch.zeros(2)])
    found = adaptive.minority_metric(one_still, 15.0, stability)
    assert found.isfinite().all()
    assert found[0] > found[1] > 0


@pytest.mark.parametrize("name", ["adaptive-dpo", "adaptive-ipo"])
@pytest.mark.parametrize("offset", readings.OFFSETS)
@pytest.mark.parametrize("stability", readings.METRICS)
def test_the_first_step_is_that_of_the_method_without_weights(stability: Any, offset: Any, name: str) -> None:
    given = drawn()
    first = replace(given, policy=given.reference.clone().requires_grad_(), annotators=given.reference.expand(2, 2, 6))
    config = replace(CONFIG, method=name, stability=stability, margin_offset=offset)
    plain = {"adaptive-dpo": losses.diffusion_dpo, "adaptive-ipo": losses.ipo}[name](first, config)[0]
    values, stats = load_loss(name)(first, config)
    torch.testing.assert_close(values, plain)
    assert (stats["u_mean"], stats["weight_mean"]) == (0, 1)
    (gradient,) = torch.autograd.grad(values.sum(), first.policy, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(plain.sum(), first.policy)[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_statistics_of_half_precision_predictions_are_single(dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(0)
    given = drawn(4, dtype=torch.float32)
    error = losses.pixel_error(torch.randn(8, 4, 8, 8, generator=rng).to(dtype), torch.zeros(8, 4, 8, 8, dtype=dtype))
    values, stats = load_loss("adaptive-dpo")(replace(given, policy=error.view(2, 4)), CONFIG)
    assert {values.dtype, *(value.dtype for value in stats.values())} == {torch.float32}


def test_a_single_pair_has_the_same_loss_whatever_its_errors_are() -> None:
    """Why `check_config` refuses batch_size=1: scale and offset of one pair are its own, which leaves only signs."""
    found = {round(load_loss("adaptive-dpo")(drawn(1, seed), CONFIG)[0].item(), 6) for seed in range(60)}
    assert len(found) == 3, "of three models none or all, one, or two disagree with the label"


def test_minority_metric_depends_neither_on_units_nor_on_batch_size() -> None:
    ells = torch.from_numpy(np.random.default_rng(1).normal(0, 1, (3, 8)))
    u = adaptive.minority_metric(ells, 15.0)
    torch.testing.assert_close(adaptive.minority_metric(ells * 1e-4, 15.0), u)
    torch.testing.assert_close(adaptive.minority_metric(ells.repeat(1, 4), 15.0)[:8], u)


WEIGHTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": np.ones_like,
    "linear": lambda u: 1 / (1 + 3 * u),
    "quadratic": lambda u: 1 / (1 + 3 * u**2),
    "sqrt": lambda u: 1 / (1 + 3 * np.sqrt(u)),
    "exp": lambda u: 1 / (1 + np.exp(3 * u)),
}
MARGINS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "none": lambda u, logits: np.zeros_like(u),
    "linear": lambda u, logits: -1 / (BETA / 2) * u + logits.mean(),
    "quadratic": lambda u, logits: -1 / (BETA / 2) * u**2 + logits.mean(),
}


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("reweighting", WEIGHTS)
@pytest.mark.parametrize("name", ["adaptive-dpo", "adaptive-ipo"])
def test_adaptive_losses_are_their_formulas_with_constant_weight_and_margin(
    name: str, reweighting: Any, margin: Any
) -> None:
    given = drawn()
    sign = np.where(given.target.numpy() > 0.5, 1.0, -1.0)
    ells = ells_of(given)
    u = readings.unscaled(ells)
    weight = WEIGHTS[reweighting](u)
    logits = BETA / 2 * ells[0] if name == "adaptive-dpo" else ells[0]
    gap = logits - MARGINS[margin](u, logits)
    if name == "adaptive-dpo":
        expected, slope = weight * np.log1p(np.exp(-gap)), -weight / (1 + np.exp(gap)) * BETA / 2
    else:
        off = gap - 1 / (2 * (BETA / 2))
        expected, slope = weight * off**2, 2 * weight * off
    config = replace(CONFIG, reweighting=reweighting, margin=margin)
    values, stats = load_loss(name)(given, config)
    np.testing.assert_allclose(values.tolist(), expected, rtol=1e-6)
    np.testing.assert_allclose(stats["u_mean"].item(), u.mean(), rtol=1e-6)
    # W and Gamma carry no gradient: the derivative by the errors is that of the logit alone.
    (gradient,) = torch.autograd.grad(values.sum(), given.policy)
    np.testing.assert_allclose(gradient[0].numpy(), -sign * slope, rtol=1e-6)
    np.testing.assert_allclose(gradient[1].numpy(), sign * slope, rtol=1e-6)


def test_the_page_has_every_reading_and_what_the_presets_take() -> None:
    page = (Path(__file__).parents[3] / "docs" / "adaptive-dpo.md").read_text()
    rows = [re.findall(r"`([^`]+)`", line) for line in page.splitlines() if line.startswith("| `")]
    choices = {name: get_args(get_type_hints(TrainConfig)[name]) for name in ("stability", "margin_offset")}
    explained = [row[0] for row in rows if row[0] not in (*choices, *PRESETS)]
    assert explained == [*choices["stability"], *choices["margin_offset"]]
    taken = {name: alignment(name, "adaptive").train for name in PRESETS}
    found = {row[0]: tuple(row[1:3]) for row in rows if row[0] in PRESETS}
    assert found == {name: (config.stability, config.margin_offset) for name, config in taken.items()}


def test_auroc_counts_ordered_pairs() -> None:
    score, flipped = torch.tensor([0.9, 0.1, 0.5, 0.5]), torch.tensor([1.0, 0.0, 0.0, 1.0])
    ordered, between = adaptive.auroc(score, flipped).tolist()
    assert (ordered, between) == (3.5, 4)  # 0.9 above both, 0.5 above 0.1, level with 0.5
    assert adaptive.auroc(score, torch.zeros(4)).tolist() == [0, 0]


def test_fifths_of_known_cases() -> None:
    """Ten pairs by score 0.1 to 1, two in each fifth."""
    order = torch.tensor([3, 9, 0, 5, 1, 7, 2, 8, 4, 6])
    score = (order + 1) / 10
    flipped = torch.tensor([0.0, 1, 0, 0, 0, 1, 0, 1, 0, 1])  # those of 0.7 to 1
    assert adaptive.in_fifths(score, flipped).tolist() == [[0, 2], [0, 2], [0, 2], [2, 2], [2, 2]]
    one = (order == 5).float()
    assert adaptive.in_fifths(score, one).tolist() == [[0, 2], [0, 2], [1, 2], [0, 2], [0, 2]]
    level = adaptive.in_fifths(torch.zeros(10), flipped)
    torch.testing.assert_close(level, torch.tensor([[0.8, 2.0]] * 5))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6, 7, 16, 33])
def test_fifths_of_any_batch_are_equal_parts_of_it(n: int) -> None:
    """Against 5n copies of the pairs in one line, of which each fifth has n."""
    rng = np.random.default_rng(n)
    score = rng.integers(0, 4, n) / 4 if n > 6 else rng.normal(size=n)
    flipped = rng.integers(0, 2, n).astype(float)
    found = adaptive.in_fifths(torch.tensor(score, dtype=torch.float32), torch.tensor(flipped, dtype=torch.float32))
    np.testing.assert_allclose(found[:, 1], n / 5, rtol=1e-6)
    mean = {value: flipped[score == value].mean() for value in set(score)}
    line = [mean[value] for value in np.repeat(np.sort(score), 5)]
    np.testing.assert_allclose(found[:, 0], np.array(line).reshape(5, n).sum(1) / 5, atol=1e-5)


def test_shares_of_flipped_pairs_by_fifth_are_metrics_where_flips_are_known() -> None:
    given = drawn()
    _, unknown = load_loss("adaptive-dpo")(given, CONFIG)
    assert not any(name.startswith("u_flipped") for name in unknown)
    flipped = torch.tensor([1.0, 0, 0, 1, 0, 0])
    known = replace(given, flipped=flipped, flips_known=True)
    values, stats = load_loss("adaptive-dpo")(known, CONFIG)
    total = sum(stats[f"u_flipped_{k}"] for k in range(1, 6))
    torch.testing.assert_close(total, torch.tensor([2.0, 6.0], dtype=total.dtype))
    torch.testing.assert_close(values, load_loss("adaptive-dpo")(given, CONFIG)[0])


@pytest.mark.parametrize(("name", "without_half"), [("sd15", 1000), ("sdxl", 2500)])
def test_presets_of_papers_without_the_half_are_converted(name: str, without_half: float) -> None:
    """Adaptive-DPO writes beta * ell; ours is 0.5 * beta * ell."""
    config = replace(alignment(name, "adaptive").train, reweighting="none", margin="none")
    given = drawn()
    sign = np.where(given.target.numpy() > 0.5, 1.0, -1.0)
    ell = sign * losses.preference(given.policy, given.reference).detach().numpy()
    values, _ = adaptive.adaptive_dpo(given, config)
    np.testing.assert_allclose(values.tolist(), np.logaddexp(0, -without_half * ell), rtol=1e-9)
