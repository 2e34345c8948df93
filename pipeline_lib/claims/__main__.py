"""Command line: `python -m pipeline_lib.claims write` writes CLAIMS.md and its figures, `check` compares them."""

from __future__ import annotations

import argparse
import sys

from pipeline_lib.claims import document
from pipeline_lib.core.errors import PipelineError


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 1 where a file is not what the results say, or one of them cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline_lib.claims",
        description="CLAIMS.md from the claim files and the results in the project.",
    )
    parser.add_argument("command", choices=("write", "check"))
    arguments = parser.parse_args(argv)
    try:
        changed = document.write() if arguments.command == "write" else document.outdated()
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    said = "wrote" if arguments.command == "write" else "out of date:"
    for path in changed:
        print(f"{said} {path.relative_to(document.ROOT)}")
    if arguments.command == "check" and changed:
        print("Write them: python -m pipeline_lib.claims write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
