"""Whether files with logins, tokens and keys, and the state folder, are closed to other users of the machine."""

import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from deploy.doctor.findings import SECRET_NAME, Finding, ok, warning
from deploy.doctor.surroundings import Surroundings
from deploy.stack.settings import ROOT

CHECK = "logins"
OTHERS = 0o007
GROUP_AND_OTHERS = 0o077


def logins(surroundings: Surroundings) -> Iterator[Finding]:
    """One line for each file that others can read, or one that says that there is none."""
    found = [path for path in files(surroundings.variables) if _is_open(path, GROUP_AND_OTHERS)]
    for path in found:
        yield warning(
            CHECK, f"others can read {path}, which holds a login", f"chmod 600 {path}, and change what it holds"
        )
    state = surroundings.state
    if _is_open(state, OTHERS):
        yield warning(
            CHECK, f"others can read the state folder {state}", f"chmod o-rwx {state}, or start the stack again"
        )
    elif not found:
        yield ok(CHECK, "no file with a login, and no state, can be read by other users of this machine")


def files(variables: Mapping[str, str], root: Path = ROOT) -> list[Path]:
    """The files with a login that there are: compose's, Prefect's profiles, the hub's token, the keys of S3."""
    home = Path(variables.get("HOME") or Path.home())
    prefect = Path(variables.get("PREFECT_HOME") or home / ".prefect")
    profiles = Path(variables.get("PREFECT_PROFILES_PATH") or prefect / "profiles.toml")
    hub = Path(variables.get("HF_HOME") or home / ".cache" / "huggingface")
    token = Path(variables.get("HF_TOKEN_PATH") or hub / "token")
    keys = Path(variables.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials")
    found = [path for path in (root / "docker" / ".env", token, keys) if _text(path).strip()]
    return found + [profiles] * bool(SECRET_NAME.search(_text(profiles)))


def _text(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text()
    return ""


def _is_open(path: Path, bits: int) -> bool:
    with suppress(OSError):
        return bool(stat.S_IMODE(path.stat().st_mode) & bits)
    return False
