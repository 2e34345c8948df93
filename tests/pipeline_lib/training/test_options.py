"""Options of the trainer: fixed draws, flips, timesteps, compiled models, LoRA layers, sample grids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.core.store import Dataset
from pipeline_lib.encoding.stage import encode
from pipeline_lib.models.aligned import LORA_WEIGHTS
from pipeline_lib.training import reference, trainer
from pipeline_lib.training.batches import Sampler
from pipeline_lib.training.launch.spec import TrainSpec
from pipeline_lib.training.tables import Tables, open_tables, read_labels
from pipeline_lib.training.trainer import train
from tests.pipeline_lib.models import tiny
from tests.pipeline_lib.training.runs import records, weights

CPU = torch.device("cpu")
CONFIG = TrainConfig(
    method="diffusion-dpo", beta=100.0, steps=12, batch_size=4, learning_rate=1e-3, lora_rank=2, checkpoint_every=100
)


@pytest.fixture
def spec(new_run: Callable[..., TrainSpec]) -> Callable[..., TrainSpec]:
    return partial(new_run, CONFIG)


@pytest.fixture
def flipped(mirror: Path, store: str) -> Dataset:
    return encode(store, tiny.base(mirror, "v"), replace(tiny.ENCODE, flipped=True), tiny.ingest(store))


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_cached_reference_errors_replace_the_reference_and_change_nothing(
    adapter: str, spec: Callable[..., TrainSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 pairs, 4 a step, 2 draws: 6 batches fill the cache, and 12 steps read it."""
    predict, build, calls = reference.predict, trainer.build, []
    held: list[bool] = []

    def counted(*given: Any) -> torch.Tensor:
        calls.append(given)
        return predict(*given)

    def uncached(*given: Any) -> trainer.Run:
        run = build(*given)
        held.append(run.reference is not None)
        return replace(run, cache=None, reference=reference.initial_reference(run.policy))

    monkeypatch.setattr(reference, "predict", counted)
    with_cache = spec("with", adapter=adapter, fixed_draws=2)
    train(with_cache)
    assert len(calls) == 6
    monkeypatch.setattr(trainer, "build", uncached)
    without = spec("without", adapter=adapter, fixed_draws=2)
    train(without)
    assert len(calls) == 6 + 12
    assert held == [False]  # no second copy of the weights beside a cache
    for cached, computed in zip(records(with_cache), records(without), strict=True):
        for name in ("loss", "margin", "win_error", "grad_norm"):
            assert cached[name] == pytest.approx(computed[name], rel=1e-4, abs=1e-6)


