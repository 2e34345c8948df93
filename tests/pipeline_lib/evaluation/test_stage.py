"""The whole stage on a tiny random base: what is stored, shared, left out and refused."""

import io
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from pipeline_lib.core import schemas, store
from pipeline_lib.core.config import BaseModel, EvaluateConfig
from pipeline_lib.core.errors import ConfigError, EvaluationError, UnknownNameError
from pipeline_lib.core.store import Dataset, verify
from pipeline_lib.evaluation import evaluate, scores
from pipeline_lib.generation import painter
from pipeline_lib.generation import stage as generate
from pipeline_lib.generation.prompts import load_prompts
from tests.pipeline_lib.evaluation.conftest import unet

CONFIG = EvaluateConfig(
    prompts="shapes-validation", num_prompts=5, seeds=(0, 1), scheduler="ddim", steps=2, guidance=3.0, resolution=32
)
SCORERS = ("red", "contrast")

Trained = Callable[..., Dataset]


@pytest.fixture
def run(base: BaseModel, calls: list[int]) -> Callable[..., Dataset]:
    def evaluated(
        root: Path, models: dict[str, Dataset | None], config: EvaluateConfig = CONFIG, **more: Any
    ) -> Dataset:
        return evaluate(str(root), models, base, config, SCORERS, "hub", **more)

    return evaluated


def read_json(dataset: Dataset) -> dict[str, Any]:
    with dataset.open("report.json") as file:
        return json.load(file)


def ingested(root: Path, prompts: list[str]) -> Dataset:
    rows = [
        {"pair_id": str(i), "prompt_id": str(i), "prompt": p, "image_0": "a", "image_1": "b", "split": "train"}
        for i, p in enumerate(prompts)
    ]
    writer = store.writer(str(root), "ingest", 1, {})
    return writer.commit([writer.write_table("pairs/part-00000.parquet", pa.Table.from_pylist(rows, schemas.PAIRS))])


def test_table_report_and_counts(run: Callable[..., Dataset], trained: Trained, tmp_path: Path) -> None:
    model = trained(str(tmp_path), 2)
    seen: list[tuple[int, int]] = []
    done = run(tmp_path, {"base": None, "aligned": model}, progress=lambda *at: seen.append(at))
    verify(done)
    table = done.scan().collect()
    assert table.columns == [*schemas.EVALUATION.names, *(f"{scorer}_tiny" for scorer in SCORERS), "true", "diversity"]
    assert table["model"].value_counts(sort=True)["count"].to_list() == [10, 10]
    assert done.counts == {"images": 20, "leaked_prompts": 0, "prompts": 5}
    assert seen[-1] == (40, 40) and seen == sorted(seen)

    report = read_json(done)
    assert set(report["win_rate"]["aligned"]) == {*SCORERS, "true", "average"}
    base_rows, ours = (table.filter(table["model"] == name).sort("prompt_id", "seed") for name in ("base", "aligned"))
    wins = ours["red_tiny"].to_numpy() > base_rows["red_tiny"].to_numpy()
    assert report["win_rate"]["aligned"]["red"][0] == pytest.approx(np.mean(wins))
    assert report["models"]["aligned"]["means"]["true"] == pytest.approx(ours["true"].mean())
    assert report["models"]["aligned"]["weights"] == [{"uri": model.path(), "digest": model.digest}]
    with done.open("report.html") as file:
        page = file.read()
    assert b"aligned against base" in page and b"red_tiny" in page


def test_categories_diversity_and_power_are_reported(
    run: Callable[..., Dataset], trained: Trained, tmp_path: Path
) -> None:
    done = run(tmp_path, {"base": None, "aligned": trained(str(tmp_path), 2)}, replace(CONFIG, num_prompts=12))
    report, table = read_json(done), done.scan().collect()
    parts = report["comparisons"]["aligned"]["categories"]
    shapes = Counter(prompt.split(" ")[3] for prompt in set(table["prompt"]))
    assert {name: part["prompts"] for name, part in parts.items()} == {k: v for k, v in shapes.items() if v > 1}
    assert all(set(part["scorers"]) == {*SCORERS, "true"} for part in parts.values())

    rows = {name: table.filter(table["model"] == name).sort("prompt_id", "seed") for name in ("base", "aligned")}
    first = [np.asarray(Image.open(io.BytesIO(png)), float).ravel() for png in rows["base"]["image"][:2]]
    cosine = first[0] @ first[1] / np.linalg.norm(first[0]) / np.linalg.norm(first[1])
    assert rows["base"]["diversity"][:2].to_list() == pytest.approx([1 - cosine] * 2, rel=1e-4)
    means = {name: frame["diversity"].mean() for name, frame in rows.items()}
    assert {name: report["models"][name]["diversity"] for name in means} == pytest.approx(means)
    difference = report["comparisons"]["aligned"]["diversity"]
    assert difference[0] == pytest.approx(means["aligned"] - means["base"])
    assert report["statistics"]["power"].startswith("With 12 prompts a true 53% is detected")
    page = done.open("report.html").read().decode()
    assert "By category" in page and "Diversity within a prompt" in page

    single = run(tmp_path, {"base": None, "aligned": trained(str(tmp_path), 2)}, replace(CONFIG, seeds=(0,)))
    assert "diversity" not in single.scan().collect().columns
    assert "diversity" not in read_json(single)["comparisons"]["aligned"]


