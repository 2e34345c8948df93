"""The pages as the pipeline makes them: a small run over the built-in world."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from pipeline_lib.agreement import agreement
from pipeline_lib.core import store
from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.hub import SHAPES_MIRROR
from pipeline_lib.core.store import Dataset
from pipeline_lib.data.ingest import ingest
from pipeline_lib.data.sources import known_truth
from pipeline_lib.evaluation import evaluate
from pipeline_lib.labels.recipe import build_labels
from pipeline_lib.presets import preset
from pipeline_lib.sweeps import report as sweeps
from tests.pipeline_lib.sweeps.made import sweep_report

SHAPES = preset("shapes")
PROMPTS = 32
LONG = "a" * 90


def make_pages(root: Path) -> dict[str, Path]:
    """Name -> HTML file, in one store under `root`."""
    url = str(root)
    pairs = ingest(url, replace(SHAPES.ingest, limit=160))
    scores = judged(url)
    labels = build_labels(url, [{"vote": ["human", "clip", "hpsv2"], "ties": "drop"}, {"flip": 0.1}], pairs, scores)
    models = {"base": None, "aligned": trained(url, root / "unet", labels, 0.05)}
    compared = agreement(url, pairs, scores)
    more = {"agreement": compared, "held_out": ingest(url, replace(SHAPES.held_out, limit=16))}
    prompts = root / f"{LONG}.txt"
    prompts.write_text("\n".join(["a large red circle", '<b onclick="alert(1)">&amp;', LONG, "日本語のプロンプト"]))
    several = models | {f"{LONG}-model": trained(url, root / "unet", labels, 0.5)}
    return {
        "ingest": local(pairs, "samples.html"),
        "agreement": local(compared),
        "labels": local(build_labels(url, [{"reveal": 0.5}, {"pseudo_label": "clip"}, "dedpo"], pairs, scores)),
        "evaluation": local(judge(url, models, [pairs], "shapes-test", PROMPTS, **more)),
        **sweep_pages(root),
        "comparison": local(judge(url, several, [], str(prompts), None, ("clip",))),
    }


def sweep_pages(root: Path) -> dict[str, Path]:
    """A claim with its findings; and a sweep without a reference, whose settings have names that are hard to set."""
    names = dict.fromkeys(
        ['<b onclick="alert(1)">&amp;', LONG, "日本語のプロンプト" * 4, "recipe=flip20 beta=500"], 0.01
    )
    pages = {"claim": sweep_report(), "sweep": sweep_report(names, claim=False, reference=None)}
    for name, report in pages.items():
        (root / f"{name}.html").write_text(sweeps.render(report), encoding="utf-8")
    return {name: root / f"{name}.html" for name in pages}


def judge(
    url: str,
    models: dict[str, Dataset | None],
    pairs: Sequence[Dataset],
    prompts: str,
    count: int | None,
    scorers: Sequence[str] = SHAPES.scorers,
    **more: Dataset,
) -> Dataset:
    """An evaluation with curves and the lines to pull a model."""
    config = replace(SHAPES.evaluate, prompts=prompts, num_prompts=count, steps=4)
    metrics = [{"step": step, "loss": 1 / step, "implicit_accuracy": 1 - 1 / step} for step in range(1, 60)]
    return evaluate(
        url, models, SHAPES.base, config, scorers, SHAPES_MIRROR, pairs, title="aligned against base",
        metrics={"aligned": metrics}, pull={"aligned": 'download_artifacts("models:/aligned@candidate")\n'}, **more,
    )  # fmt: skip


def judged(url: str) -> dict[str, Dataset]:
    """Scores of two scorers: one knows the truth, the other is the opposite for half of the prompts."""
    truth = known_truth("shapes://pairs")
    assert truth is not None
    found = {}
    for name, every in (("clip", 1000), ("hpsv2", 2)):
        signs = (truth["prompt_id"].hash(seed=0) % every == 0).cast(int) * -2 + 1
        table = truth.select("image_uid", "prompt_id", score=truth["utility"] * signs)
        w = store.writer(url, f"scores-{name}", 1, {"every": every})
        found[name] = w.commit([w.write_table("part-00000.parquet", table.to_arrow())])
    return found


def trained(url: str, folder: Path, labels: Dataset, noise: float) -> Dataset:
    """A dataset of stage "model": the base's UNet with noise of that share of each weight's spread."""
    from diffusers import UNet2DConditionModel

    from pipeline_lib.core.hub import snapshot

    train = TrainConfig(method="diffusion-dpo", adapter="full", beta=500.0, steps=1, batch_size=1, learning_rate=1e-4)
    w = store.writer(url, "model", 1, {"noise": noise, "train": asdict(train)}, [labels])
    unet: Any = UNet2DConditionModel.from_pretrained(
        snapshot(SHAPES.base.repo, mirror=SHAPES_MIRROR), subfolder="unet"
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in unet.parameters():
            if weight.ndim > 1:
                weight += noise * weight.std() * torch.randn(weight.shape, generator=generator)
    unet.save_pretrained(folder / "unet")
    (folder / "base.json").write_text(json.dumps(asdict(SHAPES.base)))
    return w.commit(w.write_folder("model", folder))


def local(dataset: Dataset, name: str = "report.html") -> Path:
    """Where a file of a local dataset is."""
    return dataset.local() / name
