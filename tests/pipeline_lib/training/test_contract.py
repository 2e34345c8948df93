"""Every loss keeps the contract. Adaptive-DPO and DeDPO in full need more than one pair: test_losses.py."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest

from pipeline_lib.training.methods import METHODS
from tests.pipeline_lib.training.contract import BETA, LossContract

HALF = BETA / 2
E_RATE = 0.2


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


class TestDiffusionDpo(LossContract):
    method = "diffusion-dpo"

    @staticmethod
    def formula(ell: float, win: float, lose: float) -> float:
        return -log_sigmoid(HALF * ell)


class TestBalancedDpo(TestDiffusionDpo):
    method = "balanced-dpo"
    settings: ClassVar[dict[str, Any]] = {"reference_refresh": 2}


class TestIpo(LossContract):
    method = "ipo"

    @staticmethod
    def formula(ell: float, win: float, lose: float) -> float:
        return (ell - 1 / (2 * HALF)) ** 2


class TestHinge(LossContract):
    method = "hinge"

    @staticmethod
    def formula(ell: float, win: float, lose: float) -> float:
        return max(0.0, 1 - HALF * ell)


class TestRobustDpo(LossContract):
    method = "robust-dpo"
    settings: ClassVar[dict[str, Any]] = {"flip_rate": E_RATE}

    @staticmethod
    def formula(ell: float, win: float, lose: float) -> float:
        right, wrong = -log_sigmoid(HALF * ell), -log_sigmoid(-HALF * ell)
        return ((1 - E_RATE) * right - E_RATE * wrong) / (1 - 2 * E_RATE)


class TestConservativeDpo(LossContract):
    method = "conservative-dpo"
    settings: ClassVar[dict[str, Any]] = {"flip_rate": E_RATE}

    @staticmethod
    def formula(ell: float, win: float, lose: float) -> float:
        return -(1 - E_RATE) * log_sigmoid(HALF * ell) - E_RATE * log_sigmoid(-HALF * ell)


class TestSftChosen(LossContract):
    method = "sft-chosen"

    @staticmethod
    def formula(ell: float, win: float, lose: float) -> float:
        return win


class TestAdaptiveDpoWithoutWeightAndMargin(TestDiffusionDpo):
    method = "adaptive-dpo"
    settings: ClassVar[dict[str, Any]] = {"reweighting": "none", "margin": "none", "ema_decays": (0.9, 0.5)}


class TestAdaptiveIpoWithoutWeightAndMargin(TestIpo):
    method = "adaptive-ipo"
    settings: ClassVar[dict[str, Any]] = {"reweighting": "none", "margin": "none", "ema_decays": (0.9, 0.5)}


class TestDeDpoWithEveryLabel(TestDiffusionDpo):
    """All pairs are human: whatever the synthetic annotator says cancels."""

    method = "dedpo"
    labels = "dedpo"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_its_contract(name: str) -> None:
    tested = {kind.method for kind in globals().values() if isinstance(kind, type) and hasattr(kind, "method")}
    assert name in tested
