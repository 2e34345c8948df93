"""`python -m pipeline_lib.sizing --preset sdxl --tflops 150 --price 2.5`: what a run on Pick-a-Pic v2 takes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from pipeline_lib.presets import METHODS
from pipeline_lib.sizing.bases import BASES
from pipeline_lib.sizing.data import PICKAPIC_V2
from pipeline_lib.sizing.flops import TERA
from pipeline_lib.sizing.rates import COMPUTE_SHARE, DEFAULT_TERAFLOPS, PRICE
from pipeline_lib.sizing.table import Machine, stages, text

STAGES = ("ingest", "label", *COMPUTE_SHARE)


def rate(given: str) -> tuple[str, float]:
    """`stage=items per second`, for argparse."""
    name, _, number = given.partition("=")
    if name not in STAGES:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(STAGES)}")
    if not float(number) > 0:
        raise argparse.ArgumentTypeError(f"{given}: a rate is a positive number")
    return name, float(number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m pipeline_lib.sizing", description=__doc__)
    parser.add_argument("--preset", choices=sorted(BASES), default="sdxl")
    parser.add_argument("--method", choices=METHODS, default="balanced")
    parser.add_argument("--pairs", type=int, help="pairs of the source; images and prompts in proportion")
    parser.add_argument("--tflops", type=float, default=float(DEFAULT_TERAFLOPS), help="sustained by one GPU")
    parser.add_argument("--images-per-second", type=float, help="the same as --rate score=...")
    parser.add_argument("--rate", type=rate, action="append", default=[], help="stage=items per second and GPU")
    parser.add_argument("--price", type=float, default=PRICE, help="of a GPU hour")
    given = parser.parse_args(arguments)
    source = PICKAPIC_V2
    if given.pairs:
        share = given.pairs / source.pairs
        prompts, images = round(source.prompts * share), round(source.images * share)
        source = replace(source, pairs=given.pairs, prompts=prompts, images=images)
    rates = dict(given.rate) | ({"score": given.images_per_second} if given.images_per_second else {})
    machine = Machine(flops_per_second=given.tflops * TERA, price=given.price, rates=rates)
    sys.stdout.write(text(list(stages(given.preset, given.method, source, machine)), machine.price) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
