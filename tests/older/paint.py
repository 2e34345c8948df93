"""Runs in each environment: paint from folders as people do who have no code of this project.

Reads a JSON job from standard input: `folders` (name -> folder), `commands` (name -> the lines of the model's page),
`out`. Writes `<out>/<name>-plain.png` for every folder; for those with commands, which are published models,
`-commands.png` and `-pyfunc.png`. Writes the versions to standard output.
"""

import json
import os
import sys
from importlib.metadata import version
from importlib.util import find_spec

import mlflow
import torch
from diffusers import DiffusionPipeline

PROMPT = "a large red circle at the top of a gray background"

assert not [name for name in ("pipeline_lib", "tasks", "flows") if find_spec(name)], "this project can be imported"
job = json.load(sys.stdin)
os.chdir(job["out"])
for name, folder in job["folders"].items():
    pipe = DiffusionPipeline.from_pretrained(folder)
    image = pipe(
        PROMPT, num_inference_steps=8, guidance_scale=3.0, height=32, width=32, generator=torch.manual_seed(0)
    )
    image.images[0].save(f"{name}-plain.png")
for name, commands in job["commands"].items():
    exec(commands.replace('"a prompt", 0', f"{PROMPT!r}, 7"), {})
    os.rename("image.png", f"{name}-commands.png")
    model = mlflow.pyfunc.load_model(job["folders"][name])
    (png,) = model.predict({"prompt": [PROMPT], "seed": [7]})
    with open(f"{name}-pyfunc.png", "wb") as file:
        file.write(png)
sys.stdout.write(json.dumps({name: version(name) for name in ("transformers", "diffusers")}))
