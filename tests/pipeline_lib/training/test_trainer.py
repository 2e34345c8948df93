"""The trainer against one step written out by hand, its own interrupted self, and diffusers as the consumer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.errors import CheckpointError, ConfigError, LabelError, TrainingDivergedError
from pipeline_lib.core.store import Dataset, open_dataset
from pipeline_lib.models.aligned import load_pipeline
from pipeline_lib.training import methods, trainer
from pipeline_lib.training.batches import Sampler
from pipeline_lib.training.launch.publish import TIMING_FIELDS
from pipeline_lib.training.launch.spec import TrainSpec
from pipeline_lib.training.policy import build_policy
from pipeline_lib.training.tables import open_tables, read_labels
from pipeline_lib.training.trainer import train
from tests.pipeline_lib.models import tiny
from tests.pipeline_lib.training.runs import records, stop_in_step, weights

CONFIG = TrainConfig(
    method="diffusion-dpo",
    adapter="full",
    beta=100.0,
    steps=6,
    batch_size=4,
    learning_rate=1e-3,
    schedule="linear",
    prompt_dropout=0.2,
    checkpoint_every=2,
    lora_rank=2,
    lora_alpha=4,
)
METHODS: dict[str, dict[str, Any]] = {
    "diffusion-dpo": {},
    "balanced-dpo": {"reference_refresh": 2},
    "adaptive-dpo": {"ema_decays": (0.9, 0.5)},
    "sft-chosen": {},
    "dedpo": {},
}


@pytest.fixture
def spec(new_run: Callable[..., TrainSpec]) -> Callable[..., TrainSpec]:
    return partial(new_run, CONFIG, base="epsilon")


def step_by_hand(spec: TrainSpec, unet: Any, start: int = 0) -> tuple[float, float]:
    """Loss and accuracy of 4 pairs by the recipe of Diffusion-DPO's train.py, winners first; backward."""
    tables = open_tables(open_dataset(spec.encoded), read_labels(open_dataset(spec.labels)), Path(spec.run_dir))
    batch = Sampler(tables, spec.train.seed, range(1000), spec.train.prompt_dropout).batch(
        start, 4, torch.device("cpu")
    )
    scheduler = DDPMScheduler.from_pretrained(Path(spec.model.mirror, spec.model.repo), subfolder="scheduler")
    n = len(batch.timesteps)
    order = [(i, n + i) if batch.labels[0, i] == 1 else (n + i, i) for i in range(n)]
    latents = batch.clean[[win for win, _ in order] + [lose for _, lose in order]]
    noise, timesteps = batch.noise.repeat(2, 1, 1, 1), batch.timesteps.repeat(2)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    target = (
        noise if scheduler.config.prediction_type == "epsilon" else scheduler.get_velocity(latents, noise, timesteps)
    )
    added = None
    if batch.pooled is not None:
        ids = torch.tensor([[tiny.SIDE, tiny.SIDE, 0, 0, tiny.SIDE, tiny.SIDE]]).repeat(2 * n, 1)
        added = {"text_embeds": batch.pooled.repeat(2, 1), "time_ids": ids}
    base = UNet2DConditionModel.from_pretrained(Path(spec.model.mirror, spec.model.repo), subfolder="unet")

    def margin(model: Any) -> torch.Tensor:
        prediction = model(noisy, timesteps, batch.embeddings.repeat(2, 1, 1), added_cond_kwargs=added).sample
        win, lose = (prediction - target).pow(2).mean(dim=[1, 2, 3]).chunk(2)
        return win - lose

    with torch.no_grad():
        reference = margin(base)
    inside = -0.5 * spec.train.beta * (margin(unet) - reference)
    loss = -torch.nn.functional.logsigmoid(inside).mean()
    loss.backward()
    return loss.item(), ((inside > 0).float() + 0.5 * (inside == 0).float()).mean().item()


