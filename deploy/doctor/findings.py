"""What a check has to say."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

Level = Literal["ok", "warning", "error"]
SECRET_NAME = re.compile(r"TOKEN|PASSWORD|SECRET|AUTH_STRING|API_KEY|ACCESS_KEY", re.IGNORECASE)
LOGIN = re.compile(r"(?<=://)[^/@\s]+@")
MASK = "***"


@dataclass(frozen=True)
class Finding:
    """One line of the report. `check` groups lines; `remedy` is empty only for `ok`."""

    level: Level
    check: str
    what: str
    remedy: str = ""


def ok(check: str, what: str) -> Finding:
    """Nothing to do."""
    return Finding("ok", check, what)


def warning(check: str, what: str, remedy: str) -> Finding:
    """Runs go on, but not as well as they could."""
    return Finding("warning", check, what, remedy)


def error(check: str, what: str, remedy: str) -> Finding:
    """Runs fail, wait for ever, or hold what others need."""
    return Finding("error", check, what, remedy)


def redacted(text: str, variables: Mapping[str, str]) -> str:
    """`text` without logins in URLs and without the values of secret-looking `variables`."""
    text = LOGIN.sub(f"{MASK}@", text)
    secrets = {part for name, value in variables.items() if SECRET_NAME.search(name) for part in _parts(value)}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def without_secrets(finding: Finding, variables: Mapping[str, str]) -> Finding:
    """The finding with both texts redacted."""
    return replace(finding, what=redacted(finding.what, variables), remedy=redacted(finding.remedy, variables))


def _parts(value: str) -> list[str]:
    """A secret, and the password of a `name:password`; nothing that is too short to be told from other text."""
    return [part for part in (value, value.partition(":")[2]) if len(part) >= 6]
