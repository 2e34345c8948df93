"""A UNet alone or a LoRA, in folders, files and repositories of the hub: which files they are, and in their base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from pipeline_lib.core.errors import CheckpointError, PipelineError
from pipeline_lib.models import aligned, named
from pipeline_lib.models.aligned import check_fits, load_pipeline
from pipeline_lib.models.alone import Names, names_among
from pipeline_lib.models.components import load_unet
from tests.pipeline_lib.hub_server import serve
from tests.pipeline_lib.models import loras, tiny

LORA = "pytorch_lora_weights.safetensors"
UNET = ["unet/config.json", "unet/diffusion_pytorch_model.safetensors"]

FOUND: dict[str, tuple[list[str], Names | None]] = {
    "UNet": ([*UNET, "README.md"], Names(unet="unet")),
    "UNet in shards": (["unet/config.json", "unet/diffusion_pytorch_model-00001-of-00002.safetensors"], Names("unet")),
    "fp16 UNet": (["unet/config.json", "unet/diffusion_pytorch_model.fp16.safetensors"], Names("unet")),
    "the UNet's folder": (["config.json", "diffusion_pytorch_model.safetensors"], Names(".")),
    "LoRA of diffusers": ([LORA, "image_0.png", "README.md"], Names(lora=LORA)),
    "its checkpoints": ([LORA, f"checkpoint-500/{LORA}", "checkpoint-500/optimizer.bin"], Names(lora=LORA)),
    "beside another": ([LORA, "for-webui.safetensors"], Names(lora=LORA)),
    "LoRA of PEFT": (["adapter_model.safetensors", "adapter_config.json"], Names(lora="adapter_model.safetensors")),
    "LoRA by kohya": (["my-style.safetensors", "sample/e1.png"], Names(lora="my-style.safetensors")),
    "nothing": (["README.md", "vae/config.json", "unet/readme.txt"], None),
    "hidden": ([f".{LORA}"], None),
}


@pytest.mark.parametrize("case", FOUND)
def test_what_a_folder_or_repository_holds(case: str) -> None:
    files, wanted = FOUND[case]
    assert names_among("theirs", files) == wanted


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([*UNET, LORA], "a UNet and a LoRA, pytorch_lora.*merged in it already"),
        (["config.json", "diffusion_pytorch_model.safetensors", "x.safetensors"], "a UNet and a LoRA, x.safetensors"),
        (["a-000002.safetensors", "a.safetensors"], "several LoRAs: a-000002.safetensors, a.safetensors"),
        ([LORA, "adapter_model.safetensors"], "several LoRAs"),
        (["pytorch_lora_weights.bin"], "as a pickle, pytorch_lora_weights.bin"),
        (["adapter_model.bin", "adapter_config.json"], "as a pickle"),
        (["last.pt", "README.md"], "as a pickle, last.pt"),
    ],
)
def test_what_does_not_say_which_is_refused(files: list[str], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        names_among("theirs", files)


@pytest.fixture(scope="module")
def theirs(mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A UNet alone, and the LoRA of the same weights."""
    folder, base = tmp_path_factory.mktemp("theirs"), mirror / "tiny/epsilon"
    lora = loras.weights(base)
    plain = loras.pipeline(base)
    plain.load_lora_weights(loras.peft_names(lora))
    plain.fuse_lora()
    plain.unload_lora_weights()
    plain.unet.save_pretrained(folder / "whole/unet")
    loras.save(loras.peft_names(lora), folder / "lora" / LORA)
    loras.save(loras.kohya(lora), folder / "kohya/last.safetensors")
    loras.save_peft(base, lora, folder / "peft", lora_alpha=loras.RANK)
    return folder


PLACES = ("whole", "whole/unet", "whole/unet/diffusion_pytorch_model.safetensors", "lora", f"lora/{LORA}", "kohya",
          "kohya/last.safetensors", "peft", "peft/adapter_model.safetensors")  # fmt: skip


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "unet/diffusion_pytorch_model.safetensors")


