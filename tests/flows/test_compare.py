"""`compare/shapes` with what others publish: a UNet alone and LoRAs in the names of several trainers."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from flows.compare import compare
from pipeline_lib.core.errors import CheckpointError, ConfigError
from pipeline_lib.core.store import open_dataset
from pipeline_lib.generation.painter import initial_noise, make_scheduler
from pipeline_lib.presets import preset
from pipeline_lib.shapes import HUB
from tests.pipeline_lib.models import loras

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.usefixtures("api")]

SHAPES = preset("shapes")
BASE = HUB / SHAPES.base.repo
SMALL: dict[str, Any] = {"num_prompts": 3, "steps": 2, "scorers": ["clip"]}


@dataclass(frozen=True)
class Theirs:
    """Files of others in `root`, all of the same weights; what plain diffusers loads is `unet`."""

    root: Path
    lora: loras.Weights
    unet: Any


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Theirs:
    root, lora = tmp_path_factory.mktemp("theirs"), loras.weights(BASE)
    plain = loras.pipeline(BASE)
    type(plain).save_lora_weights(root / "diffusers", lora)
    plain.load_lora_weights(root / "diffusers")
    plain.fuse_lora()
    plain.unload_lora_weights()
    plain.unet.save_pretrained(root / "alone/unet")
    loras.save(loras.old_diffusers(lora), root / "old.safetensors")
    loras.save(loras.kohya(lora), root / "kohya/last.safetensors")
    loras.save_peft(BASE, lora, root / "peft", lora_alpha=loras.RANK)
    return Theirs(root, lora, plain.unet)


@pytest.fixture(scope="module")
def store(stack: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", stack["MLFLOW_TRACKING_URI"])
        patch.setenv("PIPELINE_STATE", str(folder / "state"))
        yield str(folder / "store")


def images(uri: str, model: str) -> dict[str, np.ndarray]:
    """Prompt -> pixels that a model of a comparison painted."""
    rows = open_dataset(uri).scan().collect().to_dicts()
    return {
        row["prompt"]: np.asarray(Image.open(io.BytesIO(row["image"])), int) for row in rows if row["model"] == model
    }


def plain_images(unet: Any, prompts: list[str]) -> dict[str, np.ndarray]:
    """The same by plain diffusers, with the sampler and noise of the evaluation."""
    plain, config = loras.pipeline(BASE), SHAPES.evaluate
    plain.unet = unet
    plain.scheduler = make_scheduler(config.scheduler, plain.scheduler.config)
    side = config.resolution // plain.vae_scale_factor
    noise = torch.stack([initial_noise(prompt, config.seeds[0], (4, side, side)) for prompt in prompts])
    sampling = {"num_inference_steps": SMALL["steps"], "guidance_scale": config.guidance}
    size = {"height": config.resolution, "width": config.resolution}
    found = plain(prompts, latents=noise, output_type="np", **sampling, **size).images
    return {prompt: (image * 255).round().astype(int) for prompt, image in zip(prompts, found, strict=True)}


def test_all_forms_of_one_models_weights_paint_what_plain_diffusers_paints(theirs: Theirs, store: str) -> None:
    painted = {}
    for name in ("alone", "alone/unet", "diffusers", "old.safetensors", "kohya", "kohya/last.safetensors", "peft"):
        done = compare(["base", str(theirs.root / name)], store=store, **SMALL)
        painted[name] = images(done.uri, Path(name).name)
        base = images(done.uri, "base")
    wanted = plain_images(theirs.unet, list(base))
    assert len(wanted) == SMALL["num_prompts"]
    for name, found in painted.items():
        assert found.keys() == wanted.keys(), name
        for prompt, pixels in found.items():
            assert np.abs(pixels - wanted[prompt]).max() <= 1, (name, prompt)
            assert np.array_equal(pixels, painted["kohya"][prompt]), (name, prompt)
            assert np.abs(pixels - base[prompt]).max() > 20, (name, prompt)


Damage = Callable[[Theirs, Path], Path]


def partial(theirs: Theirs, to: Path) -> Path:
    return loras.save(
        loras.peft_names(theirs.lora) | {"unet.mid_block.no.lora_A.weight": torch.zeros(2, 2)}, to / "p.safetensors"
    )


def of_another_base(theirs: Theirs, to: Path) -> Path:
    return loras.save(
        loras.kohya(loras.weights(HUB / preset("shapes").base.repo.replace("base", "base-xl"))), to / "xl.safetensors"
    )


def unet_of_another_base(theirs: Theirs, to: Path) -> Path:
    return Path(shutil.copytree(HUB / "shapes/base-xl/unet", to / "xl/unet")).parent


def merged_beside_its_lora(theirs: Theirs, to: Path) -> Path:
    shutil.copytree(theirs.root / "alone", to / "both")
    shutil.copy(theirs.root / "diffusers/pytorch_lora_weights.safetensors", to / "both")
    return to / "both"


REFUSED: dict[str, tuple[Damage, str]] = {
    "in part": (partial, "1 of .* weights have no place there, unet.mid_block.no.lora_A.weight"),
    "of another base": (of_another_base, "does not fit"),
    "UNet of another base": (unet_of_another_base, "does not fit"),
    "merged beside its LoRA": (merged_beside_its_lora, "a UNet and a LoRA"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_painted(case: str, theirs: Theirs, tmp_path: Path) -> None:
    change, words = REFUSED[case]
    with pytest.raises(CheckpointError, match=words):
        compare(["base", str(change(theirs, tmp_path))], store=str(tmp_path / "store"), **SMALL)
    assert not (tmp_path / "store").exists() or not list((tmp_path / "store").glob("images/*"))


def test_one_model_under_two_names_is_refused(theirs: Theirs, store: str) -> None:
    with pytest.raises(ConfigError, match="are the same model"):
        compare([str(theirs.root / "kohya"), str(theirs.root / "peft")], store=store, **SMALL)
