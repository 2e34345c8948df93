"""The registry on real servers, its files on S3: who becomes the champion, comparisons, what a consumer pulls."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from prefect.settings import PREFECT_API_URL, temporary_settings

from deploy.stack import running_stack
from pipeline_lib.core.errors import ConfigError, UnknownNameError
from pipeline_lib.core.store import open_dataset
from pipeline_lib.evaluation.headline import headline
from pipeline_lib.generation.painter import images_at_once
from pipeline_lib.generation.pull import pull_commands, tried_versions
from tests.integration.registry import CONFIG, NAME, Registry, new_registry
from tests.s3_server import S3Server

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

BUCKET = "models"
# Runs with -S, without what .pth files add to the packages' folder: an editable install of this project.
CONSUMER = """
import importlib.util, json, sys

sys.path.append(sys.argv[1])
for package in ("open_clip", "peft", "prefect", "timm", "torchvision"):  # a consumer need not have them
    sys.modules[package] = None
assert not [name for name in ("pipeline_lib", "tasks", "flows", "deploy") if importlib.util.find_spec(name)]
job = json.load(sys.stdin)
exec(job["commands"])
noise = noise.expand(job["batch"], -1, -1, -1)
pipe([prompt] * job["batch"], latents=noise, **sampling).images[0].save("batch.png")

model = mlflow.pyfunc.load_model(job["uri"])
for number, image in enumerate(model.predict({"prompt": job["prompts"], "seed": job["seeds"]})):
    with open(f"{number}.png", "wb") as file:
        file.write(image)
