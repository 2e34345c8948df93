"""Losses of preference alignment, as pure fp32 functions of per-image errors (reference/papers: Diffusion-DPO
2311.12908, BalancedDPO 2503.12575, Adaptive-DPO 2503.16921, DeDPO 2602.06195).

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

from pipeline_lib.config import TrainConfig

AUTHORS_MICRO_BATCH = 16
FIFTHS = 5


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


def minority_metric(ells: Tensor, rho: float) -> Tensor:
    """Adaptive-DPO's u = s * c: large where the models disagree with the label and with each other.

        c = 1 - mean_m sigmoid(rho * ell_m)      s = unbiased variance over m of ell_m

    Scale: the authors' code L2-normalises each model's ell over its micro-batch of 16 pairs, so that ell has root mean
    square 1/4 whatever the units. We divide by 4 times the root mean square, which equals that at 16 pairs and does
    not depend on the batch size; rho = 15 keeps its meaning.

    Args:
        ells: ell of each model for the labelled winner, [m, n] with m >= 2, of one forward pass.
        rho: sharpness of the confidence.

    Returns:
        u >= 0, [n]; 0 when every model equals the reference.
    """
    rms = ells.square().mean(-1, keepdim=True).sqrt()
    scaled = ells / (rms * AUTHORS_MICRO_BATCH**0.5).clamp_min(torch.finfo(torch.float32).tiny)
    confidence = 1 - torch.sigmoid(rho * scaled).mean(0)
    return scaled.var(0, unbiased=True) * confidence


def auroc(score: Tensor, positive: Tensor) -> Tensor:
    """Numerator and denominator [2] of the area under the ROC curve: how often a positive [n] scores higher."""
    ahead = score[:, None] - score[None, :]
    ordered = (ahead > 0).float() + 0.5 * (ahead == 0).float()
    between = positive[:, None] * (1 - positive)[None, :]
    return torch.stack([(ordered * between).sum(), between.sum()])


def in_fifths(score: Tensor, positive: Tensor) -> Tensor:
    """Positives [n] and all pairs by fifth of the score, lowest first: numerators and denominators [5, 2].

    Each pair takes 1/n of the line from lowest to highest, and counts in a fifth by what lies in it, so that few pairs
    can be cut into fifths, too; equal scores share their stretch of the line.
    """
    n = len(score)
    below = (score[None, :] < score[:, None]).float().sum(1)
    level = (score[None, :] == score[:, None]).float().sum(1)
    edges = torch.arange(FIFTHS + 1, device=score.device, dtype=level.dtype)[:, None] * (n / FIFTHS)
    inside = torch.minimum(edges[1:], below + level) - torch.maximum(edges[:-1], below)
    share = inside.clamp_min(0) / level
    return torch.stack([(share * positive).sum(1), share.sum(1)], 1)


def weight_of(u: Tensor, config: TrainConfig) -> Tensor:
    """Adaptive-DPO's W in (0, 1]: 1 / (1 + k1 f(u)) with f = u, u^2, sqrt(u), or exp: 1 / (1 + exp(k1 u))."""
    if config.reweighting == "none":
        return torch.ones_like(u)
    if config.reweighting == "exp":
        return torch.sigmoid(-config.k1 * u)
    power = {"linear": u, "quadratic": u.square(), "sqrt": u.sqrt()}[config.reweighting]
    return 1 / (1 + config.k1 * power)


def margin_of(u: Tensor, logits: Tensor, config: TrainConfig) -> Tensor:
    """Adaptive-DPO's Gamma = k2 u^2 + c2 (or k2 u + c2), in the units of `logits`.

    k2 = -1 / beta' with beta' = beta / 2 (the authors' code); c2 = mean of the logits of the forward pass.
    """
    if config.margin == "none":
        return torch.zeros_like(u)
    shape = u.square() if config.margin == "quadratic" else u
    return -2 / config.beta * shape + logits.mean()


def _adaptive(pairs: Pairs, config: TrainConfig, scale: float) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """scale * ell of the labelled winner, stopgrad W, stopgrad Gamma in the same units, statistics."""
    sign = orientation(pairs.target)
    ell = sign * preference(pairs.policy, pairs.reference)
    with torch.no_grad():
        history = sign * preference(pairs.annotators, pairs.reference)
        u = minority_metric(torch.cat([ell.detach()[None], history]), config.rho)
        weight = weight_of(u, config)
        gamma = margin_of(u, scale * ell.detach(), config)
        stats = {
            "u_mean": u.mean(),
            "u_std": u.std(unbiased=False),
            "u_p90": u.float().quantile(0.9),
            "u_auroc": auroc(u, pairs.flipped),
            "weight_mean": weight.mean(),
            "weight_p10": weight.float().quantile(0.1),
            "gamma": gamma.mean(),
        }
        if pairs.flips_known:  # Adaptive-DPO's figure 3: the share of flipped pairs grows with u
            stats |= {f"u_flipped_{k}": fifth for k, fifth in enumerate(in_fifths(u, pairs.flipped), start=1)}
    return scale * ell, weight, gamma, stats


def adaptive_dpo(pairs: Pairs, config: TrainConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """-W log sigmoid(z - Gamma); needs hard labels."""
    z, weight, gamma, stats = _adaptive(pairs, config, 0.5 * config.beta)
    return weight * softplus(-(z - gamma)), stats


def adaptive_ipo(pairs: Pairs, config: TrainConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """W (ell - Gamma - 1 / (2 beta'))^2 with beta' = beta / 2; Gamma in units of ell; needs hard labels."""
    ell, weight, gamma, stats = _adaptive(pairs, config, 1.0)
    return weight * (ell - gamma - 1 / config.beta).square(), stats


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
