"""The table: for every stage its work, the bytes it leaves, hours and cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline_lib.presets import alignment, preset
from pipeline_lib.sizing import flops
from pipeline_lib.sizing.bases import BASES, TOKENS
from pipeline_lib.sizing.data import (
    Source,
    evaluation_bytes,
    image_store_bytes,
    label_bytes,
    latent_bytes,
    latent_numbers,
    score_bytes,
    text_bytes,
)
from pipeline_lib.sizing.rates import COMPUTE_SHARE, INGEST_BYTES_PER_SECOND, LABEL_PAIRS_PER_SECOND
from pipeline_lib.sizing.training import disk_bytes

EVALUATED_MODELS = 2
EVALUATED_PROMPTS = 500
"""The base and the aligned model on Pick-a-Pic's unique validation prompts, the presets' set."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What hours and cost are computed with.

    Attributes:
        flops_per_second: what one GPU sustains, not its peak.
        price: of one GPU hour, in any currency; hours of the CPU stages are not priced.
        rates: items per second and GPU of single stages, measured by the reader; they replace `flops_per_second`.
    """

    flops_per_second: float
    price: float
    rates: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One row. `bytes` that it writes; `hours` of one GPU, or where `on_gpu` is false of one CPU machine."""

    name: str
    items: int
    unit: str
    bytes: int
    hours: float
    on_gpu: bool = True


def stages(preset_name: str, method: str, source: Source, machine: Machine) -> Iterator[Stage]:
    """The rows of a preset with one method; KeyError for the built-in world, which takes minutes."""
    settings, passes, base = preset(preset_name), flops.PASSES[preset_name], BASES[preset_name]
    config = alignment(preset_name, method).train
    questions = 2 * source.pairs

    def on_gpu(name: str, items: int, unit: str, size: int, work: int) -> Stage:
        rate = machine.rates.get(name) or machine.flops_per_second * COMPUTE_SHARE[name] * items / work
        return Stage(name=name, items=items, unit=unit, bytes=size, hours=items / rate / 3600)

    def on_cpu(name: str, items: int, size: int, default: float) -> Stage:
        hours = items / (machine.rates.get(name) or default) / 3600
        return Stage(name=name, items=items, unit="pairs", bytes=size, hours=hours, on_gpu=False)

    ingest_rate = INGEST_BYTES_PER_SECOND / (2 * source.image_bytes)
    yield on_cpu("ingest", source.pairs, image_store_bytes(source), ingest_rate)
    scored = flops.score(settings.scorers, source.images, questions, source.prompts)
    yield on_gpu("score", source.images, "images", score_bytes(source, len(settings.scorers)), scored)
    yield on_cpu("label", source.pairs, label_bytes(source), LABEL_PAIRS_PER_SECOND)
    encoded = latent_bytes(source.images, latent_numbers(settings.encode.resolution), settings.encode.flipped)
    encoded += text_bytes(source.prompts, TOKENS, base.text_width, base.pooled_width)
    yield on_gpu("encode", source.images, "images", encoded, flops.encode(passes, source.images, source.prompts))
    work = flops.train(passes, config)
    yield on_gpu("train", flops.pairs_trained(config), "pairs", disk_bytes(config, base.unet), work)
    images = EVALUATED_MODELS * EVALUATED_PROMPTS * len(settings.evaluate.seeds)
    painted = flops.evaluate(passes, settings.evaluate, settings.scorers, EVALUATED_MODELS, EVALUATED_PROMPTS)
    size = evaluation_bytes(images, settings.evaluate.resolution)
    yield on_gpu("evaluate", images, "images", size, painted)


def text(rows: list[Stage], price: float) -> str:
    """The rows as a Markdown table, with their sums."""
    lines = ["| stage | work | bytes | hours | cost |", "|---|---|---|---|---|"]
    for row in rows:
        cost = f"{row.hours * price:,.0f}" if row.on_gpu else ""
        where = "GPU" if row.on_gpu else "CPU"
        lines.append(
            f"| {row.name} | {row.items:,} {row.unit} | {_gb(row.bytes)} | {_hours(row.hours)} {where} | {cost} |"
        )
    hours = sum(row.hours for row in rows if row.on_gpu)
    lines.append(f"| sum | | {_gb(sum(row.bytes for row in rows))} | {_hours(hours)} GPU | {hours * price:,.0f} |")
    return "\n".join(lines)


def _gb(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}" if hours >= 0.1 else "< 0.1"
