"""Align the built-in world's base model with its pairs, and print how often the result wins."""

import json
from pathlib import Path

from pipeline_lib import chain

plan = chain.plan(
    "shapes", "dpo", store="try/store", scratch=Path("try/scratch"), train={"steps": 100}, num_prompts=64
)
found = chain.products(plan, "evaluation", report=lambda stage, done, total: print(stage, done, total))
with found["evaluation"].open("report.json") as file:
    print(json.load(file)["win_rate"])
