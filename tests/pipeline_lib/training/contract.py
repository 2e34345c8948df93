"""What every loss promises, as tests. A new one joins in a test file of its own:

    class TestMine(LossContract):
        method = "mine"                                                   # in METHODS

        @staticmethod
        def formula(ell: float, win: float, lose: float) -> float: ...    # for a pair whose winner is known

with `BETA`, and ell = -((win - lose) - (ref_win - ref_lose)) of the winner's and the loser's errors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.training.launch.spec import TrainSpec
from pipeline_lib.training.losses import Pairs
from pipeline_lib.training.methods import load_loss
from pipeline_lib.training.trainer import train
from tests.pipeline_lib.training.runs import records, stop_in_step, weights

BETA = 40.0
N = 6


def random_pairs(seed: int = 0, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> Pairs:
    """Errors of `N` pairs whose winners are known: the first image's in half of them."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(0.05, 0.25, shape) * scale).to(dtype)

    target = torch.tensor([1, 0, 1, 0, 0, 1], dtype=dtype)
    return Pairs(
        policy=draw(2, N).requires_grad_(),
        reference=draw(2, N),
        target=target,
        annotators=draw(2, 2, N),
        is_human=torch.ones(N, dtype=dtype),
        human=target,
        g_hat=torch.full((N,), 0.6, dtype=dtype),
        weight=torch.ones(N, dtype=dtype),
        flipped=torch.zeros(N, dtype=dtype),
    )


class LossContract:
    """Subclass it with a name that starts with `Test`."""

    method: ClassVar[str]
    settings: ClassVar[dict[str, Any]] = {}
    """What the method needs in a `TrainConfig`."""
    labels: ClassVar[str] = "human"
    """Kind of `tiny.label` that it trains on."""

    @staticmethod
    def formula(ell: float, win: float, lose: float) -> float:
        """The loss of one pair, written out independently."""
        raise NotImplementedError

    def config(self, **changes: Any) -> TrainConfig:
        return TrainConfig(method=self.method, **{"beta": BETA, **self.settings, **changes})

    def values(self, given: Pairs) -> Tensor:
        return load_loss(self.method)(given, self.config())[0]

    def by_hand(self, policy: np.ndarray, reference: np.ndarray, target: np.ndarray) -> np.ndarray:
        out = []
        for i in range(N):
            win, lose = (0, 1) if target[i] else (1, 0)
            ell = -((policy[win, i] - policy[lose, i]) - (reference[win, i] - reference[lose, i]))
            out.append(self.formula(ell, policy[win, i], policy[lose, i]))
        return np.array(out)

    def test_values_and_gradients_are_those_of_the_formula(self) -> None:
        given = random_pairs()
        policy, reference, target = (t.detach().numpy() for t in (given.policy, given.reference, given.target))
        values = self.values(given)
        np.testing.assert_allclose(values.detach().numpy(), self.by_hand(policy, reference, target), rtol=1e-9)
        (gradient,) = torch.autograd.grad(values.sum(), given.policy)
        for side in (0, 1):
            step = np.zeros_like(policy)
            step[side] = 1e-6
            rise = self.by_hand(policy + step, reference, target) - self.by_hand(policy - step, reference, target)
            np.testing.assert_allclose(gradient[side].numpy(), rise / 2e-6, rtol=1e-5, atol=1e-6)

    def test_one_finite_number_per_pair_in_single_precision(self) -> None:
        for scale in (0.0, 1.0, 1e3):
            given = random_pairs(dtype=torch.float32, scale=scale)
            values = self.values(given)
            assert (values.dtype, values.shape) == (torch.float32, (N,))
            (gradient,) = torch.autograd.grad(values.sum(), given.policy)
            assert torch.isfinite(values).all() and torch.isfinite(gradient).all()

    def test_swapping_the_images_of_a_pair_changes_nothing(self) -> None:
        given = random_pairs()
        swapped = replace(
            given,
            policy=given.policy.flip(0),
            reference=given.reference.flip(0),
            annotators=given.annotators.flip(1),
            target=1 - given.target,
            human=1 - given.human,
            g_hat=1 - given.g_hat,
        )
        torch.testing.assert_close(self.values(swapped), self.values(given))

    def test_order_of_the_pairs_changes_nothing(self) -> None:
        given, order = random_pairs(), torch.tensor([3, 0, 5, 1, 4, 2])
        names = ("policy", "reference", "target", "annotators", "is_human", "human", "g_hat", "weight", "flipped")
        shuffled = replace(given, **{name: getattr(given, name)[..., order] for name in names})
        torch.testing.assert_close(self.values(shuffled), self.values(given)[order])

    def test_it_trains_and_an_interrupted_run_ends_in_the_same_bytes(self, new_run: Callable[..., TrainSpec]) -> None:
        config = self.config(steps=4, batch_size=4, learning_rate=1e-3, lora_rank=2, checkpoint_every=2)
        whole, cut = (new_run(config, name, kind=self.labels) for name in ("whole", "cut"))
        assert train(whole) == "done"
        assert train(cut, stop_in_step(3)) == "interrupted"
        assert train(cut) == "done"
        assert weights(cut) == weights(whole)
        assert [record["step"] for record in records(cut)] == [1, 2, 3, 4]
        assert all(np.isfinite(record["loss"]) and record["grad_norm"] > 0 for record in records(cut))
