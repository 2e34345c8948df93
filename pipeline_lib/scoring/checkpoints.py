"""Reading official checkpoints: no code is executed, and no key is missing or left over unnoticed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile, is_zipfile

from pipeline_lib.core.digest import current_sha256
from pipeline_lib.core.errors import CheckpointError, HubError
from pipeline_lib.core.hub import HUB, snapshot
from pipeline_lib.core.weights.keys import check_keys, match, plain_name
from pipeline_lib.core.weights.read import check_finite, reading, sizes

if TYPE_CHECKING:
    from torch import Tensor, nn

REMEDY = "Download the file again, and check that it is the official checkpoint of this scorer."


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
    import torch

    url, target = github_url(repo, revision, file), downloaded(file)
    if not target.exists() or current_sha256(target) != sha256:
        import torch

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
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / file


def read_torch(path: Path) -> Any:
    """The content of a `.pt` or `.pth` file of tensors and plain containers; raises CheckpointError."""
    import torch

    with reading(path, "a checkpoint of plain tensors", REMEDY):
        content = torch.load(path, map_location="cpu", weights_only=True)
        if is_zipfile(path) and (damaged := ZipFile(path).testzip()):  # torch does not look at the checksums
            raise CheckpointError(f"{path} is damaged: the checksum of its part {damaged} is wrong.", REMEDY)
        return content


def state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """`content` as a mapping of names to finite tensors, without what compiling or DDP put before the names.

    Raises:
        CheckpointError: it is none.
    """
    from torch import Tensor

    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path} does not hold a mapping of names to tensors.", REMEDY)
    for name, tensor in content.items():
        check_finite(tensor, name, path)
    names = [plain_name(str(name)) for name in content]
    check_keys(path, repeated={name for name in names if names.count(name) > 1}, remedy=REMEDY)
    return dict(zip(names, content.values(), strict=True))


def load_strict(
    module: nn.Module, state: Mapping[str, Tensor], path: Path, kind: str = "model", prefix: str = ""
) -> None:
    """Put the tensors of `state` into `module` as they are.

    Args:
        kind: what the model is; it decides which names the file may have that the module does not use.
        prefix: what the file's names have before the module's.

    Raises:
        CheckpointError: a key is missing, unexpected or of another shape; the message lists them as in the file.
    """
    own = {prefix + name: shape for name, shape in sizes(module).items()}
    matched = match({name: tuple(tensor.shape) for name, tensor in state.items()}, own, kind, path, REMEDY)
    module.load_state_dict(
        {own_name.removeprefix(prefix): state[name] for name, own_name in matched.items()}, assign=True
    )
