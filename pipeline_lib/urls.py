"""Addresses without credentials: a URL ends up in parameters, manifests, logs and reports."""

from __future__ import annotations

import re

from pipeline_lib.errors import ConfigError

PATTERN = r"^(?:(?:[^:]|:[^/]|:/[^/])*:?/?|(?:[^:]|::)*://[^/@:]*(?::[0-9]+)?(?:/.*)?)$"
"""A path, or a URL with nothing but a host and a port before its first slash. No look-around: pydantic's has none."""


def refuse_login(url: str) -> str:
    """The URL itself; raises ConfigError, which does not repeat it, when there is a name, key or token in it."""
    if re.fullmatch(PATTERN, url, re.DOTALL):
        return url
    raise ConfigError(
        f"An address of the scheme {url.partition('://')[0]!r} holds a login before its host.",
        "Leave it out, change that key, and give keys by the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
        "HF_TOKEN, MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD.",
    )
