"""What a base model is: the content of its files as they are now, wherever they lie."""

from __future__ import annotations

from pipeline_lib.core.config import BaseModel
from pipeline_lib.core.digest import current_sha256, digest, forget
from pipeline_lib.models.parts import encoder_digest, folder, part_files


def base_identity(base: BaseModel) -> dict[str, str | None]:
    """Name and weights digest of a base model, for dataset keys. Fetches it and hashes what is new or was changed."""
    parts = ("unet", "scheduler")
    root = folder(base, parts)
    files = sorted(file for part in parts for file in part_files(base, part).values())
    weights = digest([encoder_digest(base), [[f.relative_to(root).as_posix(), current_sha256(f)] for f in files]], 16)
    return {"family": base.family, "repo": base.repo, "vae_repo": base.vae_repo, "weights": weights}


base_identity.cache_clear = forget  # type: ignore[attr-defined]  # as of functools' caches: all is hashed again
