"""Addresses: which ones a parameter may hold, and none with credentials.

A URL ends up in parameters, manifests, logs and reports. And fsspec opens far more than a store: `http://`, `github://`,
chains such as `simplecache::http://`. Who may ask for a run must not make a worker call any address by that.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from pipeline_lib.core.errors import ConfigError, excerpt

# No look-around: pydantic's patterns have none. No [/ either: rich, which prints forms, takes it for a closing tag.
# A path has neither "://" nor "::", by which fsspec chains URLs.
_PATH = r"(?:[^:]|:[^/:]|:/[^/:])*:?/?"
_ROOTED = r"(?:/|~)(?:[^:]|:[^/]|:/[^/])*:?/?"
"""A path that no chain begins with."""
_REST = r"(?:[^:]|:[^:])*:?"
_HOST = rf"[^/@:]+(?:/{_REST})?"

PATTERN = r"^(?:(?:[^:]|:[^/]|:/[^/])*:?/?|(?:[^:]|::)*://[^/@:]*(?::[0-9]+)?(?:/.*)?)$"
"""A path, or a URL with nothing but a host and a port before its first slash."""
STORE = rf"^(?:{_PATH}|file:///{_REST}|s3://{_HOST})$"
"""Where datasets are: a folder, or a bucket of S3. What the store can be on is listed here and nowhere else."""
LOCATION = rf"^(?:{_PATH}|file:///{_REST}|(?:s3|shapes)://{_HOST})$"
"""What a run may be told to read besides its source: a store's, a path, a name, or what the built-in world brings."""
FILE = rf"^(?:{_PATH}|{_ROOTED}|file:///{_REST}|s3://{_HOST})$"
"""A file that is read as it is: of prompts or scores. Its name may hold "::"."""
SOURCE = rf"^(?:{_PATH}|{_ROOTED}|file:///{_REST}|(?:s3|shapes|hf)://{_HOST})$"
"""Where pairs may come from: the model hub, too."""

MAX_NAME, MAX_PATH = 255, 4095
"""Bytes of a file's name and of a path, on Linux."""


def refuse_login(url: str) -> str:
    """The URL itself; raises ConfigError, which does not repeat it, where it holds a name, key or token, or a NUL."""
    if "\0" in url:
        raise ConfigError("An address holds a NUL character.", "Leave it out.")
    if re.fullmatch(PATTERN, url, re.DOTALL):
        return url
    raise ConfigError(
        f"An address of the scheme {url.partition('://')[0]!r} holds a login before its host.",
        "Leave it out, change that key, and give keys by the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
        "HF_TOKEN, MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD.",
    )


def refuse_elsewhere(url: str) -> str:
    """The URL itself; raises ConfigError when it holds a login, or is nothing that a store can be on."""
    if re.fullmatch(STORE, refuse_login(url), re.DOTALL):
        return url
    raise ConfigError(
        f"{excerpt(url)} is no place for datasets: only folders and S3 are read and written.",
        "Give a folder's path, file:///<path> or s3://<bucket>/<prefix>; copy what is elsewhere there first.",
    )


def is_path(text: str) -> bool:
    """Whether a text can be nothing but a path: from the root, the home or the working directory on."""
    return text.split("/")[0] in ("", ".", "..") or text.startswith("~")


def place(text: str) -> str:
    """The address of something that is read, the same from every working directory: a path, or a URL of S3.

    A path from the root may hold "::", as it is opened as a path, and never by fsspec.

    Raises:
        ConfigError: a login in it, or nothing that a store can be on.
    """
    if not (text.startswith(("/", "~")) and re.fullmatch(PATTERN, text, re.DOTALL) and "://" not in text):
        refuse_elsewhere(text)
    return text.rstrip("/") if "://" in text else str(local_path(text).resolve())


def local_path(text: str) -> Path:
    """The path that a text means on this machine, whether or not there is something; `~` is the home.

    Raises:
        ConfigError: no file system has such a path, or there is no such home.
    """
    parts = text.split("/")
    if "\0" in text or max(len(os.fsencode(part)) for part in parts) > MAX_NAME or len(os.fsencode(text)) > MAX_PATH:
        raise ConfigError(f"{excerpt(text)} is no path.", "Give the path of a file or folder.")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{excerpt(text)}: {error}.", "Write the whole path.") from error
