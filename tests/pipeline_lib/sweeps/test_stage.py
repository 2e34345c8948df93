"""The whole stage on a tiny random base: outcomes against the stored scores, one report, nothing made twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from pipeline_lib.core import schemas, store
from pipeline_lib.core.config import BaseModel, EvaluateConfig, TrainConfig
from pipeline_lib.core.errors import ConfigError, UnknownNameError
from pipeline_lib.core.store import Dataset, open_dataset, verify
from pipeline_lib.generation import painter
from pipeline_lib.generation.prompts import load_prompts
from pipeline_lib.sweeps import stage
from pipeline_lib.sweeps.claim_files import read
from pipeline_lib.sweeps.question import Question, ask
from pipeline_lib.sweeps.report import render
from pipeline_lib.sweeps.stage import TrainedCell, read_report, sweep
from tests.pipeline_lib.evaluation import conftest as tiny
from tests.pipeline_lib.evaluation.conftest import base, calls  # noqa: F401  # fixtures

JUDGING = EvaluateConfig(
    prompts="shapes-validation", num_prompts=6, seeds=(0, 1), scheduler="ddim", steps=2, guidance=3.0, resolution=32
)
SCORERS = ("clip", "hpsv2")
SETTINGS = {"low": {"beta": 250, "recipe": "human"}, "high": {"beta": {"times": 2}, "train": {"rho": "$seed"}}}
MEASURES = [
    "win/quality",
    "win/average",
    "gain/clip",
    "diversity",
    "train/loss",
    "labels/tied",
    "labels/agreement/clip",
]
CLAIM = """
title: High betas win
sources: ["Nobody, 2026"]
says: They do.
miniature: Noise against noise.
sweep: {seeds: [0, 1, 2], common: {method: dpo}, settings: {low: {beta: 250}, high: {beta: 500}}, reference: low}
findings: {wins: {says: High wins, contrasts: [{measure: win/quality, of: {high: 1, low: -1}, above: 0.0}]}}
"""


@pytest.fixture(autouse=True)
def scorers(calls: list[int], monkeypatch: pytest.MonkeyPatch) -> list[int]:  # noqa: F811
    """The tiny scorers by registered names, also for this stage."""
    red, contrast = tiny.MEASURES.values()
    monkeypatch.setattr(tiny, "MEASURES", {"clip": red, "hpsv2": contrast})
    monkeypatch.setattr(tiny.scores, "embedding_scorer", lambda names: "clip" if "clip" in names else None)
    monkeypatch.setattr(stage, "scorer_identities", tiny.stage.scorer_identities)
    return calls


def asked(**given: Any) -> Question:
    given = (
        given if "claim" in given else {"settings": SETTINGS, "common": {"method": "dpo"}, "seeds": [0, 1], **given}
    )
    return ask("shapes", given.pop("judging", JUDGING), SCORERS, True, **{"measures": MEASURES, **given})


def cells(root: Path, question: Question, own: BaseModel, prompts: tuple[str, ...] = ("a new one",)) -> list[Any]:
    """A model for each cell, of random weights, with labels, pairs and a training curve."""
    made = []
    rows = [
        {"pair_id": str(i), "prompt_id": str(i), "prompt": p, "image_0": "a", "image_1": "b", "split": "train"}
        for i, p in enumerate(prompts)
    ]
    writer = store.writer(str(root), "ingest", 1, {})
    pairs = writer.commit([writer.write_table("pairs/part-0.parquet", pa.Table.from_pylist(rows, schemas.PAIRS))])
    votes = pl.DataFrame({"target": [1.0, 0.5], "human": [1.0, 0.5], "vote_clip": pl.Series([1, 1], dtype=pl.Int8)})
    writer = store.writer(str(root), "labels", 1, {}, [pairs])
    labels = writer.commit([writer.write_table("part-0.parquet", votes.to_arrow())], {"kept": 2, "tied": 1})
    for number, cell in enumerate(question.cells):
        config = TrainConfig(method="diffusion-dpo", seed=cell.seed, beta=100.0 + number % 2)
        writer = store.writer(str(root), "model", 1, {"train": asdict(config), "number": number}, [labels])
        folder = root / f"trained-{number}"
        tiny.unet(number + 2).save_pretrained(folder / "unet")
        (folder / "base.json").write_text(json.dumps(asdict(own)))
        lines = [{"step": step, "loss": 1.0 / step + cell.seed} for step in (1, 2, 3, 4)]
        shards = [*writer.write_folder("model", folder)]
        shards.append(writer.write_bytes("metrics.jsonl", "".join(json.dumps(x) + "\n" for x in lines).encode()))
        made.append(TrainedCell(cell, writer.commit(shards), own))
    return made


@pytest.fixture
def run(tmp_path: Path, base: BaseModel) -> Callable[..., Dataset]:  # noqa: F811
    def swept(question: Question, prompts: tuple[str, ...] = ("a new one",), **more: Any) -> Dataset:
        return sweep(str(tmp_path), question, cells(tmp_path, question, base, prompts), "hub", **more)

    return swept


def test_outcomes_follow_from_the_stored_scores_and_the_report_from_the_outcomes(run: Callable[..., Dataset]) -> None:
    seen: list[tuple[int, int]] = []
    done = run(asked(reference="low"), progress=lambda *at: seen.append(at))
    verify(done)
    assert seen[-1] == (4, 4) and done.counts == {"models": 4, "prompts": 6, "leaked_prompts": 0}
    outcomes = pl.read_parquet(done.local() / "outcomes.parquet")
    assert outcomes.group_by("measure").len().sort("measure").rows() == [
        ("diversity", 24),
        ("gain/clip", 24),
        ("labels/agreement/clip", 4),
        ("labels/tied", 4),
        ("train/loss", 4),
        ("win/average", 24),
        ("win/quality", 24),
    ]
    root = done.uri.rpartition("/sweep/")[0]
    report = read_report(done)
    (low, high) = report["settings"]
    ours, theirs = scores_of(root, low["models"]["1"]), scores_of(root, None)
    rows = ours.with_columns(
        (pl.col("true") - theirs["true"]).sign().mul(0.5).add(0.5).alias("won"),
        ((pl.col("clip_tiny") - theirs["clip_tiny"]) / np.std(theirs["clip_tiny"].to_numpy())).alias("gain"),
    )
    expected = rows.group_by("prompt_id").agg(pl.col("won", "gain").mean()).sort("prompt_id")
    mine = outcomes.filter(pl.col("setting") == "low", pl.col("seed") == 1)
    assert mine.filter(pl.col("measure") == "win/quality")["unit"].to_list() == expected["prompt_id"].to_list()
    assert mine.filter(pl.col("measure") == "win/quality")["value"].to_list() == expected["won"].to_list()
    gains = mine.filter(pl.col("measure") == "gain/clip")["value"].to_numpy()
    assert gains == pytest.approx(expected["gain"].to_numpy(), rel=1e-5)

    by_seed = low["estimates"]["win/quality"]["by_seed"]
    assert by_seed["1"] == pytest.approx(expected["won"].mean())
    assert low["estimates"]["win/quality"]["interval"][0] == pytest.approx(np.mean(list(by_seed.values())))
    difference = high["against"]["win/quality"]["difference"][0]
    means = [one["estimates"]["win/quality"]["interval"][0] for one in (low, high)]
    assert difference == pytest.approx(means[1] - means[0]) and low["against"] is None
    assert low["estimates"]["train/loss"]["by_seed"] == pytest.approx({"0": (1 / 3 + 1 / 4) / 2, "1": 31 / 24})
    assert low["estimates"]["labels/tied"]["interval"] == [0.5, 0.5, 0.5]
    assert high["parameters"] == {"method": "dpo", "beta": 1000.0, "train": {"rho": "$seed"}}
    assert high["train"]["beta"] == 101.0 and "seed" not in high["train"]
    assert report["curves"]["low"] == {"loss": [[s, pytest.approx(1 / s + 0.5)] for s in (1, 2, 3, 4)]}
    assert report["measures"]["win/quality"]["null"] == 0.5 and report["claim"] is None and report["findings"] == []
    assert report["prompts"] == {**report["prompts"], "name": "shapes-validation", "used": 6, "leaked": []}
    stages = {entry["uri"].partition("/")[0] for entry in report["lineage"]}
    assert stages == {"model", "labels", "ingest", "images", "image-scores"}
    assert "low" in render(report) and done.open("report.html").read().decode() == render(report)


def scores_of(root: str, model: str | None) -> pl.DataFrame:
    """The image scores of a model, or of the base, as the store has them."""
    for manifest in Path(root, "image-scores").glob("*/manifest.json"):
        found = open_dataset(str(manifest.parent))
        images = open_dataset(f"{root}/{found.inputs[0]['uri']}")
        if [source["uri"] for source in images.inputs] == ([model] if model else []):
            return found.scan().sort("prompt_id", "seed").collect()
    raise AssertionError(f"no scores of {model}")


def test_nothing_is_made_twice_and_the_base_once(
    run: Callable[..., Dataset], scorers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    painted: list[int] = []
    original = painter.Painter.paint
    monkeypatch.setattr(painter.Painter, "paint", lambda self, jobs: painted.append(len(jobs)) or original(self, jobs))
    first = run(asked())
    assert sum(painted) == sum(scorers) == 5 * 12, "four models and the base, six prompts, two seeds"
    assert run(asked()) == first
    other = run(asked(measures=["win/clip"]))
    assert other.key != first.key and sum(painted) == sum(scorers) == 5 * 12


def test_prompts_that_any_model_was_trained_on_are_left_out_for_all(run: Callable[..., Dataset]) -> None:
    known = load_prompts(JUDGING.prompts, JUDGING.num_prompts).prompts
    done = run(asked(), prompts=known[:2])
    assert read_report(done)["prompts"]["leaked"] == list(known[:2])
    assert read_report(done)["prompts"]["used"] == 4
    counts = pl.read_parquet(done.local() / "outcomes.parquet").filter(pl.col("measure") == "win/quality")
    assert counts.group_by("setting", "seed").len()["len"].to_list() == [4, 4, 4, 4]


def test_a_claim_is_judged_by_its_rule(run: Callable[..., Dataset]) -> None:
    claim = read("made-up", CLAIM)
    report = read_report(run(asked(claim=claim, measures=None)))
    (finding,) = report["findings"]
    assert finding["says"] == "High wins" and finding["verdict"] in ("reproduced", "not reproduced", "undecided")
    (contrast,) = finding["contrasts"]
    means = {one["name"]: one["estimates"]["win/quality"]["interval"][0] for one in report["settings"]}
    assert contrast["interval"][0] == pytest.approx(means["high"] - means["low"])
    assert report["claim"] == {
        "title": claim.title, "sources": list(claim.sources), "says": claim.says, "miniature": claim.miniature
    }  # fmt: skip
    harder = replace(claim, findings=tuple(replace(f, contrasts=()) for f in claim.findings))
    assert run(asked(claim=harder)).key != run(asked(claim=claim)).key, "another rule is another question"


def test_implicit_accuracy_is_by_held_out_prompt_and_needs_pairs(
    run: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = asked(measures=["implicit", "implicit/sketch"])
    with pytest.raises(ConfigError, match="Give `heldout`"):
        run(question)
    rows = [
        {"pair_id": str(i), "prompt_id": f"p{i // 2}", "prompt": f"prompt {i // 2}", "image_0": "a", "image_1": "b",
         "label_0": 1.0, "model_0": "photo", "model_1": "sketch" if i else "photo", "split": "test"}
        for i in range(4)
    ]  # fmt: skip
    writer = store.writer(str(tmp_path), "ingest", 1, {"held": "out"})
    pairs = pa.Table.from_pylist(rows, schemas.PAIRS)
    held_out = writer.commit([writer.write_table("pairs/part-0.parquet", pairs)])

    with pytest.raises(UnknownNameError, match="'sketch'"):
        run(asked(measures=["implicit/sketches"]), held_out=held_out)

    def rewards(root: str, model: Dataset, *_: Any) -> Dataset:
        """Right on the last three pairs; wrong on the first, or undecided, by the model's seed."""
        own = store.writer(root, "implicit", 1, {}, [model, held_out])
        first = -1.0 if model.config["train"]["seed"] else 0.0
        frame = pl.DataFrame(rows).select("pair_id", "prompt_id", human=pl.lit(1.0, pl.Float32))
        frame = frame.with_columns(reward=pl.Series([first, 2, 3, 4], dtype=pl.Float32))
        return own.commit([own.write_table("part-0.parquet", frame.to_arrow())])

    monkeypatch.setattr(stage, "implicit_rewards", rewards)
    done = run(question, held_out=held_out)
    found = pl.read_parquet(done.local() / "outcomes.parquet").filter(pl.col("setting") == "low")
    assert found.select("seed", "measure", "unit", "value").rows() == [
        (0, "implicit", "p0", 0.75),
        (0, "implicit", "p1", 1.0),
        (0, "implicit/sketch", "p0", 1.0),
        (0, "implicit/sketch", "p1", 1.0),
        (1, "implicit", "p0", 0.5),
        (1, "implicit", "p1", 1.0),
        (1, "implicit/sketch", "p0", 1.0),
        (1, "implicit/sketch", "p1", 1.0),
    ]
    assert held_out.path() in {source["uri"] for source in done.inputs}
    assert "implicit_draws" in read_report(done)["judging"]
