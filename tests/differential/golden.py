"""Sessions and what Apache Kafka 3.9.1 or 4.3.1 answered to them, kept: one line of JSON per session in a file.

    python -m tests.differential.golden [SORT ...]     capture them anew, or those of some sorts; needs Java

What stays true: a session is kept whole, with the prefix of its names, and needs none of the others.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.differential.compare import comparable
from tests.differential.consumers import CONSUMER_SETTINGS
from tests.differential.lives import LIVES
from tests.differential.oracle import SETTINGS, common_ranges, player, served_ranges
from tests.differential.session import Session, Tree
from tests.differential.written import dumped_by_kafka, written
from tests.support import peers
from tests.support.brokers import KINDS, PylogBroker

FILES = Path(__file__).resolve().parents[1] / "golden" / "differential"
SEED = 20


class Sort(NamedTuple):
    """`count`: how many sessions are kept. `settings`: of the brokers."""

    lives: str
    count: int
    oracle: str = "kafka39"
    settings: Mapping[str, str] = SETTINGS


SESSIONS = {
    "kafka39": Sort("any", 60),
    "groups39": Sort("groups", 20),
    "offsets39": Sort("offsets", 8),
    "transactions39": Sort("transactions", 5),
    "transactions43": Sort("transactions", 6, "kafka4"),
    "consumers43": Sort("consumers", 10, "kafka4", {**SETTINGS, **CONSUMER_SETTINGS}),
}
#: Of these the records of their groups are kept too.
OF_GROUPS = ("groups39", "offsets39", "transactions39")


class Captured(NamedTuple):
    """`records`: what the session's groups left in the log; not kept where it does not matter."""

    prefix: str
    session: Session
    answers: list[Tree]
    records: Tree = None


def load(sort: str) -> list[Captured]:
    with gzip.open(FILES / f"{sort}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [Captured(**json.loads(line)) for line in lines]


def capture(sort: str) -> None:
    """A session with a request that Kafka leaves unanswered, or closes over, is kept too: ours must not crash."""
    lives, count, oracle, settings = SESSIONS[sort]
    kept: list[Captured] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="differential-")))
        broker = stack.enter_context(KINDS[oracle](directory / "kafka", settings)).start()
        ranges = common_ranges(served_ranges(), broker.port)
        kafka = player(broker)
        if lives in ("groups", "consumers"):
            kafka.settle_s *= 4
        for number in range(count):
            prefix = f"s{number}x0"
            session = LIVES[lives](SEED * 1_000_003 + number, prefix, ranges).build()
            kept.append(Captured(prefix, session, kafka.play(session, prefix)))
        if lives == "consumers":
            kept = _until_they_part(stack, directory / "ours", settings, kept)
        if sort in OF_GROUPS:
            broker.stop()
            lines = dumped_by_kafka(broker.data)
            kept = [each._replace(records=written(lines, each.prefix, kafka.names[each.prefix])) for each in kept]
    told = [json.dumps(each._asdict(), separators=(",", ":")) for each in kept]
    path = FILES / f"{sort}.jsonl.gz"
    path.write_bytes(gzip.compress("".join(line + "\n" for line in told).encode(), 9, mtime=0))
    print(f"{len(kept)} sessions, {path.stat().st_size} bytes")


def _until_they_part(
    stack: ExitStack, directory: Path, settings: Mapping[str, str], kept: list[Captured]
) -> list[Captured]:
    """What comes after that cannot be compared, and would be waited for in vain."""
    ours = player(stack.enter_context(PylogBroker(directory, settings)).start())
    counts = [
        comparable(each.session, ours.play(each.session, each.prefix, each.answers), each.answers) for each in kept
    ]
    return [
        each._replace(session=each.session[:count], answers=each.answers[:count])
        for each, count in zip(kept, counts, strict=True)
    ]


def main() -> int:
    for sort in sys.argv[1:] or SESSIONS:
        why = peers.unavailable(SESSIONS[sort].oracle)
        if why is not None:
            print(why, file=sys.stderr)
            return 2
        capture(sort)
    return 0


if __name__ == "__main__":
    sys.exit(main())
