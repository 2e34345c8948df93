"""A base is the content of its files as they are when it is asked for, by whatever path or links they are reached."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.digest import forget
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.models.components import load_unet
from pipeline_lib.models.identity import base_identity
from pipeline_lib.models.named import base_named

PRESET = BaseModel(family="sd", repo="org/preset", revision="main", vae_repo="org/vae", mirror="hub")
UNET = "unet/diffusion_pytorch_model.safetensors"


def weights(base: BaseModel) -> str | None:
    return base_identity(base)["weights"]


def marked(folder: Path, mark: float) -> Path:
    """The folder, its UNet's first layer filled with `mark`."""
    tensors = load_file(folder / UNET)
    tensors["conv_in.weight"] = tensors["conv_in.weight"] * 0 + mark
    (folder / UNET).unlink()
    save_file(tensors, folder / UNET, metadata={"format": "pt"})
    return folder


def mark_of(base: BaseModel) -> float:
    return float(load_unet(base).conv_in.weight.detach().mean())


@pytest.fixture
def bases(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Models of one name everywhere: 1 in the working directory, 2 in its folder `org`, 3 at home, 4 on a disk."""
    places = ("work/model", "work/org/model", "home/model", "disk/my@data/model")
    for mark, place in enumerate(places, start=1):
        marked(Path(shutil.copytree(mirror / "tiny/v", tmp_path / place)), mark)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        ("model", 1),
        ("./model", 1),
        ("model/", 1),
        ("org/model", 2),
        ("../work/org/./model", 2),
        ("~/model", 3),
        ("{}/disk/my@data/model", 4),
        ("{}/disk/my@data/model///", 4),
    ],
)
def test_a_path_is_the_folder_it_leads_to_from_anywhere(
    bases: Path, monkeypatch: pytest.MonkeyPatch, name: str, mark: int
) -> None:
    named = base_named(PRESET, name.format(bases), bases / "scratch")
    monkeypatch.chdir(bases / "disk/my@data")  # has a folder of that name, too
    monkeypatch.setenv("HOME", str(bases / "disk"))
    assert mark_of(named) == mark
    assert named.repo == "model", "keys do not hold the place"


@pytest.mark.parametrize("name", ["./absent", "../absent", "~/absent", "/absent/model", "absent", "./org"])
def test_a_path_that_is_no_model_is_no_repository_either(bases: Path, name: str) -> None:
    with pytest.raises(Exception, match=r"no such folder|no diffusers pipeline") as error:
        base_named(PRESET, name, bases / "scratch")
    assert type(error.value).__name__ in ("ConfigError", "CheckpointError")


def test_a_name_with_a_revision_is_the_hubs(bases: Path) -> None:
    assert base_named(PRESET, "org/model@main", bases / "scratch") == BaseModel(
        family="sd", repo="org/model", revision="main"
    )


@pytest.mark.parametrize("part", ["vae", "unet", "text_encoder", "scheduler", "tokenizer"])
def test_every_part_that_changes_is_another_base_in_the_same_process(mirror: Path, tmp_path: Path, part: str) -> None:
    folder = Path(shutil.copytree(mirror / "tiny/v", tmp_path / "model"))
    base = base_named(PRESET, str(folder), tmp_path / "scratch")
    first = weights(base)
    forget()
    assert weights(base) == first
    names = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer_config.json"}
    file = folder / part / names.get(part, "config.json")
    before = file.stat()
    text = file.read_text()
    file.write_text(json.dumps(json.loads(text) | {"changed": 1}))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert weights(base) != first
    file.write_text(text)
    assert weights(base) == first


def linked_file(folder: Path, elsewhere: Path) -> None:
    """As in the hub's cache: the weights are a blob."""
    os.rename(folder / UNET, elsewhere / "blob")
    (folder / UNET).symlink_to(elsewhere / "blob")


def linked_part(folder: Path, elsewhere: Path) -> None:
    os.rename(folder / "unet", elsewhere / "unet")
    (folder / "unet").symlink_to(elsewhere / "unet")


def linked_whole(folder: Path, elsewhere: Path) -> None:
    os.rename(folder, elsewhere / "whole")
    folder.symlink_to(elsewhere / "whole")


@pytest.mark.parametrize("link", [linked_file, linked_part, linked_whole])
def test_links_are_the_files_they_lead_to(mirror: Path, tmp_path: Path, link: Callable[[Path, Path], None]) -> None:
    folder = Path(shutil.copytree(mirror / "tiny/v", tmp_path / "model"))
    base = BaseModel(family="sd", repo=str(folder))
    first, elsewhere = weights(base), tmp_path / "elsewhere"
    elsewhere.mkdir()
    link(folder, elsewhere)
    assert weights(base) == first, "the same files"
    target = (folder / UNET).resolve()
    tensors = load_file(target)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, target, metadata={"format": "pt"})
    assert weights(base) != first
    assert mark_of(base) == pytest.approx(float((tensors["conv_in.weight"] + 1).mean()))


def test_a_link_that_is_turned_is_another_base(mirror: Path, tmp_path: Path) -> None:
    for mark in (1, 2):
        marked(Path(shutil.copytree(mirror / "tiny/v", tmp_path / f"v{mark}")), mark)
    latest = tmp_path / "latest"
    latest.symlink_to("v1")
    through = BaseModel(family="sd", repo=str(latest))
    pinned, first = base_named(PRESET, str(latest), tmp_path / "scratch"), weights(through)
    latest.unlink()
    latest.symlink_to("v2")
    assert weights(through) != first and mark_of(through) == 2
    assert weights(pinned) == first, "a run that was told the name keeps what it meant then"


def test_a_name_that_is_nothing_says_what_can_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)names no base model.*Write <org>/<name>"):
        base_named(PRESET, "two words", tmp_path)