"""

BUILDING = (
    "pipeline_lib.models.aligned.load_pipeline",
    "pipeline_lib.models.aligned.load_unet",
    "pipeline_lib.models.aligned.pipeline_from",
    "pipeline_lib.models.published.save",
    "tasks.register.write_flavour",
    "mlflow.initialize_logged_model",
    "mlflow.MlflowClient.log_model_artifacts",
    "mlflow.register_model",
)
"""What registering a new version calls."""


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("s3")
    (folder / BUCKET).mkdir()
    server = S3Server(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def registry(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    root = tmp_path_factory.mktemp("gate")
    keys = {**s3.env(), "PIPELINE_ARTIFACTS": f"s3://{BUCKET}/mlflow"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in keys.items():
            patch.setenv(name, value)
        with (
            running_stack(tmp_path_factory.mktemp("stack")) as env,
            temporary_settings({PREFECT_API_URL: env["PREFECT_API_URL"]}),
        ):
            for name in keys:  # only the servers know them
                patch.delenv(name)
            patch.setenv("MLFLOW_TRACKING_URI", env["MLFLOW_TRACKING_URI"])
            yield new_registry(root, env["MLFLOW_TRACKING_URI"])


def test_only_models_that_pass_the_gate_become_the_champion(registry: Registry) -> None:
    # Without a champion the base is the rival: a worse model is a candidate only.
    evaluated = registry.evaluate("worse")
    worse = registry.register(evaluated)
    assert registry.aliases() == {"candidate": worse}
    assert registry.tags(worse)["pipeline.gate"] == "not passed"
    reason = registry.tags(worse)["pipeline.gate_reason"]
    assert reason.startswith("Not promoted. Does not pass the gate against base: average win rate ")
    assert "significantly below 45.0%: CLIP" in reason
    assert_explained(evaluated, NAME)

    # A better one becomes the champion.
    evaluated = registry.evaluate("better")
    better = registry.register(evaluated)
    assert registry.aliases() == {"candidate": better, "champion": better}
    assert registry.tags(better)["pipeline.gate"] == "passed"
    assert registry.tags(better)["pipeline.gate_reason"].startswith("Promoted. Passes the gate against base: ")
    assert evaluated["report"]["gate"][NAME]["passed"]
    assert_explained(evaluated, NAME)

    # The same again asks the same question, although the model itself is the champion now.
    again = registry.evaluate("better")
    assert again["uri"] == evaluated["uri"]
    with nothing_built():
        assert registry.register(again) == better
    assert registry.aliases() == {"candidate": better, "champion": better}

    # Now the champion is the rival: on the same prompts and noise, with the images made before.
    evaluated = registry.evaluate("worse")
    assert evaluated["report"]["champion"] == f"champion (version {better})"
    label = evaluated["report"]["champion"]
    assert evaluated["report"]["models"][label]["images"] == again["report"]["models"][NAME]["images"]
    candidate = registry.register(evaluated)
    assert registry.aliases() == {"candidate": candidate, "champion": better}
    assert f"against champion (version {better})" in registry.tags(candidate)["pipeline.gate_reason"]
    assert_explained(evaluated, NAME)

    # An evaluation from before the champion says nothing about it.
    stale = registry.evaluate("best")
    assert stale["report"]["gate"][NAME]["passed"]
    registry.mlflow.set_registered_model_alias(NAME, "champion", worse)
    late = registry.register(stale)
    assert registry.aliases() == {"candidate": late, "champion": worse}
    reason = registry.tags(late)["pipeline.gate_reason"]
    assert f"does not compare it with champion (version {worse}), the present champion" in reason
    registry.mlflow.set_registered_model_alias(NAME, "champion", better)

    # A better model than the champion takes its place.
    assert registry.register(registry.evaluate("best")) == late
    assert registry.aliases() == {"candidate": late, "champion": late}
    assert registry.tags(late)["pipeline.gate_rival"] == better
    metrics = {m.key for m in registry.mlflow.get_logged_model(source(registry, late)).metrics}
    assert {"eval/win_rate/average", "eval/p_holm/clip", "eval/difference/true"} <= metrics


@contextmanager
def nothing_built() -> Iterator[None]:
    """Within it no base is loaded, no folder is written, and nothing is uploaded."""

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a version that is there is not built again")

    with pytest.MonkeyPatch.context() as patch:
        for name in BUILDING:
            patch.setattr(name, refused)
        yield


def test_an_evaluation_of_another_model_is_refused(registry: Registry) -> None:
    wrong = {**registry.evaluate("best"), "model": registry.model("worse").uri}
    before = registry.aliases()
    with pytest.raises(ConfigError, match="no answer of the gate"):
        registry.register(wrong)
    assert registry.aliases() == before


def test_compare_repeats_the_evaluations_numbers_and_mirrors_them_for_another_reference(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    best = registry.register(registry.evaluate("best"))
    registry.mlflow.set_registered_model_alias(NAME, "champion", best)
    evaluated = registry.evaluate("worse")
    worse = registry.register(evaluated)
    started = time.time()
    base = str(Path(registry.base.mirror) / registry.base.repo)
    names = [base, f"models:/{NAME}@candidate", f"models:/{NAME}@champion"]
    found = registry.compare(names, None)
    assert registry.compare(names, None) == found
    with pytest.raises(UnknownNameError, match="Use one of"):
        registry.compare(names, "base")
    swapped = registry.compare(names, names[1])
    assert headline(found["report"]) in caplog.text

    labels = {"base": "base", NAME: f"{NAME}/{worse}", f"champion (version {best})": f"{NAME}/{best}"}
    wanted = evaluated["report"]
    for theirs, ours in labels.items():
        assert found["report"]["models"][ours] == swapped["report"]["models"][ours] == wanted["models"][theirs]
        images = wanted["models"][theirs]["images"]
        assert open_dataset(f"{registry.store}/{images['uri']}").created < started, "no image is painted again"
    assert list(found["report"]["comparisons"]) == list(labels.values())[1:]
    for theirs in (NAME, f"champion (version {best})"):
        assert found["report"]["comparisons"][labels[theirs]] == wanted["comparisons"][theirs]
    mirrored = swapped["report"]["win_rate"]["base"]
    for scorer, (point, low, high) in wanted["win_rate"][NAME].items():
        assert mirrored[scorer] == pytest.approx([1 - point, 1 - high, 1 - low], abs=1e-12)

    experiment = registry.mlflow.get_experiment_by_name("compare")
    runs = registry.mlflow.search_runs([experiment.experiment_id])
    assert len(runs) == 2, "a comparison that is asked for again keeps its run"
    (run_id,) = (run.info.run_id for run in runs if run.data.params["reference"] == "base")
    run = registry.mlflow.get_run(run_id)
    assert run.data.metrics[f"{NAME}/{worse}/win_rate/average"] == wanted["win_rate"][NAME]["average"][0]
    assert {model.model_id for model in run.inputs.model_inputs} == {source(registry, v) for v in (best, worse)}
    assert f"/#/models/{NAME}/versions/{best}" in run.data.tags["mlflow.note.content"]
    files = registry.mlflow.list_artifacts(run_id, "evaluation")
    assert {file.path for file in files} == {"evaluation/report.html", "evaluation/report.json"}


def test_a_process_without_this_project_paints_what_the_evaluation_stored(
    registry: Registry, s3: S3Server, tmp_path: Path
) -> None:
    evaluated = registry.evaluate("better")
    version = registry.register(evaluated)
    evaluation = open_dataset(evaluated["uri"])
    rows = pa.concat_tables(evaluation.read(table) for table in evaluation.tables()).to_pylist()
    rows = [row for row in rows if row["model"] == NAME][:3]

    uri = f"models:/{NAME}@candidate"
    commands = pull_commands(uri, CONFIG)
    assert commands == evaluated["report"]["pull"][NAME]
    page = registry.mlflow.get_model_version(NAME, version).description
    assert f"models:/{NAME}/{version}" in page and tried_versions() in page
    job = {
        "commands": commands.replace('"a prompt", 0', f"{rows[0]['prompt']!r}, {rows[0]['seed']}"),
        "batch": images_at_once(CONFIG, "cpu"),
        "uri": uri,
        "prompts": [row["prompt"] for row in rows],
        "seeds": [row["seed"] for row in rows],
    }
    known = ("PATH", "OMP_NUM_THREADS", "MLFLOW_TRACKING_URI", "NO_PROXY", "no_proxy")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", CONSUMER, sysconfig.get_path("purelib")],
        input=json.dumps(job),
        cwd=tmp_path,
        env={name: os.environ[name] for name in known if name in os.environ} | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for number, row in enumerate(rows):
        assert (tmp_path / f"{number}.png").read_bytes() == row["image"], f"pyfunc: {row['prompt']!r}"
    stored, alone, batch = (
        np.asarray(Image.open(file), np.int16)
        for file in (io.BytesIO(rows[0]["image"]), tmp_path / "image.png", tmp_path / "batch.png")
    )
    assert np.array_equal(batch, stored), "plain diffusers, as many images at once as in the evaluation"
    assert np.abs(alone - stored).max() <= 1
    model = registry.mlflow.get_logged_model(source(registry, version))
    assert model.artifact_location.startswith("mlflow-artifacts:/")
    assert list((s3.folder / BUCKET).glob(f"mlflow/*/models/{model.model_id}/artifacts/unet/*.safetensors"))


def source(registry: Registry, version: str) -> str:
    return str(registry.mlflow.get_model_version(NAME, version).source).removeprefix("models:/")


def assert_explained(evaluated: dict[str, Any], name: str) -> None:
    """The page says what the tag says."""
    page = (Path(evaluated["uri"]) / "report.html").read_text(encoding="utf-8")
    sentence = evaluated["report"]["gate"][name]["sentence"]
    assert "Gate to @champion" in page and sentence in page
