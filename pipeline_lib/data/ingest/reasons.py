"""Why a source row is rejected: the fixed set of reasons in the quarantine table and in the manifest's counts."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Reasons in the order they are checked; a row is rejected for the first that applies."""

    FILE_UNREADABLE = "file-unreadable"
    """A file, or a run of its row groups, that is not readable Parquet with the columns of pairs."""
    PROMPT_NOT_UTF8 = "prompt-not-utf8"
    PROMPT_EMPTY = "prompt-empty"
    """Missing, empty, or white space only."""
    MISSING_UID = "missing-uid"
    """A side has no image uid (null or empty)."""
    SAME_IMAGE = "same-image"
    """Both sides are the same image: there is nothing to prefer."""
    LABELS_INCONSISTENT = "labels-inconsistent"
    """label_0 is not 0, 0.5 or 1, or label_0 + label_1 is not 1."""
    DUPLICATE_ROW = "duplicate-row"
    """Says what an earlier row of the same user says: prompt, images, label, user, time and ranking are equal."""
    IMAGE_MISSING = "image-missing"
    """No bytes."""
    TOO_MANY_BYTES = "too-many-bytes"
    """More encoded bytes than `max_bytes`."""
    TOO_MANY_PIXELS = "too-many-pixels"
    """More pixels than `max_pixels`, by its header: it is not decoded."""
    IMAGE_TRUNCATED = "image-truncated"
    """A JPEG, PNG or WebP that ends too early."""
    IMAGE_UNDECODABLE = "image-undecodable"
    """Neither JPEG, PNG nor WebP, or damaged."""
    UID_CONFLICT = "uid-conflict"
    """The uid of an earlier image with other bytes; the first stays."""
