"""What another package adds, in one file and a line of entry points for each, is known wherever it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

POINTS = """
[preference_alignment.scorers]
toy = toys:SCORER
[preference_alignment.losses]
toy-loss = toys:METHOD
[preference_alignment.label_steps]
toy_target = toys:ToyTarget
[preference_alignment.presets]
toy-base = toys:PRESET
[preference_alignment.readers]
toy = toys:open_toy
"""
TOYS = '''
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import polars as pl

from pipeline_lib.labels.steps import TARGET, Step
from pipeline_lib.presets import sd15
from pipeline_lib.presets.common import Alignment
from pipeline_lib.scoring.base import ImageScorer, Tower, WeightsFile
from pipeline_lib.training.methods import Method

WEIGHTS = WeightsFile(repo="me/toy", revision="1" * 40, file="toy.safetensors", bytes=7_000_000_000)


def locate(mirror):
    raise NotImplementedError


SCORER = ImageScorer(
    name="toy", label="The toy", locate=locate, needs=(WEIGHTS,), tower=Tower(name="toy", flops=10**9), embeds=True
)
METHOD = Method(loss="toys:toy_loss")
TRAIN = replace(sd15.DPO, method="toy-loss")
PRESET = replace(
    sd15.PRESET,
    scorers=(*sd15.PRESET.scorers, "toy"),
    methods={**sd15.PRESET.methods, "toyed": Alignment(labels="human", train=TRAIN)},
)


def toy_loss(pairs, config):
    raise NotImplementedError


def open_toy(config):
    raise NotImplementedError


@dataclass(frozen=True)
class ToyTarget(Step):
    """Every pair is won by one side."""

    name: ClassVar[str] = "toy_target"
    label: ClassVar[str] = "a toy"
    main: ClassVar[str] = "side"
    sets: ClassVar[frozenset[str]] = frozenset({TARGET, "toy_note"})
    side: Literal["left", "right", 0]
    most: int | None = None

    def words(self):
        return f"The {self.side} image wins."

    def run(self, frame):
        kept = frame.head(len(frame) if self.most is None else self.most)
        target = pl.lit(1.0 if self.side == "left" else 0.0, pl.Float32).alias("target")
        kept = kept.with_columns(target, pl.lit("toy").alias("source"), pl.lit("noted").alias("toy_note"))
        return kept, {"too-many": len(frame) - len(kept)}
'''
CHECKS = """
import sys

import polars as pl
from pydantic import TypeAdapter

from deploy.doctor.hub import wanted_by
from deploy.doctor.needs import needs_of
from pipeline_lib.core.errors import LabelError
from pipeline_lib.data.sources import SOURCES
from pipeline_lib.labels.explain import explain
from pipeline_lib.labels.parse import parse
from pipeline_lib.labels.recipe import apply
from pipeline_lib.labels.report import _who
from pipeline_lib.presets import METHODS, MethodName, PresetName, alignment, preset
from pipeline_lib.reports import label
from pipeline_lib.scoring.scorers import defaults, embedding_scorer
from pipeline_lib.sizing import flops
from pipeline_lib.sizing.data import PICKAPIC_V2
from pipeline_lib.sizing.table import Machine, stages
from pipeline_lib.training.methods import check_config, method
from tasks import fields

# the scorer: forms, pages, diversity, sizing, doctor
assert "toy" in TypeAdapter(fields.ScorerName).json_schema()["enum"] and "toy" not in defaults()
assert label("toy") == "The toy" and embedding_scorer(["toy", "clip"]) == "toy"
assert flops.score(["toy"], 1, 1, 1) == 10**9
assert any(one.repo == "me/toy" for one in wanted_by(preset("toy-base")))
assert needs_of("toy-base").cache - needs_of("sd15").cache == 7_000_000_000

# the preset and its method: forms, sizing
assert "toy-base" in TypeAdapter(PresetName).json_schema()["enum"]
assert "toyed" in METHODS and "toyed" in TypeAdapter(MethodName).json_schema()["enum"]
machine = Machine(flops_per_second=1e13, price=1.0, rates={})
assert len(list(stages("toy-base", "toyed", PICKAPIC_V2, machine))) == 6

# the loss
assert method("toy-loss").loss == "toys:toy_loss"
check_config(alignment("toy-base", "toyed").train)

# the label step: options, order, words, columns, page
recipe = [{"toy_target": "left", "most": 2}, {"flip": 0.0}]
steps = parse(recipe)
assert steps[0].side == "left" and steps[0].most == 2 and parse([{"toy_target": 0}])[0].most is None
for wrong in ({"toy_target": "up"}, {"toy_target": False}, {"toy_target": "left", "most": "few"}):
    try:
        parse([wrong])
    except LabelError as error:
        assert "is not one of left, right, 0" in str(error) or "a whole number of 64 bits or nothing" in str(error)
    else:
        raise AssertionError(wrong)
try:
    parse([*recipe, {"single": "human"}])
except LabelError as error:
    assert "step 1 (toy_target) has set the target already" in str(error)
else:
    raise AssertionError
assert "The left image wins." in explain(recipe) and _who([step.plain() for step in steps]) == "a toy"
ids = ["pair_id", "prompt_id", "image_0", "image_1"]
frame = pl.DataFrame({name: ["a", "b", "c"] for name in ids} | {"human": pl.Series([None] * 3, dtype=pl.Float32)})
labels, counts = apply(frame, steps)
assert labels["target"].to_list() == [1.0, 1.0] and labels["toy_note"].to_list() == ["noted"] * 2
assert counts["dropped:1.toy_target:too-many"] == 1

assert "toy" in SOURCES
assert "torch" not in sys.modules
"""


def test_every_place_knows_what_another_package_adds(tmp_path: Path) -> None:
    described = tmp_path / "toys-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(POINTS)
    (tmp_path / "toys.py").write_text(TOYS)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{tmp_path}"}
    done = subprocess.run(
        [sys.executable, "-c", CHECKS], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
