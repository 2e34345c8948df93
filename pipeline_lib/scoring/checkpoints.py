"""Reading official checkpoints: no code is executed, and no key is missing or left over unnoticed."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from torch import Tensor, nn

from pipeline_lib.digest import current_sha256
from pipeline_lib.errors import CheckpointError, HubError, PipelineError
from pipeline_lib.hub import HUB, snapshot

REMEDY = "Download the file again, and check that it is the official checkpoint of this scorer."
SHOWN = 12


def snapshot_with_one_of(repo: str, revision: str, layouts: Sequence[str], others: Sequence[str], mirror: str) -> Path:
    """One of `layouts`, the same weights in several formats, in a local folder that has the files `others` too.

    Args:
        layouts: file names, the preferred one first. The hub has that one at the pinned revision; of a mirror, the
            first that is there.

    Raises:
        HubError: as `hub.snapshot`.
    """
    folder = snapshot(repo, revision, [*others, *(layouts[:1] if mirror == HUB else ())], mirror)
    for name in layouts:
        if (folder / name).is_file():
            return folder / name
    raise HubError(f"{repo} ({folder}) lacks {' and '.join(layouts)}.", "Copy one of them there.")


def github_file(repo: str, revision: str, file: str, sha256: str, mirror: str) -> Path:
    """A file that is not on the model hub, from GitHub at a fixed commit into torch's cache, or from a mirror.

    Args:
        sha256: of the official file; what the network or the cache holds must match, a mirror may have another.

    Raises:
        HubError: the mirror lacks it, or it cannot be downloaded.
    """
    if mirror != HUB:
        return snapshot(repo, None, [file], mirror) / file
    url, target = github_url(repo, revision, file), downloaded(file)
    if not target.exists() or current_sha256(target) != sha256:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(target), hash_prefix=sha256, progress=False)
        except (OSError, RuntimeError) as error:
            raise HubError(
                f"Cannot download {url}: {error}.",
                f"Check the network, or put the file at {target}, or use a mirror directory with {repo}/{file}.",
            ) from error
    return target


def github_url(repo: str, revision: str, file: str) -> str:
    """The address of a file at a commit."""
    return f"https://github.com/{repo}/raw/{revision}/{file.replace('+', '%2B')}"


def downloaded(file: str) -> Path:
    """Where `github_file` keeps it: torch's cache."""
    return Path(torch.hub.get_dir()) / "checkpoints" / file


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Inside, whatever a library raises over a damaged file becomes a CheckpointError that names it.

    Args:
        what: what the file should be, with its article.
    """
    try:
        yield
    except (PipelineError, MemoryError):
        raise
    except (
        Exception
    ) as error:  # libraries raise a dozen types (pickle, zip, JSON, OS, ...) for a file that is not right
        raise CheckpointError(f"{path} is not {what}: {type(error).__name__}: {error}", REMEDY) from error


def read_torch(path: Path) -> Any:
    """The content of a `.pt` or `.pth` file of tensors and plain containers; raises CheckpointError."""
    with reading(path, "a checkpoint of plain tensors"):
        content = torch.load(path, map_location="cpu", weights_only=True)
        if is_zipfile(path) and (damaged := ZipFile(path).testzip()):  # torch does not look at the checksums
            raise CheckpointError(f"{path} is damaged: the checksum of its part {damaged} is wrong.", REMEDY)
        return content


def state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """`content` as a mapping of names to tensors; raises CheckpointError."""
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path} does not hold a mapping of names to tensors.", REMEDY)
    return dict(content)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object next to the weights; raises CheckpointError."""
    with reading(path, "JSON"):
        value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is not a JSON object.", REMEDY)
    return value


def load_strict(
    module: nn.Module, state: Mapping[str, Tensor], path: Path, prefix: str = "", harmless: Collection[str] = ()
) -> None:
    """Put the tensors of `state` into `module` as they are.

    Args:
        prefix: what the file's names have before the module's.
        harmless: names that the file may have and the module does not use.

    Raises:
        CheckpointError: a key is missing, unexpected or of another shape; the message lists them as in the file.
    """
    own = {prefix + name: tensor for name, tensor in module.state_dict().items()}
    used = {name: tensor for name, tensor in state.items() if name not in harmless}
    misshapen = [
        f"{name} is {tuple(used[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in used and used[name].shape != own[name].shape
    ]
    check_keys(path, missing=own.keys() - used.keys(), unexpected=used.keys() - own.keys(), misshapen=misshapen)
    module.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in used.items()}, assign=True)


def check_keys(
    path: Path, missing: Iterable[str] = (), unexpected: Iterable[str] = (), misshapen: Iterable[str] = ()
) -> None:
    """Raise CheckpointError naming the keys, unless there are none."""
    problems = []
    for kind, names in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen)):
        found = sorted(names)
        if found:
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            problems.append(f"{len(found)} {kind}: {', '.join(found[:SHOWN])}{more}")
    if problems:
        raise CheckpointError(f"{path} does not fit the architecture. {'; '.join(problems)}.", REMEDY)
