"""Our scorers beside the official packages: same weights, same images; prints a table, fails unless they agree.

    python -m tests.parity [scorer ...]

Full architectures, random weights, fp32 on CPU. For each checkpoint the oracle (tests/parity/oracle, in an environment
of its own) writes the files as their authors publish them and scores with the authors' code; then our process loads
the same files by the production path. One checkpoint at a time is on disk and in memory (up to 4 GB and 9 GB).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.parity.compare import ROWS, compare, table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description="Our scorers beside the originals.")
    parser.add_argument("scorers", nargs="*", help=f"of {', '.join(dict.fromkeys(row.scorer for row in ROWS))}")
    parser.add_argument("--work", type=Path, help="folder for checkpoints (default: .state/parity)")
    options = parser.parse_args()
    results = compare(options.scorers, options.work)
    print(table(results))
    sys.exit(not all(result.agrees for result in results))


if __name__ == "__main__":
    main()
