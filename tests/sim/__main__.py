"""Runs seeds: `python -m tests.sim --seeds 1000` (from --from on, in --jobs processes), or one with its story:
`python -m tests.sim --seed 7`.

The first line says which seeds; a seed that fails is named with why, and its last events. Run it with PYTHONHASHSEED=0
(make sim does): sets of names are in the order of their hashes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
import traceback
from multiprocessing import get_context

from pylog import logger
from tests.sim.mutants import MUTANTS
from tests.sim.scenario import Scenario


def run_seed(seed: int, traced: bool = False) -> str | None:
    """None, or what went wrong, with the last events. A story (traced) has them all, and what is logged."""
    logger.threshold = 0 if traced else 100
    scenario = Scenario(seed, traced=traced)
    if traced:
        logger.sink = lambda _, line: scenario.world.say("log", line.rstrip())
    try:
        scenario.run()
    except Exception:
        story = "\n".join(scenario.world.trace)
        return f"{story}\nseed {seed}\n{traceback.format_exc()}"
    return None


def digest(seed: int) -> str:
    """Of all that happened in a run."""
    logger.threshold = 100
    scenario = Scenario(seed, traced=True)
    scenario.run()
    return hashlib.sha256("\n".join(scenario.world.trace).encode()).hexdigest()


def _run(seed: int) -> tuple[int, str | None]:
    return seed, run_seed(seed)


def run_seeds(first: int, count: int, jobs: int) -> dict[int, str]:
    """What went wrong, by seed."""
    failed: dict[int, str] = {}
    seeds = range(first, first + count)
    with get_context("fork").Pool(jobs, maxtasksperchild=200) as pool:
        for seed, why in pool.imap_unordered(_run, seeds, chunksize=4):
            if why is not None:
                failed[seed] = why
                print(why, flush=True)
    return failed


def run_mutant(name: str, first: int, count: int) -> int:
    """Until the mistake is found: 1, or 0 when it is not."""
    MUTANTS[name]()
    for seed in range(first, first + count):
        why = run_seed(seed)
        if why is not None:
            print(why)
            return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="only this one, with its story")
    parser.add_argument("--digest", action="store_true", help="with --seed: a number for all that happened")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="with a mistake put in on purpose (mutants.py)")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--from", dest="first", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(
            sys.executable, [sys.executable, "-m", "tests.sim", *sys.argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"}
        )
    if arguments.mutant is not None:
        return run_mutant(arguments.mutant, arguments.first, arguments.seeds)
    if arguments.digest:
        print(digest(arguments.seed))
        return 0
    if arguments.seed is not None:
        why = run_seed(arguments.seed, traced=True)
        print(f"seed {arguments.seed}: all is well" if why is None else why)
        return int(why is not None)
    last = arguments.first + arguments.seeds - 1
    print(f"seeds {arguments.first} to {last}", flush=True)
    began = time.monotonic()
    failed = run_seeds(arguments.first, arguments.seeds, arguments.jobs)
    print(f"{arguments.seeds} seeds in {time.monotonic() - began:.1f} s, failed: {sorted(failed) or 'none'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
