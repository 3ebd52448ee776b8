"""Sessions and what Apache Kafka 3.9.1 answered to them, kept: one line of JSON per session in a compressed file.

    python -m tests.differential.golden     capture them anew; needs Java

What stays true: a session is kept whole, with the prefix of its names, and needs none of the others.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.differential.oracle import SETTINGS, common_ranges, player, served_ranges
from tests.differential.scripts import Script
from tests.differential.session import Session, Tree
from tests.support import peers
from tests.support.brokers import Kafka39Broker

FILE = Path(__file__).resolve().parents[1] / "golden" / "differential" / "kafka39.jsonl.gz"
SEED = 20
SESSIONS = 60


class Captured(NamedTuple):
    prefix: str
    session: Session
    answers: list[Tree]


def load() -> list[Captured]:
    with gzip.open(FILE, "rt", encoding="utf-8") as lines:
        return [Captured(**json.loads(line)) for line in lines]


def capture() -> int:
    """A session with a request that Kafka leaves unanswered, or closes over, is kept too: ours must not crash."""
    why = peers.unavailable("kafka39")
    if why is not None:
        print(why, file=sys.stderr)
        return 2
    lines = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="differential-")))
        broker = stack.enter_context(Kafka39Broker(directory, SETTINGS)).start()
        ranges = common_ranges(served_ranges(), broker.port)
        kafka = player(broker)
        for number in range(SESSIONS):
            prefix = f"s{number}x0"
            session = Script(SEED * 1_000_003 + number, prefix, ranges).build()
            answers = kafka.play(session, prefix)
            lines.append(json.dumps(Captured(prefix, session, answers)._asdict(), separators=(",", ":")))
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_bytes(gzip.compress("".join(line + "\n" for line in lines).encode(), 9, mtime=0))
    print(f"{len(lines)} sessions, {FILE.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(capture())
