"""A published model folder by itself: its pyfunc and plain diffusers paint what the evaluation painted."""

from __future__ import annotations

import ast
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from mlflow.models import Model
from PIL import Image

from pipeline_lib.core import store
from pipeline_lib.core.config import EvaluateConfig, TrainConfig
from pipeline_lib.generation.embeddings import Texts
from pipeline_lib.generation.painter import initial_noise, load_painter
from pipeline_lib.generation.pull import OLDER, pull_commands, tried_versions
from pipeline_lib.models import FAMILIES
from pipeline_lib.training.policy import build_policy, save_policy
from tasks import pyfunc
from tasks.register import publish
from tests.pipeline_lib.models import tiny

JOBS = [("a red circle", 0), ("a blue square", 3)]
ROUNDING = {"no": 1, "bf16": 8}
"""Grey levels by which an image may differ when it is painted alone."""


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)), np.int16)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mirror")
    tiny.write_sd(folder / "tiny/v", "v_prediction")
    tiny.write_sdxl(folder / "tiny/xl")
    return folder


@pytest.fixture(
    scope="module",
    params=[("v", "full", "ddim", "no"), ("v", "lora", "dpmsolver++", "bf16"), ("xl", "lora", "euler", "no")],
    ids=lambda param: "-".join(param),
)
def published(
    request: pytest.FixtureRequest, mirror: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, EvaluateConfig, list[bytes]]]:
    """A model as `register` publishes it, the settings of its evaluation, and the images that it stored for JOBS."""
    name, adapter, scheduler, precision = request.param
    folder, base = tmp_path_factory.mktemp("published"), tiny.base(mirror, name)
    training = TrainConfig(method="diffusion-dpo", adapter=adapter, lora_rank=2)
    policy = build_policy(base, training)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in policy.trainable.values():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    save_policy(policy, base, training, folder / "trained")
    writer = store.writer(str(folder / "store"), "model", 1, {})
    trained = writer.commit(writer.write_folder("model", folder / "trained"))
    config = EvaluateConfig(
        prompts="-", scheduler=scheduler, steps=3, guidance=3.0, resolution=tiny.SIDE, mixed_precision=precision
    )
    stored = load_painter(trained, base, config, Texts(FAMILIES.get(base.family)), "cpu").paint(JOBS)
    publish(trained, base, config, folder / "model")
    yield folder / "model", config, stored


def test_the_pyfunc_paints_what_the_evaluation_stored(
    published: tuple[Path, EvaluateConfig, list[bytes]], tmp_path: Path
) -> None:
    folder, _, stored = published
    # A copy, as a user's download is: loading lets Python leave bytecode beside the code.
    model = mlflow.pyfunc.load_model(str(shutil.copytree(folder, tmp_path / "model")))
    prompts, seeds = map(list, zip(*JOBS, strict=True))
    assert model.predict({"prompt": prompts, "seed": seeds}) == stored
    assert model.predict({"prompt": [JOBS[0][0]]}) == stored[:1], "seeds are 0 where none are given"
    assert model.predict({"prompt": "  a red\tcircle "}) == stored[:1]
    other = model.predict({"prompt": [JOBS[0][0]]}, params={"steps": 1, "resolution": 2 * tiny.SIDE})
    assert pixels(other[0]).shape == (2 * tiny.SIDE, 2 * tiny.SIDE, 3)
    with pytest.raises(mlflow.MlflowException, match="prompt"):
        model.predict({"text": prompts})


def test_the_pull_commands_paint_what_the_evaluation_stored(
    published: tuple[Path, EvaluateConfig, list[bytes]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, config, stored = published
    monkeypatch.chdir(tmp_path)
    commands = pull_commands(str(folder), config)
    assert commands.count('"a prompt", 0') == 1
    for (prompt, seed), image in zip(JOBS, stored, strict=True):
        exec(commands.replace('"a prompt", 0', f"{prompt!r}, {seed}"), {})
        apart = np.abs(pixels(Path("image.png").read_bytes()) - pixels(image))
        assert apart.max() <= ROUNDING[config.mixed_precision]


def test_the_folder_says_how_to_sample_and_holds_no_pickle(
    published: tuple[Path, EvaluateConfig, list[bytes]],
) -> None:
    folder, config, _ = published
    model: Any = Model.load(folder)
    assert model.metadata == {
        "scheduler": config.scheduler,
        "steps": 3,
        "guidance": 3.0,
        "resolution": tiny.SIDE,
        "mixed_precision": config.mixed_precision,
    }
    assert {param.name: param.default for param in model.signature.params} == {
        "steps": 3,
        "guidance": 3.0,
        "resolution": tiny.SIDE,
    }
    assert json.loads((folder / "input_example.json").read_text())["seed"] == [0, 1]
    assert {file.suffix for file in folder.rglob("*") if file.is_file()} <= {
        "", ".json", ".py", ".safetensors", ".txt", ".yaml",
    }  # fmt: skip
    assert str(Path(__file__).parents[2]) not in (folder / "MLmodel").read_text()
    assert "+" not in (folder / "requirements.txt").read_text(), "a package index has no torch==2.13.0+cpu"
    pipeline = DiffusionPipeline.from_pretrained(folder)
    assert type(pipeline.scheduler).__name__.lower().startswith(config.scheduler.removesuffix("++"))


@pytest.mark.parametrize(
    ("prompt", "seed"), [("a red circle", 0), (" zwei\u2003gru\u0308ne  Kreise\n", 2**40), ("", -1)]
)
def test_noise_is_that_of_the_evaluation(prompt: str, seed: int) -> None:
    assert torch.equal(pyfunc.initial_noise(prompt, seed, (4, 8, 8)), initial_noise(prompt, seed, (4, 8, 8)))


def test_the_models_page_and_the_docs_name_the_versions_that_were_tried() -> None:
    page = (Path(__file__).parents[2] / "docs" / "registry.md").read_text(encoding="utf-8")
    for transformers, diffusers in OLDER.items():
        assert f"{transformers} and diffusers {diffusers}" in page or f"{transformers} and {diffusers}" in page
        assert f"transformers {transformers} with diffusers {diffusers}" in tried_versions()


def test_the_pyfunc_imports_what_a_consumer_has() -> None:
    tree = ast.parse(Path(pyfunc.__file__).read_text())
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    found = {name.partition(".")[0] for name in names} - set(__import__("sys").stdlib_module_names)
    assert found == {"diffusers", "mlflow", "pandas", "torch"}
