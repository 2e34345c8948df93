"""Losses and gradients against the papers' formulas, written out in float64 NumPy; trivial cases; symmetries."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.presets import alignment
from pipeline_lib.training import losses
from pipeline_lib.training.losses import Pairs
from pipeline_lib.training.methods import METHODS, load_loss

N = 6
BETA = 40.0
CONFIG = TrainConfig(method="diffusion-dpo", beta=BETA, k1=3.0)


def pairs(seed: int = 0, dtype: torch.dtype = torch.float64, hard: bool = False) -> Pairs:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(0.05, 0.25, shape)).to(dtype)

    target = rng.uniform(0, 1, N)
    human = (rng.uniform(0, 1, N) > 0.5).astype(float)
    return Pairs(
        policy=draw(2, N).requires_grad_(),
        reference=draw(2, N),
        target=torch.from_numpy(np.round(target) if hard else target).to(dtype),
        annotators=draw(2, 2, N),
        is_human=torch.tensor([1, 0, 0, 1, 0, 1], dtype=dtype),
        human=torch.from_numpy(human).to(dtype),
        g_hat=torch.from_numpy(rng.uniform(0, 1, N)).to(dtype),
        weight=torch.ones(N, dtype=dtype),
        flipped=torch.zeros(N, dtype=dtype),
        labelled_share=0.25,
    )


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_hand(formula: Callable[[float, float, float], float], given: Pairs) -> list[float]:
    """Expectation over the label of formula(ell of the winner, winner's error, loser's error), pair by pair."""
    policy, reference = given.policy.detach().numpy(), given.reference.numpy()
    out = []
    for i, target in enumerate(given.target.tolist()):
        values = []
        for win, lose in ((0, 1), (1, 0)):
            m_theta = policy[win, i] - policy[lose, i]
            m_ref = reference[win, i] - reference[lose, i]
            values.append(formula(-(m_theta - m_ref), policy[win, i], policy[lose, i]))
        out.append(target * values[0] + (1 - target) * values[1])
    return out


E_RATE = 0.2
FORMULAS: dict[str, Callable[[float, float, float], float]] = {
    "diffusion-dpo": lambda ell, win, lose: -math.log(sigmoid(BETA / 2 * ell)),
    "ipo": lambda ell, win, lose: (ell - 1 / (2 * (BETA / 2))) ** 2,
    "robust-dpo": lambda ell, win, lose: (
        (-(1 - E_RATE) * math.log(sigmoid(BETA / 2 * ell)) + E_RATE * math.log(sigmoid(-BETA / 2 * ell)))
        / (1 - 2 * E_RATE)
    ),
    "conservative-dpo": lambda ell, win, lose: (
        -(1 - E_RATE) * math.log(sigmoid(BETA / 2 * ell)) - E_RATE * math.log(sigmoid(-BETA / 2 * ell))
    ),
    "hinge": lambda ell, win, lose: max(0.0, 1 - BETA / 2 * ell),
    "sft-chosen": lambda ell, win, lose: win,
}


SLOPES: dict[str, Callable[[float], float]] = {
    "diffusion-dpo": lambda ell: -BETA / 2 * sigmoid(-BETA / 2 * ell),
    "ipo": lambda ell: 2 * (ell - 1 / BETA),
    "robust-dpo": lambda ell: (
        -BETA / 2 * ((1 - E_RATE) * sigmoid(-BETA / 2 * ell) + E_RATE * sigmoid(BETA / 2 * ell)) / (1 - 2 * E_RATE)
    ),
    "conservative-dpo": lambda ell: (
        BETA / 2 * (E_RATE * sigmoid(BETA / 2 * ell) - (1 - E_RATE) * sigmoid(-BETA / 2 * ell))
    ),
    "hinge": lambda ell: -BETA / 2 if BETA / 2 * ell < 1 else 0.0,
}
"""Derivatives of the formulas by ell; ell falls by 1 per unit of the winner's error and rises with the loser's."""


def gradient_by_hand(name: str, given: Pairs) -> np.ndarray:
    """Derivative of the summed loss by the policy's errors of images 0 and 1, [2, n]."""
    out = np.zeros((2, N))
    for win, lose, share in ((0, 1, given.target.numpy()), (1, 0, 1 - given.target.numpy())):
        if name == "sft-chosen":
            out[win] += share
            continue
        slopes = np.array(
            by_hand(lambda ell, *_: SLOPES[name](ell), replace(given, target=torch.full((N,), 1.0 - win)))
        )
        out[win] -= share * slopes
        out[lose] += share * slopes
    return out


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_loss_and_gradient_are_those_of_the_formula(name: str, hard: bool) -> None:
    given = pairs(hard=hard)
    values, _ = load_loss(name)(given, replace(CONFIG, flip_rate=E_RATE))
    np.testing.assert_allclose(values.detach().numpy(), by_hand(FORMULAS[name], given), rtol=1e-12)
    (gradient,) = torch.autograd.grad(values.sum(), given.policy)
    np.testing.assert_allclose(gradient.numpy(), gradient_by_hand(name, given), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", FORMULAS)
def test_loss_in_single_precision(name: str) -> None:
    """The trainer's precision."""
    given = pairs(dtype=torch.float32)
    exact = by_hand(FORMULAS[name], given)
    values, _ = load_loss(name)(given, replace(CONFIG, flip_rate=E_RATE))
    assert values.dtype == torch.float32
    np.testing.assert_allclose(values.detach().numpy(), exact, rtol=1e-5)


@pytest.mark.parametrize("name", [n for n in METHODS.names() if n not in ("dedpo", "adaptive-dpo", "adaptive-ipo")])
def test_swapping_the_images_changes_nothing(name: str) -> None:
    config, given = replace(CONFIG, flip_rate=E_RATE), pairs()
    swapped = replace(given, policy=given.policy.flip(0), reference=given.reference.flip(0), target=1 - given.target)
    torch.testing.assert_close(load_loss(name)(given, config)[0], load_loss(name)(swapped, config)[0])


@pytest.mark.parametrize("name", ["adaptive-dpo", "adaptive-ipo", "dedpo"])
def test_swapping_the_images_changes_nothing_with_history_and_synthetic_labels(name: str) -> None:
    given = pairs(hard=True)
    swapped = replace(
        given,
        policy=given.policy.flip(0),
        reference=given.reference.flip(0),
        annotators=given.annotators.flip(1),
        target=1 - given.target,
        human=1 - given.human,
        g_hat=1 - given.g_hat,
    )
    torch.testing.assert_close(load_loss(name)(given, CONFIG)[0], load_loss(name)(swapped, CONFIG)[0])


def test_policy_equal_to_reference_gives_ln_2() -> None:
    given = pairs()
    equal = replace(given, policy=given.reference.clone().requires_grad_())
    values, _ = losses.diffusion_dpo(equal, CONFIG)
    np.testing.assert_allclose(values.detach().numpy(), math.log(2))


def test_special_cases_reduce_to_dpo() -> None:
    given = pairs(hard=True)
    dpo = losses.diffusion_dpo(given, CONFIG)[0]
    plain = replace(CONFIG, reweighting="none", margin="none")
    torch.testing.assert_close(load_loss("adaptive-dpo")(given, plain)[0], dpo)
    ipo = losses.ipo(given, CONFIG)[0]
    torch.testing.assert_close(load_loss("adaptive-ipo")(given, plain)[0], ipo)
    torch.testing.assert_close(losses.robust_dpo(given, CONFIG)[0], dpo)
    torch.testing.assert_close(losses.conservative_dpo(given, CONFIG)[0], dpo)
    exact = replace(given, human=given.target, g_hat=given.target)
    torch.testing.assert_close(losses.dedpo(exact, CONFIG)[0], dpo)


def test_errors_are_reduced_in_fp32() -> None:
    prediction = torch.full((2, 4, 8, 8), 300.0, dtype=torch.float16)
    error = losses.pixel_error(prediction, torch.zeros_like(prediction))
    assert error.dtype == torch.float32
    assert error.tolist() == [90000.0, 90000.0]  # above fp16's largest number


@pytest.mark.parametrize("hard", [False, True])
def test_dedpo_is_the_two_term_objective_of_the_paper(hard: bool) -> None:
    given = pairs()
    given = replace(given, g_hat=given.g_hat.round() if hard else given.g_hat)
    values, stats = losses.dedpo(given, CONFIG)

    def bce(z: float, y: float) -> float:
        return -y * math.log(sigmoid(z)) - (1 - y) * math.log(sigmoid(-z))

    ell = losses.preference(given.policy, given.reference).tolist()
    expected, slope = [], []
    for i in range(N):
        z, g, human = BETA / 2 * ell[i], given.g_hat[i].item(), given.human[i].item()
        labelled = given.is_human[i].item()
        expected.append(bce(z, g) + labelled * (bce(z, human) - bce(z, g)) / 0.25)
        slope.append(sigmoid(z) - g - labelled * (human - g) / 0.25)
    np.testing.assert_allclose(values.tolist(), expected, rtol=1e-9)
    (gradient,) = torch.autograd.grad(values.sum(), given.policy)
    np.testing.assert_allclose(gradient[0].numpy(), -BETA / 2 * np.array(slope), rtol=1e-9)
    np.testing.assert_allclose(gradient[1].numpy(), BETA / 2 * np.array(slope), rtol=1e-9)
    assert stats["correction_size"] >= stats["correction"].abs()


def test_dedpo_is_unbiased_for_the_fully_labelled_loss_whatever_the_annotator_says() -> None:
    """Gradient of the mean loss over random choices of who is labelled, against DPO with every human label."""
    rng = np.random.default_rng(3)
    size, labelled, draws = 40, 10, 4000
    logits = torch.from_numpy(rng.normal(0, 0.02, size)).requires_grad_()
    human = torch.from_numpy((rng.uniform(size=size) < 0.7).astype(float))
    g_hat = torch.from_numpy(rng.uniform(0, 0.4, size))  # biased: mostly disagrees with the human labels

    def gradient(method: str, is_human: Tensor, target: Tensor) -> Tensor:
        zeros = torch.zeros(2, size, dtype=torch.float64)
        given = Pairs(
            policy=torch.stack([-logits, torch.zeros_like(logits)]),
            reference=zeros,
            target=target,
            annotators=zeros[None, :0],
            is_human=is_human,
            human=human,
            g_hat=g_hat,
            weight=torch.ones(size),
            flipped=torch.zeros(size),
            labelled_share=labelled / size,
        )
        return torch.autograd.grad(load_loss(method)(given, CONFIG)[0].mean(), logits)[0]

    total = torch.zeros(size, dtype=torch.float64)
    for _ in range(draws):
        mask = torch.zeros(size, dtype=torch.float64)
        mask[rng.choice(size, labelled, replace=False)] = 1
        total += gradient("dedpo", mask, human)
    truth = gradient("diffusion-dpo", torch.ones(size), human)
    naive = gradient("diffusion-dpo", torch.ones(size), g_hat)
    error = (total / draws - truth).abs().max()
    assert error < 0.1 * truth.abs().max()
    assert (naive - truth).abs().max() > 5 * error


@pytest.mark.parametrize(("name", "method", "beta"), [("sd15", "dpo", 5000), ("sdxl", "dpo", 5000)])
def test_presets_of_papers_with_the_half(name: str, method: str, beta: float) -> None:
    assert alignment(name, method).train.beta == beta
