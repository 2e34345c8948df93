"""`python -m pipeline_lib.shapes build`: rebuild the built-in world."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from pipeline_lib.shapes import assets_dir


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline_lib.shapes", description=__doc__)
    build = parser.add_subparsers(required=True).add_parser("build", help="rebuild weights, pairs and truth")
    build.add_argument("--out", type=Path, default=assets_dir(), help="where the assets go")
    build.add_argument("--work", type=Path, default=Path(".state/shapes-build"), help="where unfinished work stays")
    build.add_argument("--steps-scale", type=float, default=1.0, help="share of the training; 0: hardly any")
    build.add_argument("--only", nargs="*", default=[], help="components to make (again)")
    arguments = parser.parse_args()

    import torch

    from pipeline_lib.shapes.build.components import Build
    from pipeline_lib.shapes.build.everything import run

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    run(Build(arguments.out, arguments.work, arguments.steps_scale), arguments.only)


if __name__ == "__main__":
    main()
