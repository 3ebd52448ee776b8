"""`python -m tests.differential --seed 7 --sessions 100`: play sessions to both brokers and print what differs."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from tests.differential.compare import faults
from tests.differential.oracle import SETTINGS, common_ranges, player, served_ranges
from tests.differential.scripts import Script
from tests.support import peers
from tests.support.brokers import KINDS, Broker


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--oracle", choices=[kind for kind in KINDS if kind != "pylog"], default="kafka39")
    parser.add_argument("--verbose", action="store_true", help="every difference with its request")
    options = parser.parse_args()
    why = peers.unavailable(options.oracle)
    if why is not None:
        print(why, file=sys.stderr)
        return 2
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="differential-")))
        ours = _started(stack, "pylog", directory)
        theirs = _started(stack, options.oracle, directory)
        print(f"seed {options.seed}, {options.sessions} sessions, against {options.oracle}")
        found = _run(ours, theirs, options.seed, options.sessions, options.verbose)
        ours.stop()
        tracebacks = ours.log.read_text().count("Traceback")
    print(f"{sum(found.values())} differences of {len(found)} kinds; {tracebacks} tracebacks in our log")
    return 1 if found or tracebacks else 0


def _started(stack: ExitStack, kind: str, directory: Path) -> Broker:
    return stack.enter_context(KINDS[kind](directory / kind, SETTINGS)).start()


def _run(ours: Broker, theirs: Broker, seed: int, sessions: int, verbose: bool) -> Counter[tuple[str, str]]:
    ranges = common_ranges(served_ranges(), theirs.port)
    our_player, their_player = player(ours), player(theirs)
    found: Counter[tuple[str, str]] = Counter()
    for number in range(sessions):
        prefix = f"s{number}x0"
        session = Script(seed * 1_000_003 + number, prefix, ranges).build()
        first, second = our_player.play(session, prefix), their_player.play(session, prefix)
        for at, difference in faults(session, first, second):
            kind = (difference.api, difference.path)
            found[kind] += 1
            if verbose or found[kind] <= 2:
                print(f"session {number} step {at}: {difference}")
                print("   ", json.dumps(session[at], default=str)[:1500])
                print("    ours ", json.dumps(first[at])[:700])
                print("    Kafka", json.dumps(second[at])[:700], flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
