"""Where checkpoints come from: the model hub, or a mirror directory laid out like it (`<mirror>/<org>/<repo>/...`).

A name is never looked for in the working directory: what happens to lie there is not what was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline_lib.core.errors import HubError, excerpt
from pipeline_lib.core.store import absolute
from pipeline_lib.core.urls import is_path, local_path

HUB = "hub"
SHAPES_MIRROR = "shapes://hub"
_COMMIT = re.compile("[0-9a-f]{40}")
_fetched: dict[tuple[str, str | None, tuple[str, ...] | None], Path] = {}
"""Where this process found files of commits. What a branch or a tag means now, the hub is always asked."""


def snapshot(
    repo: str,
    revision: str | None = None,
    files: Sequence[str] | None = None,
    mirror: str = HUB,
    optional: Sequence[str] = (),
) -> Path:
    """A local folder with (at least) `files` of a model repository.

    Args:
        repo: `<org>/<name>` on the hub or in the mirror, or a local folder as `urls.is_path` tells it: that one.
        revision: commit, tag or branch; ignored for folders and mirrors, which hold one revision.
        files: names or glob patterns to fetch; None fetches everything.
        mirror: "hub", "shapes://hub" (the built-in world's weights), or a directory laid out like the hub; ignored
            for a folder.
        optional: as `files`, but the repository may lack them.

    Raises:
        HubError: the repository, revision or a file is missing, access is denied, or the hub cannot be reached.
    """
    if is_path(repo):
        folder = _local(repo)
    elif mirror == HUB:
        folder = _from_hub(repo, revision, files, optional)
    else:
        folder = _from_mirror(repo, mirror)
    if absent := _absent(folder, files):
        raise HubError(
            f"{repo} ({folder}) lacks {', '.join(absent)}.", "Check the repository's file list and the revision."
        )
    return folder


def repository_files(repo: str, revision: str | None = None, mirror: str = HUB) -> list[str]:
    """Every file of a repository on the hub; of others nothing, since `snapshot` gives their whole folder.

    Without the hub, the files of its copy in the local cache.

    Raises:
        HubError: as `snapshot`.
    """
    if mirror != HUB or is_path(repo):
        return []
    from huggingface_hub import HfApi, snapshot_download

    try:
        with hub_errors(f"{repo}@{revision or 'main'}"):
            return list(HfApi().list_repo_files(repo, revision=revision))
    except HubError as error:
        try:
            copy = Path(snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=[]))
        except (OSError, ValueError):
            raise error from error.__cause__
        return [path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()]


def _absent(folder: Path, files: Sequence[str] | None) -> list[str]:
    """Those of `files` that are not there, or of which some are links that lead nowhere."""
    found = {name: list(folder.glob(name)) for name in files or ()}
    return [name for name, paths in found.items() if not paths or not all(path.exists() for path in paths)]


def _local(repo: str) -> Path:
    folder = local_path(repo).absolute()
    if not folder.is_dir():
        raise HubError(f"There is no folder {folder}.", "Give the whole path of a model's folder, or <org>/<name>.")
    return folder


def _from_mirror(repo: str, mirror: str) -> Path:
    if mirror == SHAPES_MIRROR:
        from pipeline_lib.shapes import HUB as shapes_hub

        folder = shapes_hub / repo
    else:
        folder = Path(absolute(mirror)) / repo
    if not folder.is_dir():
        raise HubError(
            f"The mirror {mirror} has no folder {repo} (looked at {folder}).",
            'Copy the repository there, or use weights="hub".',
        )
    return folder


def check_mirror(mirror: str) -> None:
    """Raise HubError for a mirror that there is not; ConfigError for what can be none."""
    if mirror not in (HUB, SHAPES_MIRROR) and not Path(absolute(mirror)).is_dir():
        raise HubError(f"There is no mirror {excerpt(mirror)}.", 'Give a folder laid out like the hub, or "hub".')


def _from_hub(repo: str, revision: str | None, files: Sequence[str] | None, optional: Sequence[str]) -> Path:
    patterns = (*files, *optional) if files else None
    wanted = (repo, revision, patterns)
    known = _fetched.get(wanted)
    if known and known.is_dir() and not _absent(known, files):
        return known
    from huggingface_hub import snapshot_download

    with hub_errors(f"{repo}@{revision or 'main'}"):
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=list(patterns) if patterns else None))
    if revision and _COMMIT.fullmatch(revision):
        _fetched[wanted] = folder
    return folder


@contextmanager
def hub_errors(where: str) -> Iterator[None]:
    """Turn the hub client's exceptions into HubError; `where` names the repository and revision."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise HubError(f"{where} is gated.", "Accept its terms on the hub and set HF_TOKEN.") from error
    except RevisionNotFoundError as error:
        raise HubError(
            f"{where}: the hub has the repository but not this revision.", "Choose an existing revision."
        ) from error
    except RepositoryNotFoundError as error:
        raise HubError(
            f"{where} does not exist on the hub, or is private.", "Check the name; for private ones set HF_TOKEN."
        ) from error
    except HFValidationError as error:
        raise HubError(f"{where} is not a repository name: {error}.", "Write it as <org>/<name>.") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HTTPError, OSError) as error:
        raise HubError(
            f"Cannot read {where}: the model hub cannot be reached and the files are not in the local cache.",
            "Check the network, proxy and HF_ENDPOINT, or give a local copy: for weights a mirror directory laid out "
            "like the hub, for pairs a folder of Parquet.",
        ) from error