def assert_same(found: Any, wanted: dict[str, torch.Tensor]) -> None:
    state = found.state_dict()
    assert state.keys() == wanted.keys() and all(torch.equal(state[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("place", PLACES)
def test_in_its_base_it_is_a_whole_pipeline_made_once(
    place: str, mirror: Path, theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny.base(mirror, "epsilon")
    assert named.is_alone(theirs / place)
    found = named.in_base(base, theirs / place, "org/name", tmp_path)
    assert (found.family, found.repo, found.revision) == ("sd", "org/name", None)
    assert_same(load_unet(found), weights_of(theirs / "whole"))
    monkeypatch.setattr(aligned, "export", None)
    assert named.in_base(base, theirs / place, "org/name", tmp_path) == found
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_merged_unet_beside_its_lora_is_not_merged_again(mirror: Path, theirs: Path, tmp_path: Path) -> None:
    both = Path(shutil.copytree(theirs / "whole", tmp_path / "both"))
    shutil.copy(theirs / "lora" / LORA, both)
    base = tiny.base(mirror, "epsilon")
    for read in (load_pipeline, check_fits):
        with pytest.raises(CheckpointError, match=r"(?s)a UNet and a LoRA.*Name one of them"):
            read(both, base)
    for place in (both / "unet", both / LORA):  # as the remedy says
        assert_same(load_pipeline(place, base).unet, weights_of(theirs / "whole"))


def changed_config(**fields: Any) -> Callable[[Path], None]:
    def change(unet: Path) -> None:
        config = json.loads((unet / "config.json").read_text())
        (unet / "config.json").write_text(json.dumps(config | fields))

    return change


def changed_weights(unet: Path) -> None:
    file = unet / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["conv_in.bias"][0] = float("nan")
    save_file(tensors, file, {"format": "pt"})


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "NaN": (changed_weights, "conv_in.bias holds NaN"),
    "a VAE": (changed_config(_class_name="AutoencoderKL"), "AutoencoderKL"),
    "other weights": (changed_config(block_out_channels=[8, 8]), "does not fit"),
    "no configuration": (lambda unet: (unet / "config.json").write_text("[]"), r"config\.json"),
    "cut": (lambda unet: (unet / "diffusion_pytorch_model.safetensors").write_bytes(b"12345678"), "cut"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_a_unet_is_looked_at_whole_before_it_is_used(case: str, mirror: Path, theirs: Path, tmp_path: Path) -> None:
    damage, words = DAMAGED[case]
    folder = Path(shutil.copytree(theirs / "whole", tmp_path / "their"))
    damage(folder / "unet")
    for read in (check_fits, load_pipeline):
        with pytest.raises(PipelineError, match=words):
            read(folder, tiny.base(mirror, "epsilon"))


@pytest.mark.parametrize(
    ("name", "words"), [("xl", "cross_attention_dim 24 instead of 16"), ("v", "addition_embed_type")]
)
def test_a_unet_that_takes_other_texts_is_refused(name: str, words: str, mirror: Path) -> None:
    for read in (check_fits, load_pipeline):
        with pytest.raises(CheckpointError, match=rf"does not fit tiny/epsilon.*{words}"):
            read(mirror / "tiny" / name / "unet", tiny.base(mirror, "epsilon"))


@pytest.mark.parametrize("place", ["whole", "kohya", "peft"])
def test_a_repository_of_the_hub(
    place: str, mirror: Path, theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with serve(monkeypatch, "org/name", theirs / place):
        files = named.fetched_alone("org/name@v2")
        assert files is not None
        found = named.in_base(tiny.base(mirror, "epsilon"), files, "org/name", tmp_path)
    assert_same(load_unet(found), weights_of(theirs / "whole"))
    assert found.repo == "org/name"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert named.fetched_alone("org/name@v2") == files, "the copy in the cache"


def test_a_repository_with_a_pipeline_is_a_base_itself(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with serve(monkeypatch, "org/name", mirror / "tiny/epsilon"):
        assert named.fetched_alone("org/name") is None
    assert not named.is_alone(mirror / "tiny/epsilon")
