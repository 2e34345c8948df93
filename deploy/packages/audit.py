"""`python -m deploy.packages.audit`: known vulnerabilities of what constraints.txt pins, by pip-audit.

Ends with 1 when there is one that accepted.txt does not name. Where the database cannot be reached, it says so and
ends with 0: the tests need no network. An answer holds for a day.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from deploy.stack.settings import ROOT, state_folder
from pipeline_lib.core.digest import digest

SERVICE = os.environ.get("PIPELINE_OSV_URL") or "https://api.osv.dev/v1/query"
CONSTRAINTS = ROOT / "constraints.txt"
ACCEPTED = Path(__file__).with_name("accepted.txt")
DAY_S = 86_400.0


def accepted(text: str) -> list[str]:
    """The identifiers in a list of accepted vulnerabilities.

    Raises:
        ValueError: one without a reason behind it.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for line in lines:
        if not re.fullmatch(r"\S+\s+# \S.*", line):
            raise ValueError(f"{ACCEPTED.name}: {line!r} is not `<identifier>  # <reason>`")
    return [line.split()[0] for line in lines]


def reachable(url: str) -> bool:
    """Whether anything listens where the URL leads, or there is a proxy that may know."""
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return True
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 443), timeout=3).close()
    except OSError:
        return False
    return True


def audit(constraints: Path, ignored: list[str], service: str) -> subprocess.CompletedProcess[str]:
    """Ask the database for each pinned package; nothing is resolved or installed."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(constraints), "--no-deps", "--disable-pip"]
    command += ["--progress-spinner", "off", "--vulnerability-service", "osv", "--osv-url", service, "--timeout", "20"]
    command += [part for name in ignored for part in ("--ignore-vuln", name)]
    return subprocess.run(command, capture_output=True, text=True)


def main() -> int:
    ignored = accepted(ACCEPTED.read_text())
    asked = digest([CONSTRAINTS.read_text(), ignored, SERVICE])
    stamp = state_folder() / "audit.json"
    before = json.loads(stamp.read_text()) if stamp.exists() else {}
    if before.get("asked") == asked and time.time() - before["time"] < DAY_S:
        print(f"packages: {before['said']}, asked at {time.strftime('%H:%M', time.localtime(before['time']))}")
        return 0
    if not reachable(SERVICE):
        print(f"packages: NOT checked for known vulnerabilities, {urlsplit(SERVICE).netloc} cannot be reached")
        return 0
    done = audit(CONSTRAINTS, ignored, SERVICE)
    if done.returncode == 0:
        said = "no known vulnerability" + (f" but {len(ignored)} accepted ones" if ignored else "")
        print(f"packages: {said}")
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(json.dumps({"asked": asked, "time": time.time(), "said": said}))
        return 0
    if "known vulnerabilit" not in done.stderr:  # the database gave up in between
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        print(f"packages: NOT checked for known vulnerabilities, {last}")
        return 0
    print(f"{done.stdout}{done.stderr}", file=sys.stderr)
    print("packages: raise the pins above, or say in deploy/packages/accepted.txt why not", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
