"""A folder that `base=` names is looked at before anything is made with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline_lib.core.errors import PipelineError
from pipeline_lib.models.local import check_folder
from tests.pipeline_lib.models import tiny
from tests.pipeline_lib.models.test_strict import edit, first_set, prefixed, weights

Change = Callable[[Path], object]


def config(file: str, **fields: object) -> Change:
    """Other fields in a JSON file of the pipeline."""
    return lambda folder: (folder / file).write_text(json.dumps({**json.loads((folder / file).read_text()), **fields}))


def weights_only_as(suffix: str, *parts: str) -> Change:
    """Parts whose weights have another ending."""
    return lambda folder: [weights(folder, p).rename(weights(folder, p).with_suffix(suffix)) for p in parts]


def with_parts_of(other: str, *parts: str) -> Change:
    """Parts of another tiny base in the place of its own."""
    return lambda folder: [
        shutil.copytree(folder.parents[1] / "others" / other / part, folder / part, dirs_exist_ok=True)
        for part in parts
    ]


FAULTS: dict[str, tuple[str, Change, str]] = {
    "pickled UNet": ("v", weights_only_as(".bin", "unet"), r"unet has its weights as .*\.bin only: a pickle"),
    "pickled VAE": ("xl", weights_only_as(".ckpt", "vae"), r"vae has its weights as .*\.ckpt only"),
    "no weights": ("v", lambda folder: weights(folder, "text_encoder").unlink(), "text_encoder has no weights"),
    "NaN in the UNet": ("v", lambda f: edit(weights(f, "unet"), first_set(float("nan"))), "unet/.*NaN"),
    "infinite VAE": ("xl", lambda f: edit(weights(f, "vae"), first_set(float("inf"))), "vae/.*infinity"),
    "names of another": (
        "xl",
        lambda f: edit(weights(f, "text_encoder_2"), prefixed("clip.")),
        "text_encoder_2/.*clip",
    ),
    "cut": ("v", lambda f: weights(f, "unet").write_bytes(weights(f, "unet").read_bytes()[:-9]), "is cut"),
    "no scheduler": ("v", lambda f: (f / "scheduler/scheduler_config.json").unlink(), "scheduler"),
    "no vocabulary": ("xl", lambda f: shutil.rmtree(f / "tokenizer_2"), "tokenizer_2"),
    "broken index": ("v", lambda f: (f / "model_index.json").write_text("{"), "not JSON"),
    "another pipeline": ("v", config("model_index.json", _class_name="FluxPipeline"), "is a FluxPipeline"),
    "its own code": ("v", config("model_index.json", unet=["my_unet", "Mine"]), "code that is not run"),
    "another UNet class": (
        "v",
        config("model_index.json", unet=["diffusers", "UNet1DModel"]),
        "unet is a UNet1DModel",
    ),
    "words without rows": ("v", config("text_encoder/config.json", vocab_size=40), "misshapen"),
    "wider texts": (
        "v",
        config("unet/config.json", cross_attention_dim=24),
        "reads texts of width 24, but its text encoders make 16",
    ),
    "another family's UNet": ("xl", with_parts_of("v", "unet"), "addition_embed_type is 'text'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_cannot_be_used_is_refused_by_name(mirror: Path, tmp_path: Path, fault: str) -> None:
    name, change, words = FAULTS[fault]
    folder = Path(shutil.copytree(mirror / "tiny" / name, tmp_path / "tiny" / name))
    (tmp_path / "others").symlink_to(mirror / "tiny")
    change(folder)
    with pytest.raises(PipelineError, match=words) as refused:
        check_folder(folder)
    assert refused.value.remedy.endswith(".")


def test_tokens_that_the_encoder_does_not_know_are_refused(mirror: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(mirror / "tiny/v", tmp_path / "v"))
    config("text_encoder/config.json", vocab_size=50)(folder)
    cut = "text_model.embeddings.token_embedding.weight"
    edit(
        weights(folder, "text_encoder"),
        lambda state: {k: t[:50].clone() if k in (cut, cut[11:]) else t for k, t in state.items()},
    )
    with pytest.raises(PipelineError, match="embeddings of 50 tokens, its tokenizer 54"):
        check_folder(folder)


def test_what_the_remedy_for_pickles_says_makes_a_base_of_them(mirror: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(mirror / "tiny/xl", tmp_path / "pickles"))
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        path = weights(folder, part)
        name = "pytorch_model.bin" if part.startswith("text") else "diffusion_pytorch_model.bin"
        torch.save(load_file(path), path.with_name(name))
        path.unlink()
    with pytest.raises(PipelineError, match="only: a pickle") as refused:
        check_folder(folder)
    assert "DiffusionPipeline.from_pretrained(<repository>, use_safetensors=False)" in refused.value.remedy
    diffusers.DiffusionPipeline.from_pretrained(folder, use_safetensors=False).save_pretrained(tmp_path / "converted")
    check_folder(tmp_path / "converted")


@pytest.mark.parametrize("name", tiny.NAMES)
def test_whole_folders_pass_however_their_tensors_are_called(mirror: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(mirror / "tiny" / name, tmp_path / name))
    check_folder(folder)
    edit(weights(folder, "unet"), prefixed("module."))
    weights(folder, "vae").rename(folder / "vae/diffusion_pytorch_model.fp16.safetensors")
    (folder / "unet/notes.json").write_text("[")
    check_folder(folder)


def test_values_are_read_again_when_the_file_is_another(mirror: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(mirror / "tiny/v", tmp_path / "v"))
    check_folder(folder)
    path = weights(folder, "unet")
    state = {name: tensor if tensor.ndim > 1 else tensor * torch.inf for name, tensor in load_file(path).items()}
    save_file(state, tmp_path / "new", metadata={"format": "pt"})
    (tmp_path / "new").replace(path)
    with pytest.raises(PipelineError, match="NaN or infinity"):
        check_folder(folder)