@pytest.mark.parametrize("name", tiny.NAMES)
def test_first_full_step_is_the_step_written_out(name: str, spec: Callable[..., TrainSpec]) -> None:
    job = spec(base=name, steps=1, batch_size=4)
    assert train(job) == "done"
    unet = UNet2DConditionModel.from_pretrained(Path(job.model.mirror, job.model.repo), subfolder="unet")
    loss, accuracy = step_by_hand(job, unet)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3, weight_decay=1e-2)
    norm = torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
    optimizer.step()
    (record,) = records(job)
    assert record["loss"] == pytest.approx(loss, abs=1e-6)
    assert record["implicit_accuracy"] == accuracy
    assert record["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)
    ours = load_file(Path(job.run_dir, "model/unet/diffusion_pytorch_model.safetensors"))
    # Adam's first step is lr * sign(gradient): where the gradient is rounding noise, its sign is too.
    sizes = {key: parameter.grad.abs() for key, parameter in unet.named_parameters()}
    for key, value in unet.state_dict().items():
        clear = sizes[key] > 1e-6
        torch.testing.assert_close(ours[key][clear], value[clear], atol=1e-5, rtol=0)


def adapt_by_hand(unet: Any, adapters: dict[str, torch.nn.Parameter], scale: float) -> None:
    """y = W x + scale * B A x on every layer that `adapters` name."""

    def added(a: Any, b: Any) -> Callable[..., Any]:
        return lambda layer, given, out: out + scale * (given[0] @ a.T) @ b.T

    for name, parameter in adapters.items():
        layer, _, rest = name.partition(".lora_A.")
        if rest:
            other = adapters[name.replace(".lora_A.", ".lora_B.")]
            unet.get_submodule(layer).register_forward_hook(added(parameter, other))


@pytest.mark.parametrize("name", tiny.NAMES)
def test_two_lora_steps_are_the_steps_written_out(name: str, spec: Callable[..., TrainSpec]) -> None:
    job = spec(base=name, adapter="lora", steps=2, schedule="constant")
    assert train(job) == "done"
    start = build_policy(job.model, job.train).trainable
    adapters = {key: torch.nn.Parameter(value.detach().clone()) for key, value in start.items()}
    unet = UNet2DConditionModel.from_pretrained(Path(job.model.mirror, job.model.repo), subfolder="unet")
    unet.requires_grad_(False)
    adapt_by_hand(unet, adapters, job.train.lora_alpha / job.train.lora_rank)
    optimizer = torch.optim.AdamW(adapters.values(), lr=1e-3, weight_decay=1e-2)
    sizes = {key: torch.full_like(value, torch.inf) for key, value in adapters.items()}
    for record, first in zip(records(job), (0, 4), strict=True):
        optimizer.zero_grad()
        loss, accuracy = step_by_hand(job, unet, first)
        norm = torch.nn.utils.clip_grad_norm_(adapters.values(), 1.0)
        for key, value in adapters.items():
            moves = key.endswith("lora_B.default.weight") or first  # B = 0 at first, so A has no gradient yet
            sizes[key] = torch.minimum(sizes[key], value.grad.abs()) if moves else sizes[key]
        optimizer.step()
        assert record["loss"] == pytest.approx(loss, abs=1e-5)
        assert record["implicit_accuracy"] == accuracy
        assert record["grad_norm"] == pytest.approx(norm.item(), rel=1e-3)
    ours = load_file(Path(job.run_dir, "model/pytorch_lora_weights.safetensors"))
    assert ours.keys() == {f"unet.{key.replace('.default', '')}" for key in adapters}
    for key, value in adapters.items():
        clear = sizes[key] > 1e-6  # as above
        torch.testing.assert_close(ours[f"unet.{key.replace('.default', '')}"][clear], value[clear], atol=1e-5, rtol=0)
    assert sum(int((size > 1e-6).sum()) for size in sizes.values()) > 0.6 * sum(v.numel() for v in sizes.values())


@pytest.mark.parametrize("name", ["epsilon", "xl-v"])
def test_lora_as_diffusers_loads_it_has_the_loss_of_the_next_step(name: str, spec: Callable[..., TrainSpec]) -> None:
    one, two = (spec(f"run-{n}", base=name, adapter="lora", steps=n, schedule="constant") for n in (1, 2))
    train(one)
    train(two)
    fused = load_pipeline(Path(one.run_dir, "model"), one.model).unet.requires_grad_(True)
    loss, _ = step_by_hand(two, fused, 4)
    assert records(two)[1]["loss"] == pytest.approx(loss, abs=1e-5)
    assert records(two)[1]["loss"] != pytest.approx(torch.log(torch.tensor(2.0)).item(), abs=1e-5)


@pytest.mark.parametrize(
    ("method", "adapter"),
    [
        *((method, "full") for method in METHODS),
        ("balanced-dpo", "lora"),
        ("adaptive-dpo", "lora"),
        # The contract interrupts a LoRA run of each.
        *(pytest.param(method, "lora", marks=pytest.mark.slow) for method in ("diffusion-dpo", "sft-chosen", "dedpo")),
    ],
)
def test_interrupted_run_ends_in_the_same_bytes(method: str, adapter: str, spec: Callable[..., TrainSpec]) -> None:
    changes = {"base": "v", "method": method, "adapter": adapter, **METHODS[method]}
    whole, cut = spec("whole", **changes), spec("cut", **changes)
    assert train(whole) == "done"
    assert train(cut, stop_in_step(1)) == "interrupted"
    assert train(cut, stop_in_step(2)) == "interrupted"  # at step 3: one refresh before, one after
    assert train(cut) == "done"
    assert weights(cut) == weights(whole)
    timing = TIMING_FIELDS
    plain = [[{k: v for k, v in r.items() if k not in timing} for r in records(job)] for job in (whole, cut)]
    assert plain[0] == plain[1]
    assert [r["step"] for r in plain[0]] == [1, 2, 3, 4, 5, 6]


def test_lora_dropout_is_part_of_the_position(spec: Callable[..., TrainSpec]) -> None:
    changes = {"adapter": "lora", "lora_dropout": 0.5}
    whole, cut, without = spec("whole", **changes), spec("cut", **changes), spec("without", adapter="lora")
    train(whole)
    train(cut, stop_in_step(3))
    torch.rand(1)  # other use of the global generator does not matter
    train(cut)
    train(without)
    assert weights(cut) == weights(whole) != weights(without)


def test_killed_run_continues_from_its_checkpoint(
    spec: Callable[..., TrainSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = spec("whole"), spec("cut")
    train(whole)
    step = trainer.optimizer_step

    def dies(run: trainer.Run, stop: Callable[[], bool]) -> dict[str, float] | None:
        if run.step == 5:
            raise KeyboardInterrupt
        return step(run, stop)

    monkeypatch.setattr(trainer, "optimizer_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train(cut)
    assert [r["step"] for r in records(cut)] == [1, 2, 3, 4, 5]
    monkeypatch.setattr(trainer, "optimizer_step", step)
    # The newest checkpoint is damaged: the one before it serves.
    newest = Path(cut.run_dir, "checkpoints/step-000004/trainable.safetensors")
    newest.write_bytes(newest.read_bytes()[:-4])
    train(cut)
    assert weights(cut) == weights(whole)
    assert [r["step"] for r in records(cut)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("method", ["diffusion-dpo", "balanced-dpo", "dedpo"])
def test_accumulated_batches_equal_one_large_batch(method: str, spec: Callable[..., TrainSpec]) -> None:
    changes = {"method": method, "steps": 3, **METHODS[method]}
    large = spec("large", batch_size=8, **changes)
    parts = spec("parts", batch_size=4, gradient_accumulation=2, **changes)
    train(large)
    train(parts)
    for left, right in zip(records(large), records(parts), strict=True):
        for name in ("loss", "grad_norm", "margin", "win_error"):
            assert left[name] == pytest.approx(right[name], rel=1e-3, abs=1e-6), (left["step"], name)


def test_gradient_checkpointing_changes_no_number(spec: Callable[..., TrainSpec]) -> None:
    plain, checkpointed = spec("plain", steps=2), spec("saved", steps=2, gradient_checkpointing=True)
    train(plain)
    train(checkpointed)
    assert records(plain)[1]["loss"] == pytest.approx(records(checkpointed)[1]["loss"], abs=1e-6)


@pytest.fixture
def accelerate_reset() -> Iterator[None]:
    """accelerate keeps the precision of a process's first run; a job is a process of its own, a test is not."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.mark.parametrize("adapter", ["full", "lora"])
@pytest.mark.parametrize("name", ["v", "xl"])
def test_bf16_starts_at_the_reference_and_follows_fp32(
    name: str, adapter: str, spec: Callable[..., TrainSpec], accelerate_reset: None
) -> None:
    half = spec("half", base=name, adapter=adapter, steps=3, mixed_precision="bf16")
    train(half)
    AcceleratorState._reset_state(True)
    exact = spec("exact", base=name, adapter=adapter, steps=3)
    train(exact)
    first = records(half)[0]
    assert (first["margin"], first["implicit_accuracy"]) == (0.0, 0.5)
    for low, high in zip(records(half), records(exact), strict=True):
        assert low["loss"] == pytest.approx(high["loss"], abs=0.1)
        assert low["grad_norm"] == pytest.approx(high["grad_norm"], rel=0.1)


def test_adafactor_resumes(spec: Callable[..., TrainSpec]) -> None:
    whole, cut = spec("whole", optimizer="adafactor"), spec("cut", optimizer="adafactor")
    train(whole)
    train(cut, stop_in_step(3))
    train(cut)
    assert weights(cut) == weights(whole)


def test_training_learns_the_preference(spec: Callable[..., TrainSpec]) -> None:
    job = spec(steps=30, batch_size=12, beta=100.0, learning_rate=1e-3, checkpoint_every=1000)
    train(job)
    start, end = records(job)[0], records(job)[-10:]
    assert start["implicit_accuracy"] == 0.5
    assert sum(r["implicit_accuracy"] for r in end) / len(end) > 0.75
    assert sum(r["loss"] for r in end) / len(end) < 0.5


def test_finished_run_is_left_alone(spec: Callable[..., TrainSpec]) -> None:
    job = spec(steps=1)
    train(job)
    before = weights(job)
    assert train(job) == "done"
    assert weights(job) == before
    assert not Path(job.run_dir, "cache").exists()


def test_divergence_stops_with_a_remedy(spec: Callable[..., TrainSpec], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "validated", lambda config: config)  # so that it takes few steps
    job = spec(learning_rate=1e30, weight_decay=0.0, steps=30, checkpoint_every=1)
    with pytest.raises(TrainingDivergedError, match=r"(?s)step.*Lower learning_rate or beta"):
        train(job)


def test_checkpoint_of_another_run_is_refused(spec: Callable[..., TrainSpec]) -> None:
    train(spec(), stop_in_step(1))
    with pytest.raises(CheckpointError, match="another run"):
        train(spec(beta=101.0))


def test_wrong_data_fails_before_the_first_step(spec: Callable[..., TrainSpec], encoded: dict[str, Dataset]) -> None:
    with pytest.raises(LabelError, match="dedpo25"):
        train(spec(method="dedpo", kind="human"))
    with pytest.raises(LabelError, match="recipe 'human'"):
        train(spec(method="adaptive-dpo", kind="soft"))
    with pytest.raises(ConfigError, match="was encoded by"):
        train(replace(spec(), encoded=encoded["xl"].uri))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="needs a GPU"):
            train(spec(mixed_precision="fp16"))
    assert not Path(spec().run_dir, "metrics.jsonl").exists()
