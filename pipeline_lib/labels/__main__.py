"""Command line: recipes in words.

python -m pipeline_lib.labels list
python -m pipeline_lib.labels explain dedpo25
python -m pipeline_lib.labels explain '[{vote: [human, clip, hpsv2], ties: drop}, {flip: 0.1}]'
python -m pipeline_lib.labels explain my-recipe.yaml
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline_lib.core.errors import PipelineError
from pipeline_lib.labels.explain import explain
from pipeline_lib.labels.parse import check_scorers
from pipeline_lib.labels.recipes import names, steps_of
from pipeline_lib.labels.self_training import runnable


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code, 2 for a recipe that makes no sense."""
    parser = argparse.ArgumentParser(prog="python -m pipeline_lib.labels")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the named recipes")
    asked = commands.add_parser("explain", help="a recipe in words")
    asked.add_argument("recipe", help="a name, YAML text, or a YAML file")
    given = parser.parse_args(arguments)
    if given.command == "list":
        print("\n".join(names()))
        return 0
    recipe = Path(given.recipe).read_text("utf-8") if given.recipe.endswith((".yaml", ".yml")) else given.recipe
    try:
        check_scorers(steps_of(recipe), (), runnable())
        print(explain(recipe))
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
