"""Losses of preference alignment, as pure fp32 functions of per-image errors (reference/papers: Diffusion-DPO
2311.12908, BalancedDPO 2503.12575, DeDPO 2602.06195); Adaptive-DPO's are in adaptive.py.

Notation, for a pair of images 0 and 1 with one timestep and one noise:
    err_k   mean over C, H, W of (target - prediction)^2 for image k
    ell_01  = -((err_0 - err_1) - (ref_0 - ref_1)) > 0: the policy prefers image 0 more than the reference does
    ell     the same for (winner, loser): ell_01 where image 0 won, -ell_01 where image 1 won
    z       = 0.5 * beta * ell, the DPO logit (official convention; papers that write beta * ell mean half of our beta)

Labels are the probability `target` that image 0 wins. A loss f(ell) of a decided pair becomes its expectation
target * f(ell_01) + (1 - target) * f(-ell_01), which for DPO is the binary cross entropy of z. A tie (0.5) thus pulls
the logit towards zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from pipeline_lib.core.config import TrainConfig


@dataclass(frozen=True)
class Pairs:
    """Errors and labels of n pairs, fp32.

    Attributes:
        policy: errors of images 0 and 1 under the policy, [2, n]; carries the gradient.
        reference: the same under the reference, [2, n]; equal to `policy` detached for methods without one.
        target: probability that image 0 wins, [n].
        annotators: errors under the historical models of Adaptive-DPO, [m, 2, n].
        is_human: 1 where the pair has a human label, [n].
        human: that label, anything where there is none, [n].
        g_hat: the synthetic annotator's probability that image 0 wins, [n].
        weight: factor of the pair's loss, applied by the trainer, [n].
        flipped: 1 where the label was inverted on purpose, [n]; for the metrics only.
        labelled_share: n_l / (n_l + n_u) over the whole dataset.
        flips_known: some label of the dataset was inverted on purpose, so that `flipped` tells those from the others.
    """

    policy: Tensor
    reference: Tensor
    target: Tensor
    annotators: Tensor
    is_human: Tensor
    human: Tensor
    g_hat: Tensor
    weight: Tensor
    flipped: Tensor
    labelled_share: float = 1.0
    flips_known: bool = False


Loss: TypeAlias = Callable[[Pairs, TrainConfig], tuple[Tensor, dict[str, Tensor]]]
"""Loss of each pair [n], and statistics for the metrics: scalars, or [2] for a ratio (see metrics.py)."""


def pixel_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over all but the first dimension, in fp32."""
    return (prediction.float() - target.float()).square().flatten(1).mean(1)


def preference(errors: Tensor, reference: Tensor) -> Tensor:
    """ell_01 [..., n] from errors [..., 2, n]."""
    return -((errors[..., 0, :] - errors[..., 1, :]) - (reference[..., 0, :] - reference[..., 1, :]))


def orientation(target: Tensor) -> Tensor:
    """+1 where image 0 is the likelier winner, -1 where image 1 is, 0 for ties."""
    return torch.sign(target - 0.5)


def expectation(loss: Callable[[Tensor], Tensor], ell_01: Tensor, target: Tensor) -> Tensor:
    """Expected loss over who wins."""
    return target * loss(ell_01) + (1 - target) * loss(-ell_01)


def diffusion_dpo(pairs: Pairs, config: TrainConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """-log sigmoid(z) (Diffusion-DPO eq. 14, with the timestep weighting constant as in the authors' code)."""
    ell = preference(pairs.policy, pairs.reference)
    return expectation(lambda x: softplus(-0.5 * config.beta * x), ell, pairs.target), {}


def ipo(pairs: Pairs, config: TrainConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """(ell - 1 / (2 beta'))^2 on the unscaled logit; beta' = beta / 2, the factor of the DPO logit."""
    ell = preference(pairs.policy, pairs.reference)
    return expectation(lambda x: (x - 1 / config.beta).square(), ell, pairs.target), {}


def robust_dpo(pairs: Pairs, config: TrainConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """[-(1 - e) log sigmoid(z) + e log sigmoid(-z)] / (1 - 2e): unbiased for DPO when a share e is flipped."""
    e = config.flip_rate

    def loss(x: Tensor) -> Tensor:
        z = 0.5 * config.beta * x
        return ((1 - e) * softplus(-z) - e * softplus(z)) / (1 - 2 * e)

    return expectation(loss, preference(pairs.policy, pairs.reference), pairs.target), {}


def conservative_dpo(pairs: Pairs, config: TrainConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """-(1 - e) log sigmoid(z) - e log sigmoid(-z): label smoothing by the assumed flip rate e."""
    e = config.flip_rate

    def loss(x: Tensor) -> Tensor:
        z = 0.5 * config.beta * x
        return (1 - e) * softplus(-z) + e * softplus(z)

    return expectation(loss, preference(pairs.policy, pairs.reference), pairs.target), {}


def hinge(pairs: Pairs, config: TrainConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """max(0, 1 - z)."""
    ell = preference(pairs.policy, pairs.reference)
    return expectation(lambda x: torch.relu(1 - 0.5 * config.beta * x), ell, pairs.target), {}


def sft_chosen(pairs: Pairs, config: TrainConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """err of the winner: supervised fine-tuning on chosen images, without a reference."""
    return pairs.target * pairs.policy[0] + (1 - pairs.target) * pairs.policy[1], {}


def dedpo(pairs: Pairs, config: TrainConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """Debiased DPO: E over all of L(z, g_hat) + E over labelled of [L(z, human) - L(z, g_hat)], L = cross entropy.

    A labelled pair's correction carries (n_l + n_u) / n_l, so the batch mean is unbiased for the objective over the
    dataset. The correction equals -(human - g_hat) * z: linear and unbounded in the logit; its size is in the metrics.
    """
    z = 0.5 * config.beta * preference(pairs.policy, pairs.reference)
    synthetic = binary_cross_entropy_with_logits(z, pairs.g_hat, reduction="none")
    gap = torch.where(pairs.is_human > 0, pairs.human - pairs.g_hat, 0.0)
    correction = -gap * z / pairs.labelled_share
    stats = {"synthetic_loss": synthetic.detach().mean(), "correction": correction.detach().mean()}
    return synthetic + correction, {**stats, "correction_size": correction.detach().abs().mean()}