def test_an_interrupted_filling_of_the_cache_goes_on_and_only_what_the_run_meets_is_computed(
    spec: Callable[..., TrainSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, calls = reference.predict, []

    def counted(*given: Any) -> torch.Tensor:
        calls.append(given)
        return predict(*given)

    monkeypatch.setattr(reference, "predict", counted)
    job = spec("cut", fixed_draws=2, steps=5)  # 20 of the 24 draws
    stops = iter([False, False, True])
    assert train(job, lambda: next(stops)) == "interrupted"
    assert len(calls) == 2
    assert not Path(job.run_dir, "metrics.jsonl").exists()
    assert train(job) == "done"
    assert len(calls) == 5
    train(spec("whole", fixed_draws=2, steps=5))
    weights = [Path(tmp.run_dir, "model", LORA_WEIGHTS).read_bytes() for tmp in (job, spec("whole"))]
    assert weights[0] == weights[1]


def test_fixed_draws_recur_and_fresh_ones_do_not(tables: Tables) -> None:
    n = len(tables)
    fixed, fresh = (Sampler(tables, 0, range(1000), dropout=0.3, fixed_draws=k) for k in (2, 0))
    seen = [sorted(fixed.batch(visit * n, n, CPU).noise.flatten(1).sum(1).tolist()) for visit in range(4)]
    assert seen[0] == seen[2] != seen[1] == seen[3]
    first, third = (fresh.batch(visit * n, n, CPU).noise for visit in (0, 2))
    assert sorted(first.flatten(1).sum(1).tolist()) != sorted(third.flatten(1).sum(1).tolist())


@pytest.fixture
def tables(flipped: Dataset, labels: dict[str, Dataset], tmp_path: Path) -> Tables:
    return open_tables(flipped, read_labels(labels["human"]), tmp_path / "cache")


def test_both_images_of_a_pair_are_mirrored_together(tables: Tables, flipped: Dataset) -> None:
    narrow = replace(tables, moments=tables.moments * np.array([1, 0, 1, 0], np.float16)[:, None, None, None])
    sampler = Sampler(narrow, 0, range(1000), flip=0.5)  # without posterior noise
    plain = Sampler(narrow, 0, range(1000))
    n = 40 * len(tables)
    mixed, straight = sampler.batch(0, n, CPU), plain.batch(0, n, CPU)
    assert torch.equal(mixed.noise, straight.noise) and torch.equal(mixed.timesteps, straight.timesteps)
    changed = (mixed.clean != straight.clean).flatten(1).any(1).view(2, n)
    assert torch.equal(changed[0], changed[1])
    assert changed[0].float().mean().item() == pytest.approx(0.5, abs=0.08)
    rows = flipped.scan("latents").collect()
    stored = {row["image_uid"]: row for row in rows.to_dicts()}
    i = int(changed[0].nonzero()[0])
    uid = f"image-{tables.images[mixed.rows[i], 0]:02d}"
    expected = np.array(stored[uid]["mean_flipped"], np.float32) * tables.scaling_factor
    np.testing.assert_allclose(mixed.clean[i].flatten().numpy(), expected, rtol=1e-6)


def test_mirrored_moments_are_those_of_the_mirrored_image(mirror: Path, store: str, flipped: Dataset) -> None:
    plain = encode(store, tiny.base(mirror, "v"), tiny.ENCODE, tiny.ingest(store))
    assert plain.key != flipped.key
    both, one = (dataset.scan("latents").collect() for dataset in (flipped, plain))
    assert one.columns == [name for name in both.columns if not name.endswith("_flipped")]
    assert both.select(one.columns).equals(one)
    means = np.array(both["mean_flipped"].to_list(), np.float32)
    assert not np.allclose(means, np.array(both["mean"].to_list(), np.float32), atol=1e-2)


def test_flip_needs_mirrored_images(spec: Callable[..., TrainSpec], flipped: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"(?s)no mirrored images.*flipped=True"):
        train(spec(flip=0.5))
    assert train(replace(spec(flip=0.5, steps=1), encoded=flipped.uri)) == "done"


def test_timesteps_stay_in_their_range(tables: Tables, spec: Callable[..., TrainSpec]) -> None:
    for stratified in (False, True):
        sampler = Sampler(tables, 0, range(200, 300), stratified=stratified)
        drawn = sampler.batch(0, 100 * len(tables), CPU).timesteps
        assert (drawn.min().item(), drawn.max().item()) == (200, 299)
    with pytest.raises(ConfigError, match=r"0(\.\.|, )999"):
        train(spec(timestep_range=(0, 1000)))


def test_stratified_timesteps_are_uniform_and_cover_every_batch_evenly(tables: Tables) -> None:
    n, batch = len(tables), 6
    spread: dict[bool, list[float]] = {}
    for stratified in (False, True):
        sampler = Sampler(tables, 0, range(1000), stratified=stratified)
        batches = [sampler.batch(i * n, batch, CPU).timesteps.double().numpy() for i in range(300)]
        spread[stratified] = [float(np.max(np.diff([0, *np.sort(t), 1000]))) for t in batches]
        counts = np.histogram(np.concatenate(batches), 10, (0, 1000))[0]
        assert ((counts - 180) ** 2 / 180).sum() < 27.9  # chi-square, 9 degrees of freedom, p = 0.001
        pieces = [Sampler(tables, 0, range(1000), stratified=stratified).batch(i, 1, CPU) for i in range(batch)]
        assert [p.timesteps.item() for p in pieces] == batches[0].tolist()
    assert max(spread[True]) < 400 < max(spread[False])  # largest gap within a batch of 6


def test_other_lora_layers(spec: Callable[..., TrainSpec]) -> None:
    job = spec(steps=1, lora_targets=("ff.net.2",))
    train(job)
    names = load_file(Path(job.run_dir, "model/pytorch_lora_weights.safetensors"))
    assert names and all(".ff.net.2.lora_" in name for name in names)


@pytest.mark.parametrize("name", ["v", "xl"])
def test_sample_grids_come_at_set_intervals_and_change_no_weight(name: str, spec: Callable[..., TrainSpec]) -> None:
    with_samples = spec("with", base=name, steps=5, sample_every=2, lora_dropout=0.1)
    without = spec("without", base=name, steps=5, lora_dropout=0.1)
    train(with_samples)
    train(without)
    grids = sorted(Path(with_samples.run_dir, "samples").iterdir())
    assert [path.name for path in grids] == ["step-000002.png", "step-000004.png"]
    assert Image.open(grids[0]).size == (4 * tiny.SIDE, 2 * tiny.SIDE)  # two prompts and the empty one is not shown
    assert grids[0].read_bytes() != grids[1].read_bytes()
    assert weights(with_samples) == weights(without)
    train(replace(with_samples, run_dir=with_samples.run_dir + "-again"))
    assert (Path(with_samples.run_dir + "-again") / "samples" / grids[1].name).read_bytes() == grids[1].read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_compiled_training_follows_plain_training(adapter: str, spec: Callable[..., TrainSpec]) -> None:
    plain, compiled = spec("plain", adapter=adapter, steps=3), spec("compiled", adapter=adapter, steps=3, compile=True)
    train(plain)
    train(compiled)
    for left, right in zip(records(plain), records(compiled), strict=True):
        assert left["loss"] == pytest.approx(right["loss"], abs=1e-4)
        assert left["grad_norm"] == pytest.approx(right["grad_norm"], rel=1e-3)
    files = [sorted(p.name for p in Path(job.run_dir, "model").rglob("*")) for job in (plain, compiled)]
    assert files[0] == files[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "graphs", "runs"),
    [
        # The reference and two annotators share a graph without gradient; each step runs them and the policy.
        ({"adapter": "full", "method": "adaptive-dpo", "ema_decays": (0.9, 0.5)}, 2, 5 * 4),
        # Adapters off before the first refresh, on after it.
        ({"adapter": "lora", "method": "balanced-dpo", "reference_refresh": 2}, 3, 5 * 2),
    ],
    ids=["full", "lora"],
)
def test_frozen_models_are_compiled_too_and_other_weights_compile_nothing_again(
    changes: dict[str, Any], graphs: int, runs: int, spec: Callable[..., TrainSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[Any] = []
    ran: list[Any] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        compiled.append(graph)

        def run(*given: Any) -> Any:
            ran.append(graph)
            return graph.forward(*given)

        return run

    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compile_module(self, backend=backend))
    torch._dynamo.reset()
    train(spec("counted", compile=True, steps=5, **changes))
    torch._dynamo.reset()
    assert (len(compiled), len(ran)) == (graphs, runs)


def test_flips_that_are_known_show_in_the_metrics(
    spec: Callable[..., TrainSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"method": "adaptive-dpo", "ema_decays": (0.9, 0.5), "steps": 4}
    unknown = spec("unknown", **changes)
    train(unknown)
    assert not any(name.startswith(("u_auroc", "u_flipped")) for record in records(unknown) for name in record)
    batch = Sampler.batch

    def flips(self: Sampler, start: int, size: int, device: torch.device) -> Any:
        found = batch(self, start, size, device)
        found.labels[5, ::2] = 1
        return found

    monkeypatch.setattr(Sampler, "batch", flips)
    monkeypatch.setattr(Tables, "flips_known", True)
    known = spec("known", **changes)
    train(known)
    assert all(0 <= record["u_auroc"] <= 1 for record in records(known))
    for record in records(known):
        assert np.mean([record[f"u_flipped_{k}"] for k in range(1, 6)]) == pytest.approx(0.5)
    assert [r["loss"] for r in records(known)] == [r["loss"] for r in records(unknown)], "for the metrics only"
