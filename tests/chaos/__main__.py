"""Chaos: `align/shapes` on a local stack with its files on S3, whose processes are killed at random moments.

    python -m tests.chaos [--injections 30] [--seed 0] [--keep]

An undisturbed run says what must come out. Then rounds, each from an empty store: while the deployment runs, SIGKILL
hits the flow's process, the trainer, the worker, the Prefect, the MLflow or the S3 server; the supervisor restarts
what it supervises, this program the S3 server, and a run that did not complete is run again with the same parameters.
After each round all that it left is compared with the undisturbed run. The seed fixes order and pauses of the kills;
what they hit depends on the machine's speed.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import tests.conftest  # noqa: F401  # one thread per process, no hub
from deploy.stack.settings import state_folder
from tests.chaos import table
from tests.chaos.checks import Check, compare, settled
from tests.chaos.evidence import forget, gather
from tests.chaos.rounds import Chaos, ChaosError, deck, disturbed, undisturbed
from tests.chaos.site import running_site

logger = logging.getLogger("tests.chaos")


def main() -> int:
    """The command line; exit status 1 when something does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Kill what align/shapes consists of.")
    parser.add_argument("--injections", type=int, default=30, help="processes to kill, of six kinds in turn")
    parser.add_argument("--seed", type=int, default=0, help="of the order and the pauses")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and datasets")
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("tests.chaos").setLevel(logging.INFO)
    parent = state_folder() / "chaos"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=parent))
    rng = random.Random(options.seed)
    chaos = Chaos(rng, deck(options.injections, rng))
    found: list[Check] = []
    try:
        found = run(folder, chaos)
    except ChaosError as error:
        found = [Check("the pipeline comes back by itself", False, str(error))]
    good = all(check.holds for check in found)
    print(f"\n{table.injections(chaos.done)}\n\n{table.by_kind(chaos.done)}\n\n{table.checks(found)}\n")
    seconds = time.monotonic() - chaos.started
    print(f"{len(chaos.done)} injections in {seconds:.0f} s: {'all of it holds' if good else 'NOT all of it holds'}")
    if good and not options.keep:
        shutil.rmtree(folder)
    else:
        print(f"logs and datasets: {folder}")
    return 0 if good else 1


def run(folder: Path, chaos: Chaos) -> list[Check]:
    """The checks of all rounds and of the end, those that do not hold of every round."""
    found: list[Check] = []
    with running_site(folder) as site:
        store = f"{site.store}/undisturbed"
        begun = time.monotonic()
        completed = undisturbed(site, store)
        span = time.monotonic() - begun
        expected = gather(site, completed, store)
        number = 0
        while chaos.deck:
            number += 1
            forget(site)
            store = f"{site.store}/round-{number}"
            last = disturbed(site, store, chaos, span)
            logger.info("round %d is complete after %d injections", number, len(chaos.done))
            left = settled(site)
            found += [
                Check(f"round {number}: {c.what}", c.holds, c.found)
                for c in compare(gather(site, last, store), expected) + left
            ]
    return found


if __name__ == "__main__":
    sys.exit(main())
