"""What a training run will see, take and cost, said before it starts: from its own settings and the kept labels."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline_lib.core.config import BaseModel, TrainConfig
from pipeline_lib.core.progress import duration_text
from pipeline_lib.core.store import Dataset
from pipeline_lib.presets import PRESETS
from pipeline_lib.sizing import flops
from pipeline_lib.sizing.rates import COMPUTE_SHARE, DEFAULT_TERAFLOPS, PRICE, SHAPES_PASSES_PER_SECOND

MANY_EPOCHS = 50.0
"""A run that sees its labels more often warns. Diffusion-DPO's run, the longest of the presets', sees those of
Pick-a-Pic v2 4.8 times (2,000 steps of 2,048 pairs, 851,293 pairs); this is ten times as much. Where over-fitting
begins was not measured."""
WORLD = "shapes"


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """An estimate.

    Attributes:
        labels: kept pairs; the run sees `pairs` of them, repeats counted, in `steps` optimizer steps.
        seconds: of one GPU for all steps, or, where `on_gpu` is false, of one CPU core; None where nothing is known
            about a base of this kind.
    """

    labels: int
    pairs: int
    steps: int
    seconds: float | None
    on_gpu: bool

    @property
    def epochs(self) -> float:
        """How often the run sees each label."""
        return self.pairs / self.labels

    def words(self) -> str:
        """Two sentences for a log: what the run sees, and what it takes and costs."""
        seen = (
            f"{self.steps:,} steps of {self.pairs // self.steps:,} pairs see the {self.labels:,} labels "
            f"{_times(self.epochs)} times ({_times(self.epochs)} epochs)."
        )
        if self.seconds is None:
            return f"{seen} How long that takes is not known beforehand for this base."
        if not self.on_gpu:
            core = f"By estimate {duration_text(self.seconds)} of a CPU core, from one run on a busy machine"
            return f"{seen} {core} (docs/cost.md), after the start of the trainer."
        hours = self.seconds / 3600
        return (
            f"{seen} By estimate {_hours(hours)} GPU hours, which cost {hours * PRICE:,.0f} at {PRICE} an hour, on "
            f"GPUs that sustain {DEFAULT_TERAFLOPS} TFLOP/s (docs/cost.md; no GPU was timed)."
        )

    def warning(self) -> str | None:
        """What to tell about a run that sees its labels more than `MANY_EPOCHS` times; None for any other."""
        if self.epochs <= MANY_EPOCHS:
            return None
        fewer = max(1, int(self.steps * MANY_EPOCHS / self.epochs))
        return (
            f"The run sees each of its {self.labels:,} labels {_times(self.epochs)} times; the runs of the presets' "
            f"papers see theirs up to 5 times, and this warning begins at {MANY_EPOCHS:.0f}. Train on more pairs, or "
            f"give steps={fewer} or less, or a smaller gradient_accumulation (docs/cost.md)."
        )


def forecast(model: BaseModel, config: TrainConfig, labels: int, resolution: int | None = None) -> Forecast:
    """What training `model` by `config` will see and take.

    Args:
        labels: pairs that the labels keep, at least 1.
        resolution: of the encoded images; None for that of the base's preset. Another one counts by its pixels, a
            little less than attention takes.
    """
    pairs, name = flops.pairs_trained(config), known_base(model)
    if name is None or name not in (
        WORLD,
        *flops.PASSES,
    ):  # of another package, and not declared
        seconds = None
    elif name == WORLD:
        seconds = 2 * pairs * flops.forward_passes(config) / SHAPES_PASSES_PER_SECOND
    else:
        seconds = flops.train(flops.PASSES[name], config) / (DEFAULT_TERAFLOPS * flops.TERA * COMPUTE_SHARE["train"])
    if seconds is not None and name is not None and resolution:
        seconds *= (resolution / PRESETS[name].encode.resolution) ** 2
    return Forecast(labels=labels, pairs=pairs, steps=config.steps, seconds=seconds, on_gpu=name != WORLD)


def of_datasets(model: BaseModel, config: TrainConfig, encoded: Dataset, labels: Dataset) -> Forecast | None:
    """`forecast` by what the datasets of a run say of themselves; None for labels of which none is kept."""
    kept = labels.counts.get("kept", 0)
    return forecast(model, config, kept, encoded.config.get("encode", {}).get("resolution")) if kept else None


def known_base(model: BaseModel) -> str | None:
    """The preset whose base this is, wherever its files lie; for another base of SDXL's family that preset, as all of
    them have its size. None for others of the family sd, whose sizes differ."""
    found = next((name for name, preset in PRESETS.items() if preset.base.repo == model.repo), None)
    return found or ("sdxl" if model.family == "sdxl" else None)


def _times(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}"
