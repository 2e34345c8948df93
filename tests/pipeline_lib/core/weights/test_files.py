"""Which files hold weights, and what is wrong with some of them: without loading a tensor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from pipeline_lib.core.errors import CheckpointError
from pipeline_lib.core.weights.files import DIFFUSERS, header, locate, shapes

WEIGHTS = {"a.weight": np.zeros((2, 3), np.float32), "b.bias": np.ones(4, np.float16)}
FILE = f"{DIFFUSERS}.safetensors"
INDEX = f"{DIFFUSERS}.safetensors.index.json"
SHARDS = [f"{DIFFUSERS}-0000{part}-of-00002.safetensors" for part in (1, 2)]


def sharded(folder: Path, index: str = INDEX, files: list[str] = SHARDS) -> Path:
    """A tensor in each of two shards."""
    for file, (name, tensor) in zip(files, WEIGHTS.items(), strict=True):
        save_file({name: tensor}, folder / file)
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": dict(zip(WEIGHTS, files, strict=True))}))
    return folder


def edited(folder: Path, **changes: object) -> None:
    """Another weight_map in the index; None takes a tensor out."""
    names = {"a": "a.weight", "b": "b.bias"}
    content = json.loads((folder / INDEX).read_text())["weight_map"]
    content |= {names.get(name, name): value for name, value in changes.items()}
    kept = {name: value for name, value in content.items() if value is not None}
    (folder / INDEX).write_text(json.dumps({"weight_map": kept}))


@pytest.mark.parametrize(
    ("index", "files"),
    [
        (INDEX, SHARDS),
        (f"{DIFFUSERS}.safetensors.index.fp16.json", [name.replace("_model-", "_model.fp16-") for name in SHARDS]),
        (f"{DIFFUSERS}.safetensors.index.fp16.json", [name.replace("2.saf", "2.fp16.saf") for name in SHARDS]),
    ],
    ids=["full", "fp16", "fp16-old-names"],
)
def test_shards_are_found_by_their_index(tmp_path: Path, index: str, files: list[str]) -> None:
    layout = locate(sharded(tmp_path, index, files), DIFFUSERS)
    assert [path.name for path in layout.shards] == files
    assert {name: (kind, shape) for name, (_, kind, shape) in shapes(layout).items()} == {
        "a.weight": ("F32", (2, 3)),
        "b.bias": ("F16", (4,)),
    }
    assert list(layout.plain()) == [INDEX, *files]


def test_full_precision_goes_before_fp16_and_other_variants_are_nothing(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / f"{DIFFUSERS}.non_ema.safetensors")
    with pytest.raises(CheckpointError, match=r"has diffusion_pytorch_model\.non_ema\.safetensors, but neither"):
        locate(tmp_path, DIFFUSERS)
    save_file(WEIGHTS, tmp_path / f"{DIFFUSERS}.fp16.safetensors")
    assert locate(tmp_path, DIFFUSERS).plain() == {FILE: tmp_path / f"{DIFFUSERS}.fp16.safetensors"}
    save_file(WEIGHTS, tmp_path / FILE)
    assert locate(tmp_path, DIFFUSERS).shards == (tmp_path / FILE,)
    sharded(tmp_path)
    with pytest.raises(CheckpointError, match="two sets of weights"):
        locate(tmp_path, DIFFUSERS)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["diffusion_pytorch_model.bin"], r"\.bin only: a pickle can run code"),
        (["diffusion_pytorch_model.ckpt", "README.md"], r"\.ckpt only: a pickle"),
        (["diffusion_pytorch_model-00001-of-00002.bin", "diffusion_pytorch_model.bin.index.json"], "pickle"),
        (["pytorch_model.bin", "flax_model.msgpack"], r"flax_model\.msgpack, pytorch_model\.bin only"),
        (["model.safetensors", "pytorch_model.bin"], r"has model\.safetensors, but neither"),
        (["config.json"], "has no weights"),
    ],
)
def test_what_is_there_instead_is_named(tmp_path: Path, names: list[str], words: str) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=words) as refused:
        locate(tmp_path, DIFFUSERS)
    assert ("use_safetensors=False" in refused.value.remedy) == ("pickle" in words or "only" in words)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: b"", "is empty"),
        (lambda data: data[:5], "is cut, or is no file"),
        (lambda data: data[:60], "is cut, or is no file"),
        (lambda data: data[:-1], "is cut: it has"),
        (lambda data: data + b"\0", "is cut: it has"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (lambda data: b"<html><body>Access denied</body></html>", "no file of safetensors"),
        (lambda data: (2**62).to_bytes(8, "little") + data[8:], "no file of safetensors"),
        (lambda data: (2).to_bytes(8, "little") + b"[]", "no file of safetensors"),
        (lambda data: (19).to_bytes(8, "little") + b'{"a": {"dtype": 1}}', "no file of safetensors"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Callable[[bytes], bytes], words: str) -> None:
    (tmp_path / FILE).write_bytes(damage(save(WEIGHTS)))
    with pytest.raises(CheckpointError, match=rf"(?s){FILE}.*{words}"):
        header(tmp_path / FILE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / SHARDS[1]).unlink(), f"names 1 files that are not there: {SHARDS[1]}"),
        (lambda folder: (folder / INDEX).write_text("[]"), "not an object"),
        (lambda folder: (folder / INDEX).write_text('{"weight_map": '), "not JSON"),
        (lambda folder: (folder / INDEX).write_text('{"metadata": {}}'), "no weight_map"),
        (lambda folder: (folder / INDEX).write_text('{"weight_map": {"a": 3}}'), "no weight_map"),
        (lambda folder: edited(folder, a="../other.safetensors"), "is no safetensors file beside it"),
        (lambda folder: edited(folder, a="pytorch_model.bin"), "is no safetensors file beside it"),
        (lambda folder: edited(folder, a=SHARDS[1], b=SHARDS[0]), "differ in 2 tensors"),
        (lambda folder: edited(folder, surprise=SHARDS[0]), "differ in 1 tensors, for example surprise"),
        (lambda folder: save_file({**WEIGHTS}, folder / SHARDS[1]), r"a\.weight is in both"),
        (lambda folder: save_file({"c": WEIGHTS["b.bias"]}, folder / SHARDS[1]), r"differ in 2 tensors.* b\.bias"),
    ],
)
def test_an_index_and_its_shards_agree(tmp_path: Path, change: Callable[[Path], object], words: str) -> None:
    change(sharded(tmp_path))
    with pytest.raises(CheckpointError, match=words):
        shapes(locate(tmp_path, DIFFUSERS))