def test_the_gate_compares_with_the_champion(run: Callable[..., Dataset], trained: Trained, tmp_path: Path) -> None:
    models = {"base": None, "holder": trained(str(tmp_path), 2), "new": trained(str(tmp_path), 3)}
    report = read_json(run(tmp_path, models, champion="holder"))
    assert list(report["comparisons"]) == ["holder", "new"] and list(report["gate"]) == ["new"]
    gate = report["gate"]["new"]
    assert gate["rival"] == "holder" and "the gate against holder" in gate["sentence"]
    direct = read_json(run(tmp_path, {"holder": models["holder"], "new": models["new"]}))
    assert gate["comparison"]["scorers"] == direct["comparisons"]["new"]["scorers"]
    assert gate == direct["gate"]["new"]
    assert run(tmp_path, models).key != run(tmp_path, models, champion="holder").key
    strict, lenient = (
        read_json(run(tmp_path, models, replace(CONFIG, gate_scorer=share)))["gate"]["new"]["checks"][1]
        for share in (0.99, 0.0)
    )
    assert (strict["passed"], lenient["passed"]) == (False, True)
    with pytest.raises(UnknownNameError, match="holder"):
        run(tmp_path, models, champion="holde")
    with pytest.raises(ConfigError, match="gate_average"):
        run(tmp_path, models, replace(CONFIG, gate_average=50.0))


