"""Addresses without credentials: a URL ends up in parameters, manifests, logs and reports."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pipeline_lib.errors import ConfigError, excerpt

PATTERN = r"^(?:(?:[^:]|:[^/]|:/[^/])*:?/?|(?:[^:]|::)*://[^/@:]*(?::[0-9]+)?(?:/.*)?)$"
"""A path, or a URL with nothing but a host and a port before its first slash. No look-around: pydantic's has none."""

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
