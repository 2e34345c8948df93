"""Sizes and work beside what is really written and counted, and the table in docs/cost.md beside the program's."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.store import Dataset
from pipeline_lib.data.ingest import ingest
from pipeline_lib.encoding.stage import LATENTS, PROMPTS, encode
from pipeline_lib.presets import METHODS, preset
from pipeline_lib.scoring.scorers import defaults
from pipeline_lib.sizing import flops, rates
from pipeline_lib.sizing.__main__ import main
from pipeline_lib.sizing.bases import BASES
from pipeline_lib.sizing.data import PICKAPIC_V2, Source, image_store_bytes, latent_bytes, latent_numbers, text_bytes
from pipeline_lib.sizing.table import Machine, Stage, stages
from pipeline_lib.sizing.training import disk_bytes, gpu_bytes

PAGE = Path(__file__).resolve().parents[3] / "docs" / "cost.md"
MACHINE = Machine(flops_per_second=15e12, price=2.5, rates={})


def written(dataset: Dataset, table: str) -> int:
    return sum(shard.bytes for shard in dataset.tables(table))


def test_bytes_beside_those_that_the_built_in_world_writes(tmp_path: Path) -> None:
    """The same formulas with its counts and widths. Ids and statistics come to less than a tenth, Parquet's
    frame of a small table to some kilobytes."""
    settings = preset("shapes")
    ingested = ingest(str(tmp_path), replace(settings.ingest, limit=300))
    encoded = encode(str(tmp_path), settings.base, settings.encode, ingested)
    images = ingested.scan("images").collect()
    average = sum(len(content) for content in images["bytes"]) // len(images)
    prompts = sum(shard.rows for shard in encoded.tables(PROMPTS))
    tokens, width = 24, 96
    source = Source(pairs=300, prompts=prompts, images=len(images), image_bytes=average)
    assert written(ingested, "images") == pytest.approx(image_store_bytes(source), rel=0.1)
    numbers = latent_numbers(settings.encode.resolution, reduction=2)
    assert written(encoded, LATENTS) == pytest.approx(latent_bytes(len(images), numbers), rel=0.1)
    assert written(encoded, PROMPTS) == pytest.approx(text_bytes(prompts, tokens, width), rel=0.1, abs=15_000)


def test_known_sizes_of_caches() -> None:
    """Per image at 512 px: 4 x 64 x 64 means and deviations in fp16; 77 x 768 per prompt of SD 1.5."""
    assert latent_bytes(1, latent_numbers(512)) == 4 * 64 * 64 * 2 * 2
    assert latent_bytes(1, latent_numbers(1024), flipped=True) == 4 * 128 * 128 * 4 * 2
    assert text_bytes(58_960, 77, 768) == pytest.approx(7.0e9, rel=0.01)
    assert text_bytes(58_960, 77, 2048, 1280) == pytest.approx(18.7e9, rel=0.01)


def test_scoring_costs_what_the_towers_cost() -> None:
    from tests.bench.score_models import FULL

    counted = FULL.flops()
    image, text = (sum(value for name, value in counted.items() if name.endswith(part)) for part in ("image", "text"))
    assert flops.score(defaults(), 1, 0, 0) == image
    assert flops.score(defaults(), 0, 0, 1) == text
    assert flops.score(defaults(), 0, 1, 0) == counted["imagereward_bert"]
    shared = counted["clip_and_aesthetic_image"]
    assert flops.score(["clip", "aesthetic"], 1, 0, 0) == flops.score(["aesthetic"], 1, 0, 0) == shared


@pytest.mark.slow
@pytest.mark.parametrize(("name", "family"), [("sd15", "sd"), ("sdxl", "sdxl")])
def test_models_have_the_counted_parameters_and_passes(name: str, family: str) -> None:
    """On torch's meta device. The benchmark's text encoders have a small vocabulary: their embeddings are left out."""
    import torch

    from tests.bench.train_models import REAL, forward_flops, text_encoders, unet, vae

    architecture, passes, base = REAL[family], flops.PASSES[name], BASES[name]
    counted = forward_flops(architecture)
    assert (2 * passes.unet, 2 * passes.vae_encode, passes.text) == (counted["unet"], counted["vae"], counted["text"])
    with torch.device("meta"):
        models = unet(architecture), vae(architecture), *text_encoders(architecture)
        numbers = [sum(parameter.numel() for parameter in model.parameters()) for model in models]
    assert numbers[0] == base.unet and base.vae in (numbers[1], 2 * numbers[1])
    words = sum((49_408 - 54) * width for width, _, _ in architecture.text)
    assert base.text == pytest.approx(sum(numbers[2:]) + words, rel=1e-3)
    assert base.text_width == architecture.context


def test_memory_and_disk_of_a_run() -> None:
    """Full: weights, gradients, reference, two Adam moments: five copies. LoRA: the base in half precision."""
    full = TrainConfig(method="diffusion-dpo", adapter="full")
    assert gpu_bytes(full, 10**9) == 20 * 10**9
    assert gpu_bytes(replace(full, optimizer="adafactor"), 10**9) == 12 * 10**9
    assert gpu_bytes(replace(full, fixed_draws=4), 10**9) == 16 * 10**9
    lora = replace(full, adapter="lora", mixed_precision="fp16")
    assert 2 * 10**9 < gpu_bytes(lora, 10**9) < 2.2 * 10**9
    assert disk_bytes(full, 10**9) == 12 * 10**9 * 3 + 4 * 10**9
    assert disk_bytes(lora, 10**9) < 10**9 < disk_bytes(replace(full, reference_refresh=100), 10**9)


def row(name: str, preset_name: str = "sdxl", machine: Machine = MACHINE, method: str = "balanced") -> Stage:
    (found,) = (row for row in stages(preset_name, method, PICKAPIC_V2, machine) if row.name == name)
    return found


def test_hours_follow_from_work_and_rates() -> None:
    assert row("score", machine=replace(MACHINE, rates={"score": 250.0})).hours == PICKAPIC_V2.images / 250 / 3600
    twice = replace(MACHINE, flops_per_second=30e12)
    for name in ("score", "encode", "train", "evaluate"):
        assert row(name).hours == pytest.approx(2 * row(name, machine=twice).hours)
    assert row("ingest").hours == row("ingest", machine=twice).hours and not row("ingest").on_gpu
    assert row("train", "sd15").hours < row("train", "sd21").hours < row("train").hours
    assert row("train", method="dpo").hours == pytest.approx(16 * row("train").hours), "2048 pairs a step, not 128"


@pytest.mark.parametrize("name", BASES)
def test_every_preset_and_method_has_a_table(name: str) -> None:
    for method in METHODS:
        assert [found.name for found in stages(name, method, PICKAPIC_V2, MACHINE)] == [
            "ingest",
            "score",
            "label",
            "encode",
            "train",
            "evaluate",
        ]


def test_the_published_run_takes_the_published_time() -> None:
    """Adaptive-DPO's table: 25 hours of 8 V100 for 12,000 steps of 128 pairs, by the rate derived from it."""
    published = TrainConfig(method="diffusion-dpo", adapter="lora", steps=12_000, batch_size=128)
    seconds = flops.train(flops.PASSES["sd15"], published) / rates.published_flops_per_second()
    assert 0.6 * 200 < seconds / 3600 < 200, "the UNet's share: the VAE's passes are encode's here"


def test_the_page_shows_what_the_program_prints(capsys: pytest.CaptureFixture[str]) -> None:
    found = re.search(r"python -m pipeline_lib\.sizing ([^\n]*)\n```\n\n((?:\|[^\n]*\n)+)", PAGE.read_text("utf-8"))
    assert found, "the page has the command and its table"
    assert main(found[1].split()) == 0
    assert capsys.readouterr().out == found[2]


def test_wrong_rates_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("paint=3", "score=0", "score=fast"):
        with pytest.raises(SystemExit) as refused:
            main(["--rate", wrong])
        assert refused.value.code == 2 and "--rate" in capsys.readouterr().err
