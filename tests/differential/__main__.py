"""`python -m tests.differential --seed 7 --sessions 100`: play sessions to both brokers and print what differs."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from tests.differential.compare import Difference, comparable, differences, faults
from tests.differential.consumers import CONSUMER_SETTINGS
from tests.differential.known import reason
from tests.differential.lives import LIVES, Life
from tests.differential.oracle import KAFKA_SETTLES_S, SETTINGS, common_ranges, player, served_ranges
from tests.differential.session import Step, Tree
from tests.differential.written import dumped_by_kafka, written
from tests.support import peers
from tests.support.brokers import KINDS, Broker


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--oracle", choices=[kind for kind in KINDS if kind != "pylog"], default="kafka39")
    parser.add_argument("--lives", choices=LIVES, default="any", help="what the sessions are about")
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="every difference, also those after the first step of a session that differs",
    )
    options = parser.parse_args()
    why = peers.unavailable(options.oracle)
    if why is not None:
        print(why, file=sys.stderr)
        return 2
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="differential-")))
        settings = {**SETTINGS, **(CONSUMER_SETTINGS if options.lives == "consumers" else {})}
        ours = _started(stack, "pylog", directory, settings)
        theirs = _started(stack, options.oracle, directory, settings)
        print(f"seed {options.seed}, {options.sessions} sessions of {options.lives}, against {options.oracle}")
        run = Run(ours, theirs, LIVES[options.lives], verbose=options.verbose)
        for number in range(options.sessions):
            run.play(number, options.seed * 1_000_003 + number)
        ours.stop()
        theirs.stop()
        if options.oracle == "kafka39":  # whose records ours are
            run.compare_written()
        tracebacks = ours.log.read_text().count("Traceback")
    print(f"{run.compared} of {run.steps} steps compared")
    print(f"{sum(run.found.values())} differences of {len(run.found)} kinds; {tracebacks} tracebacks in our log")
    return 1 if run.found or tracebacks else 0


def _started(stack: ExitStack, kind: str, directory: Path, settings: Mapping[str, str]) -> Broker:
    return stack.enter_context(KINDS[kind](directory / kind, settings)).start()


class Run:
    """Plays sessions to both. `steps`: how many there were; `compared`: of these could be compared."""

    def __init__(self, ours: Broker, theirs: Broker, script: type[Life], *, verbose: bool) -> None:
        self.brokers = ours, theirs
        self.oracle = theirs.kind
        self.script = script
        self.ranges = common_ranges(served_ranges(), theirs.port)
        self.ours, self.theirs = player(ours), player(theirs)
        self.verbose = verbose
        self.found: Counter[tuple[str, str]] = Counter()
        self.steps = self.compared = 0
        self._whole: list[str] = []

    def play(self, number: int, seed: int) -> None:
        """What differs is played again, giving Kafka more time to answer: the machine may be busy."""
        for settle_s in (self.theirs.settle_s, 8 * KAFKA_SETTLES_S):
            prefix = f"s{number}x{int(10 * settle_s)}"
            session = self.script(seed, prefix, self.ranges).build()
            self.theirs.settle_s = settle_s
            second = self.theirs.play(session, prefix)
            first = self.ours.play(session, prefix, second)
            if not any(faults(session, first, second, self.oracle)):
                break
        self.theirs.settle_s = KAFKA_SETTLES_S
        compared = comparable(session, first, second)
        self.steps += len(session)
        self.compared += compared
        if compared == len(session):
            self._whole.append(prefix)
        began = None
        for at, difference in faults(session, first, second, self.oracle):
            began = at if began is None else began
            if at > began and not self.verbose:  # what comes later may follow from it
                break
            self._tell(f"session {prefix} step {at}", difference, session[at], first[at], second[at])

    def compare_written(self) -> None:
        """The records that the sessions left, of those that could be compared to their end."""
        first, second = (dumped_by_kafka(broker.data) for broker in self.brokers)
        for prefix in self._whole:
            ours = written(first, prefix, self.ours.names[prefix])
            theirs = written(second, prefix, self.theirs.names[prefix])
            found = differences({"api": "(records)"}, ours, theirs)
            for difference in [each for each in found if reason(each, self.oracle) is None][
                : None if self.verbose else 1
            ]:
                self._tell(f"records of {prefix}", difference, None, ours, theirs)

    def _tell(self, where: str, difference: Difference, asked: Step | None, ours: Tree, theirs: Tree) -> None:
        kind = (difference.api, difference.path)
        self.found[kind] += 1
        if self.verbose or self.found[kind] <= 2:
            print(f"{where}: {difference}")
            print("   ", json.dumps(asked, default=str)[:1500])
            print("    ours ", json.dumps(ours)[:1500])
            print("    Kafka", json.dumps(theirs)[:1500], flush=True)


if __name__ == "__main__":
    sys.exit(main())
