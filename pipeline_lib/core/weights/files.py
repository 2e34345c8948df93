"""The safetensors files that a model's weights are in: one, or shards with an index. No tensor is read here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypeAlias

from pipeline_lib.core.errors import CheckpointError, excerpt
from pipeline_lib.core.json_files import read_json

Shape: TypeAlias = tuple[int, ...]

CONFIG = "config.json"
DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model", "model"
"""How the two libraries begin the names of weight files."""
VARIANTS = ("", "fp16")
"""Full precision, and what is read where a repository has nothing else. Others (`non_ema`) are other weights."""
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5")
"""Endings of weights in formats that can hold code, or that torch does not read."""
AGAIN = "Fetch the file again, and compare its size with the one that its repository states."
MAX_HEADER = 100_000_000
"""Bytes of a file's header, as the library has it."""
_SHARD = "[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]"
_LFS = b"version https://git-lfs"


@dataclass(frozen=True)
class Layout:
    """Where the weights of one model are.

    Attributes:
        stem: `DIFFUSERS` or `TRANSFORMERS`.
        variant: one of `VARIANTS`.
        index: the file that says which shard has which tensor; None for a whole file.
        shards: the files with tensors.
    """

    stem: str
    variant: str
    index: Path | None
    shards: tuple[Path, ...]

    def plain(self) -> dict[str, Path]:
        """The files under the names that libraries look for when nobody names a variant."""
        if self.index:
            return {f"{self.stem}.safetensors.index.json": self.index, **{path.name: path for path in self.shards}}
        return {f"{self.stem}.safetensors": self.shards[0]}


def patterns(stem: str, variant: str) -> list[str]:
    """Names and glob patterns of the weight files of a variant, as the hub's client takes them."""
    dot = f".{variant}" if variant else ""
    whole, index = _names(stem, variant)
    return [
        whole,
        index,
        f"{stem}{dot}-{_SHARD}.safetensors",
        *([f"{stem}-{_SHARD}{dot}.safetensors"] if variant else []),
    ]


def present(folder: Path, stem: str) -> bool:
    """Whether a folder has weights in a format that is read, whole or not."""
    return any((folder / name).is_file() for variant in VARIANTS for name in _names(stem, variant))


def locate(folder: Path, stem: str, names: Iterable[str] | None = None) -> Layout:
    """The weight files of a model in a folder.

    Args:
        names: all that its repository has beside them, where the folder holds a part; only for the error.

    Raises:
        CheckpointError: there are none, two sets of them, or an index that is broken or names absent files.
    """
    for variant in VARIANTS:
        whole, index = (folder / name for name in _names(stem, variant))
        if whole.is_file() and index.is_file():
            raise CheckpointError(
                f"{folder} has two sets of weights, {whole.name} and the shards of {index.name}.",
                "Remove the set that is not meant.",
            )
        if whole.is_file():
            return Layout(stem, variant, None, (whole,))
        if index.is_file():
            shards = tuple(folder / name for name in sorted(set(_weight_map(index).values())))
            if absent := [path.name for path in shards if not path.is_file()]:
                raise CheckpointError(
                    f"{index} names {len(absent)} files that are not there: {', '.join(absent[:6])}.",
                    "Put them beside it, or fetch the folder again.",
                )
            return Layout(stem, variant, index, shards)
    raise _nothing(folder, stem, sorted({*(names or ()), *(path.name for path in folder.glob("*"))}))


def shapes(layout: Layout) -> dict[str, tuple[Path, str, Shape]]:
    """Of every tensor its file, type and shape, from the files' headers.

    Raises:
        CheckpointError: a file is cut or none of safetensors, or the index says otherwise than the shards.
    """
    found: dict[str, tuple[Path, str, Shape]] = {}
    for path in layout.shards:
        for name, (kind, shape) in header(path).items():
            if name in found:
                raise CheckpointError(f"{name} is in both {found[name][0]} and {path}.", AGAIN)
            found[name] = (path, kind, shape)
    if layout.index:
        named = _weight_map(layout.index)
        wrong = sorted(
            name
            for name in named.keys() | found.keys()
            if name not in named or name not in found or named[name] != found[name][0].name
        )
        if wrong:
            raise CheckpointError(
                f"{layout.index} and its files differ in {len(wrong)} tensors, for example {wrong[0]}.", AGAIN
            )
    return found


def header(path: Path) -> dict[str, tuple[str, Shape]]:
    """Names of the tensors of a safetensors file with their types and shapes.

    Raises:
        CheckpointError: the file is cut, or is none.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if size == 0:
                raise CheckpointError(f"{path} is empty.", AGAIN)
            if _LFS.startswith(start) and len(start) == 8:
                raise CheckpointError(
                    f"{path} is a pointer of Git LFS, not the file itself.", "Run `git lfs pull` in its folder."
                )
            if size < 8 or length > min(size - 8, MAX_HEADER):
                raise CheckpointError(f"{path} is cut, or is no file of safetensors.", AGAIN)
            content = json.loads(file.read(length))
        content.pop("__metadata__", None)
        entries = {
            str(name): (str(entry["dtype"]), tuple(int(n) for n in entry["shape"])) for name, entry in content.items()
        }
        end = max((int(entry["data_offsets"][1]) for entry in content.values()), default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise CheckpointError(f"{path} is no file of safetensors: {error}.", AGAIN) from error
    if size != 8 + length + end:
        raise CheckpointError(f"{path} is cut: it has {size} of {8 + length + end} bytes.", AGAIN)
    return entries


def json_object(path: Path) -> dict[str, Any]:
    """A JSON object of others; raises CheckpointError where it is none."""
    return read_json(path, CheckpointError, "Fetch the file again from where the model was published.")


def _names(stem: str, variant: str) -> tuple[str, str]:
    dot = f".{variant}" if variant else ""
    return f"{stem}{dot}.safetensors", f"{stem}.safetensors.index{dot}.json"


def _weight_map(index: Path) -> Mapping[str, str]:
    found = json_object(index).get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found.values()):
        raise CheckpointError(f"{index} has no weight_map from tensors to files.", AGAIN)
    if outside := [name for name in found.values() if Path(name).name != name or not name.endswith(".safetensors")]:
        raise CheckpointError(f"{index} names {excerpt(outside[0])}, which is no safetensors file beside it.", AGAIN)
    return found


def _nothing(folder: Path, stem: str, names: list[str]) -> CheckpointError:
    pickles = [name for name in names if name.endswith(PICKLES) or fnmatch(name, "*.bin.index*.json")]
    others = [name for name in names if name.endswith(".safetensors")]
    if others:
        return CheckpointError(
            f"{folder} has {', '.join(others[:6])}, but neither {stem}.safetensors nor {stem}.fp16.safetensors.",
            f"Give the weights that are meant the name {stem}.safetensors.",
        )
    if pickles:
        return CheckpointError(
            f"{folder} has its weights as {', '.join(pickles[:6])} only: a pickle can run code of its author, so none "
            "is read.",
            "Where you trust them, convert the model once: load it with diffusers, "
            "DiffusionPipeline.from_pretrained(<repository>, use_safetensors=False), save it with "
            "save_pretrained(<folder>), and give that folder.",
        )
    return CheckpointError(
        f"{folder} has no weights: {stem}.safetensors is not there.", "Check the repository's file list."
    )
