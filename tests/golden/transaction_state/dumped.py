"""What transactions leave in `__transaction_state`, as Kafka's dump tool shows it, named alike for all brokers.

    python -m tests.golden.transaction_state.dumped 39|43      capture it anew from Apache Kafka; needs Java

What stays true: 39 is Apache Kafka 3.9.1 with ZooKeeper (transaction version 0), 43 is 4.3.1 (version 2); each dumps
its own log with its own tool. The requests are those of dumped39.txt and dumped43.txt; then the broker starts again,
and all ids expire but the one whose transaction is open. Batches, sizes and positions stay; producer ids are P0, P1, …
in the order of their appearance, clocks and CRCs are left out, and what comes in the order of a hash table is sorted:
tombstones, and the partitions of a topic. A single node of 4.3.1 counts another leader epoch when it starts, ours does
not, so that of 43 is left out.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from tests.golden.transaction_state.make import Kafka, commands
from tests.golden.transaction_state.script import Script
from tests.support import peers
from tests.support.brokers import Broker, Kafka4Broker, Kafka39Broker

HERE = Path(__file__).parent
PEERS = {"39": "kafka39", "43": "kafka4"}
_TOOLS = {"kafka39": "kafka.tools.DumpLogSegments", "kafka4": "org.apache.kafka.tools.DumpLogSegments"}
SETTINGS = {
    "transaction.state.log.num.partitions": "1",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "100",
}
_EXPIRING = {
    "transactional.id.expiration.ms": "1",
    "transaction.remove.expired.transaction.cleanup.interval.ms": "200",
}
_EXPIRED = "gone a b c d e"
_CLOCKS = re.compile(r"(CreateTime: |crc: |[tT]imestamp(?:Ms\":|=))\d+")
_PRODUCER = re.compile(r"(\"?\w*[pP]roducerId\"?: ?)(\d+)")
_PARTITIONS = re.compile(r"(\"partitionIds\":\[)([\d,]+)")
_LEADER_EPOCH = re.compile(r"(partitionLeaderEpoch: )\d+")
_RECORD = re.compile(r"^\| offset: \d+ (.*)$")
_TOMBSTONE = "payload: <DELETE>"


def live(broker: Broker, name: str) -> None:
    """The requests, to a broker that runs and nobody else talks to; it runs at the end, too."""
    kafka = Kafka(broker.port)
    kafka.prepare()
    broker.wait_leaders(["t", "u"])
    script = Script(kafka)
    for command in commands(f"dumped{name}"):
        script.say(command)
    broker.stop()
    broker.settings |= _EXPIRING
    broker.start()
    Script(Kafka(broker.port)).say(_EXPIRED)


def logs(data: Path) -> list[Path]:
    return sorted((data / "__transaction_state-0").glob("*.log"))


def dumped_by_kafka(name: str, data: Path) -> list[str]:
    """The lines that the version's tool prints of the only partition in this data directory."""
    peer = PEERS[name]
    words = ["--transaction-log-decoder", "--files", ",".join(map(str, logs(data)))]
    done = subprocess.run(
        peers.java(peer, _TOOLS[peer], words), capture_output=True, text=True, timeout=110, check=True
    )
    return done.stdout.splitlines()


def told(name: str, lines: Iterable[str]) -> list[str]:
    """Named alike; without the line that says where the file is."""
    names: dict[str, str] = {}

    def in_order(match: re.Match[str]) -> str:
        return match[1] + ",".join(sorted(match[2].split(","), key=int))

    def producer(match: re.Match[str]) -> str:
        return match[1] + names.setdefault(match[2], f"P{len(names)}")

    out: list[str] = []
    kept = (line for line in lines if not line.startswith("Dumping "))
    for is_tombstone, run in groupby(kept, lambda line: line.endswith(_TOMBSTONE)):
        named = [_PARTITIONS.sub(in_order, _PRODUCER.sub(producer, _CLOCKS.sub(r"\1-", line))) for line in run]
        if name == "43":
            named = [_LEADER_EPOCH.sub(r"\1-", line) for line in named]
        out += sorted(_RECORD.sub(r"| \1", line) for line in named) if is_tombstone else named
    return out


def captured(name: str) -> list[str]:
    return (HERE / f"dumped{name}.dump").read_text("utf-8").splitlines()


def main(name: str) -> None:
    kinds = {"39": Kafka39Broker, "43": Kafka4Broker}
    with tempfile.TemporaryDirectory(prefix="transactions-") as directory:
        broker = kinds[name](Path(directory), SETTINGS)
        with broker.start():
            live(broker, name)
            broker.stop()
        lines = told(name, dumped_by_kafka(name, broker.data))
    (HERE / f"dumped{name}.dump").write_text("".join(f"{line}\n" for line in lines), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