def test_the_base_is_painted_and_scored_once(
    run: Callable[..., Dataset], trained: Trained, tmp_path: Path, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    painted: list[int] = []
    original = painter.Painter.paint

    def counted(self: Any, jobs: Any) -> list[bytes]:
        painted.append(len(jobs))
        return original(self, jobs)

    monkeypatch.setattr(painter.Painter, "paint", counted)
    first = run(tmp_path, {"base": None, "aligned": trained(str(tmp_path), 2)})
    assert (sum(painted), sum(calls)) == (20, 20)
    run(tmp_path, {"base": None, "aligned": trained(str(tmp_path), 3)})
    assert (sum(painted), sum(calls)) == (30, 30)
    again = run(tmp_path, {"base": None, "aligned": trained(str(tmp_path), 2)})
    assert again == first
    assert (sum(painted), sum(calls)) == (30, 30)


def test_an_interrupted_evaluation_resumes_to_the_same_bytes(
    run: Callable[..., Dataset], trained: Trained, tmp_path: Path, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "SHARD_IMAGES", (4, 4))
    whole = run(tmp_path / "whole", {"base": None, "aligned": trained(str(tmp_path / "whole"), 2)})
    original = vars(scores)["score_images"]

    def fails_at_the_third(*args: Any) -> Any:
        if len(calls) == 8:
            raise KeyboardInterrupt
        return original(*args)

    calls.clear()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(scores, "score_images", fails_at_the_third)
        calls.extend([0] * 6)
        run(tmp_path / "cut", {"base": None, "aligned": trained(str(tmp_path / "cut"), 2)})
    assert calls[6:] == [4, 4]
    resumed = run(tmp_path / "cut", {"base": None, "aligned": trained(str(tmp_path / "cut"), 2)})
    assert calls[6:] == [4, 4, 2, 4, 4, 2]
    assert resumed.digest == whole.digest


def test_prompts_that_were_trained_on_do_not_count(
    run: Callable[..., Dataset], trained: Trained, tmp_path: Path
) -> None:
    models = {"base": None, "aligned": trained(str(tmp_path), 2)}
    prompts = run(tmp_path, models).scan().collect()["prompt"].unique(maintain_order=True).to_list()
    pairs = ingested(tmp_path, [prompts[1].upper(), "something else"])
    done = run(tmp_path, models, training_pairs=[pairs])
    assert prompts[1] not in done.scan().collect()["prompt"].to_list()
    assert done.counts == {"images": 16, "leaked_prompts": 1, "prompts": 4}
    report = read_json(done)
    assert report["prompts"]["leaked"] == [prompts[1]]
    assert report["comparisons"]["aligned"]["rows"] == 8
    with pytest.raises(EvaluationError, match="Every prompt"):
        run(tmp_path, models, training_pairs=[ingested(tmp_path / "all", prompts)])


def test_without_a_base_the_first_model_is_the_reference(
    run: Callable[..., Dataset], trained: Trained, tmp_path: Path
) -> None:
    models = {name: trained(str(tmp_path), seed) for seed, name in enumerate(("one", "two", "three"))}
    report = read_json(run(tmp_path, models, replace(CONFIG, num_prompts=3)))
    assert report["reference"] == "one"
    assert list(report["comparisons"]) == ["two", "three"]


def test_a_model_from_another_base_is_painted_with_that_base(
    run: Callable[..., Dataset], base: BaseModel, trained: Trained, tmp_path: Path
) -> None:
    """A fully trained UNet in a base with another VAE paints other images than in the evaluation's base."""
    folder = tmp_path / "other"
    shutil.copytree(base.repo, folder)
    vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae")
    torch.nn.init.zeros_(vae.decoder.conv_out.weight)
    vae.save_pretrained(folder / "vae")
    other = BaseModel(family="sd", repo=str(folder))
    plain = run(tmp_path, {"base": None, "one": trained(str(tmp_path), 2)})
    done = run(tmp_path, {"base": None, "one": trained(str(tmp_path), 2, other)}, bases={"one": other})
    images = [
        [frame.filter(frame["model"] == name)["image"].to_list() for name in ("base", "one")]
        for frame in (plain.scan().collect(), done.scan().collect())
    ]
    assert images[0][0] == images[1][0], "the base stays as it is"
    assert len(set(images[1][1])) == 1 < len(set(images[0][1])), "the other VAE paints one colour"


def test_any_models_are_compared_and_another_reference_mirrors_the_numbers(
    run: Callable[..., Dataset], base: BaseModel, trained: Trained, tmp_path: Path
) -> None:
    """Whole pipelines beside trained models, no gate; what any of them was trained on is left out."""
    unet(5).save_pretrained(shutil.copytree(base.repo, tmp_path / "whole") / "unet")
    models = {"one": trained(str(tmp_path), 2), "base": None, "whole": None}
    own = {"base": base, "whole": BaseModel(family="sd", repo=str(tmp_path / "whole"))}
    prompts = load_prompts(CONFIG.prompts, CONFIG.num_prompts).prompts
    more = {"bases": own, "gated": False, "unchecked": ["whole"]}
    more["training_pairs"] = [ingested(tmp_path / name, [prompt]) for name, prompt in zip("ab", prompts, strict=False)]
    report, swapped = (read_json(run(tmp_path, models, reference=name, **more)) for name in ("one", "whole"))
    assert (report["reference"], list(report["comparisons"])) == ("one", ["base", "whole"])
    assert report["prompts"]["leaked"] == list(prompts[:2]) and report["prompts"]["unchecked"] == ["whole"]
    assert report["gate"] == {} and "gate_average" not in report["settings"]
    for scorer, (point, low, high) in report["win_rate"]["whole"].items():
        assert swapped["win_rate"]["one"][scorer] == pytest.approx([1 - point, 1 - high, 1 - low], abs=1e-12)
    images = {name: about["images"]["digest"] for name, about in report["models"].items()}
    assert len(set(images.values())) == 3
    assert images == {name: about["images"]["digest"] for name, about in swapped["models"].items()}
    with pytest.raises(UnknownNameError, match="whole"):
        run(tmp_path, models, reference="hole", **more)


def test_what_cannot_be_compared_is_refused(
    run: Callable[..., Dataset], base: BaseModel, trained: Trained, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="two or more models"):
        run(tmp_path, {"base": None})
    with pytest.raises(ConfigError, match="at most one"):
        run(tmp_path, {"base": None, "other": None})
    with pytest.raises(ConfigError, match="at least one scorer"):
        evaluate(str(tmp_path), {"base": None, "one": trained(str(tmp_path), 2)}, base, CONFIG, (), "hub")
