"""Frozen models: what the reference is before and after a refresh, and what the annotators remember."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import pytest
import torch

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.training import reference
from pipeline_lib.training.launch.spec import TrainSpec
from pipeline_lib.training.policy import Policy, build_policy
from pipeline_lib.training.trainer import train
from tests.pipeline_lib.models import tiny
from tests.pipeline_lib.training.runs import curve

Adapter: TypeAlias = Literal["lora", "full"]
INPUTS = (torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 700]))
CONTEXT = {"encoder_hidden_states": torch.randn(2, 12, 16, generator=torch.Generator().manual_seed(1))}


@pytest.fixture(params=["lora", "full"])
def policy(mirror: Path, request: pytest.FixtureRequest) -> Policy:
    config = TrainConfig(method="diffusion-dpo", adapter=request.param, lora_rank=2)
    return build_policy(tiny.base(mirror, "epsilon"), config)


@torch.no_grad()
def move(policy: Policy, amount: float = 0.1) -> None:
    for parameter in policy.trainable.values():
        parameter.add_(amount)


@torch.no_grad()
def current(policy: Policy) -> torch.Tensor:
    return policy.unet(*INPUTS, **CONTEXT, return_dict=False)[0]


def test_reference_starts_as_the_policy_and_stays_when_it_moves(policy: Policy) -> None:
    start = current(policy)
    frozen = reference.initial_reference(policy)
    assert torch.equal(reference.predict(policy, frozen, INPUTS, CONTEXT), start)
    move(policy)
    assert torch.equal(reference.predict(policy, frozen, INPUTS, CONTEXT), start)
    assert not torch.allclose(current(policy), start)


def test_refresh_copies_the_policy_of_that_moment(policy: Policy) -> None:
    frozen = reference.initial_reference(policy)
    for _ in range(2):
        move(policy)
        frozen = reference.refresh(policy, frozen)
        moment = current(policy)
        move(policy)
        assert torch.equal(reference.predict(policy, frozen, INPUTS, CONTEXT), moment)


def test_frozen_predictions_have_no_gradient_and_leave_the_policy_as_it_was(policy: Policy) -> None:
    before = {name: parameter.clone() for name, parameter in policy.trainable.items()}
    weights = {name: parameter + 1 for name, parameter in reference.copy_weights(policy).items()}
    assert not reference.predict(policy, weights, INPUTS, CONTEXT).requires_grad
    assert all(torch.equal(policy.trainable[name], value) for name, value in before.items())
    assert all(parameter.requires_grad for parameter in policy.trainable.values())
    assert policy.unet.training
    assert policy.unet(*INPUTS, **CONTEXT, return_dict=False)[0].requires_grad


def test_annotator_is_the_moving_average_of_the_policy_in_fp32(policy: Policy) -> None:
    name = next(iter(policy.trainable))
    annotator = reference.copy_weights(policy)
    expected = annotator[name].double()
    for _ in range(20):
        move(policy, 1e-4)
        reference.follow(annotator, policy, 0.9999)
        expected = 0.9999 * expected + 0.0001 * policy.trainable[name].detach().double()
    assert annotator[name].dtype == torch.float32
    torch.testing.assert_close(annotator[name].double(), expected, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("adapter", get_args(Adapter))
def test_training_starts_again_from_indifference_after_each_refresh(
    adapter: Adapter, new_run: Callable[..., TrainSpec]
) -> None:
    config = TrainConfig(
        method="balanced-dpo",
        adapter=adapter,
        reference_refresh=3,
        steps=7,
        batch_size=4,
        learning_rate=1e-2,
        lora_rank=2,
        beta=50.0,
    )
    job = new_run(config)
    train(job)
    assert curve(job, "refreshes") == [0, 0, 1, 1, 1, 2, 2]
    at_reference = [
        margin == 0 and loss == pytest.approx(math.log(2))
        for margin, loss in zip(curve(job, "margin"), curve(job), strict=True)
    ]
    assert at_reference == [True, False, False, True, False, False, True]
