"""Adaptive-DPO (arXiv 2503.16921): a metric of doubtful labels, and two losses that weight pairs by it.

Notation of losses.py; M models are the policy and the historical footprints of it. Paper and authors' code differ, and
`TrainConfig.stability` and `TrainConfig.margin_offset` choose between their readings (docs/adaptive-dpo.md). Every
statistic over pairs (scale of ell, offset of the margin) is taken over one forward pass of `batch_size` pairs, as in
the authors' code, so neither the number of processes nor gradient accumulation changes it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.training.losses import Pairs, orientation, preference

AUTHORS_MICRO_BATCH = 16
FIFTHS = 5


def minority_metric(
    ells: Tensor, rho: float, stability: Literal["authors", "variance", "unscaled"] = "unscaled"
) -> Tensor:
    """Adaptive-DPO's u = s * c: large where the models disagree with the label and with each other.

        x = rho * ell / scale      c = 1 - mean_m sigmoid(x_m)

        s = min(1, standard deviation over m of x_m)     "authors": their code
            variance over m of x_m                       "variance": eq. 12 on the rescaled ell of eq. 11
            variance over m of x_m / rho                 "unscaled"

    Deviation and variance are unbiased. Scale: the authors' code L2-normalises each model's ell over its micro-batch
    of 16 pairs, so that ell has root mean square 1/4 whatever the units. We divide by 4 times the root mean square,
    which equals that at 16 pairs and does not depend on the batch size; rho = 15 keeps its meaning.

    Args:
        ells: ell of each model for the labelled winner, [m, n] with m >= 2, of one forward pass.
        rho: sharpness of the confidence.

    Returns:
        u >= 0, [n]; 0 when every model equals the reference, or all models agree to the last bit.
    """
    rms = ells.square().mean(-1, keepdim=True).sqrt()
    scaled = ells / (rms * AUTHORS_MICRO_BATCH**0.5).clamp_min(torch.finfo(torch.float32).tiny)
    confidence = 1 - torch.sigmoid(rho * scaled).mean(0)
    match stability:
        case "authors":
            return (rho * scaled).std(0, unbiased=True).clamp_max(1) * confidence
        case "variance":
            return (rho * scaled).var(0, unbiased=True) * confidence
        case "unscaled":
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


def margin_of(u: Tensor, ell: Tensor, scale: float, config: TrainConfig) -> Tensor:
    """Adaptive-DPO's Gamma = k2 u^2 + c2 (or k2 u + c2), in the units of the logit `scale * ell`.

    k2 = -1 / beta' with beta' = beta / 2 (the authors' code). c2 is a mean over the forward pass: of the logits, as
    the paper says, or ("authors") of ell before it is multiplied by beta', as their code has it.
    """
    if config.margin == "none":
        return torch.zeros_like(u)
    shape = u.square() if config.margin == "quadratic" else u
    offset = (scale * ell).mean() if config.margin_offset == "logits" else ell.mean()
    return -2 / config.beta * shape + offset


def _adaptive(pairs: Pairs, config: TrainConfig, scale: float) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """scale * ell of the labelled winner, stopgrad W, stopgrad Gamma in the same units, statistics."""
    sign = orientation(pairs.target)
    ell = sign * preference(pairs.policy, pairs.reference)
    with torch.no_grad():
        history = sign * preference(pairs.annotators, pairs.reference)
        u = minority_metric(torch.cat([ell.detach()[None], history]), config.rho, config.stability)
        weight = weight_of(u, config)
        gamma = margin_of(u, ell.detach(), scale, config)
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
