"""Capture what Apache Kafka's cleaner makes of a log: directories before and after, for test_compaction_golden.py.

    python -m tests.golden.compaction.make HOST:PORT DATA_DIR [OUT]

A broker of its own, started with log.cleaner.backoff.ms=200 and otherwise as it comes; DATA_DIR is its log.dirs. Topics
are written while their dirty ratio forbids cleaning, copied, released, and copied again when the cleaner has noted that
it is done. Written with Kafka 3.9.1.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

HERE = Path(__file__).parent
OUT = HERE / "kafka39.tar.gz"
CHECKPOINT = "cleaner-offset-checkpoint"
NEVER, ALWAYS = "1.0", "0.0"

COMMON = {"cleanup.policy": "compact", "segment.bytes": "1500", "index.interval.bytes": "300"}
TOPICS: dict[str, dict[str, str]] = {
    "plain": {"delete.retention.ms": "1"},
    "tombstones": {"delete.retention.ms": "3600000"},
    "gzip": {"compression.type": "gzip", "delete.retention.ms": "1"},
    "snappy": {"compression.type": "snappy"},
    "lz4": {"compression.type": "lz4"},
    "zstd": {"compression.type": "zstd"},
    "appendtime": {"message.timestamp.type": "LogAppendTime", "delete.retention.ms": "1"},
    "transactions": {"delete.retention.ms": "1"},
    "idempotent": {},
    "grouped": {"segment.bytes": "600"},
}
NOW_MS = 1_700_000_000_000


def wait(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    tick = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        tick.wait(0.05)


def batches_of(seed: int, count: int) -> Iterator[list[tuple[bytes, bytes | None, int]]]:
    """`count` batches of some records: (key, value or tombstone, timestamp)."""
    state = seed
    for batch in range(count):
        made = []
        for _ in range(1 + batch % 5):
            state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
            key = b"key %d" % ((state >> 33) % 23)
            value = None if (state >> 50) % 9 == 0 else b"%d " % (state >> 20) * 4
            made.append((key, value, NOW_MS + (state >> 45) % 100_000))
        yield made


class Capture:
    def __init__(self, address: str, data: Path) -> None:
        self.address = address
        self.data = data
        self.admin = AdminClient({"bootstrap.servers": address})
        self.archive: dict[str, bytes] = {}
        self.rounds: list[dict[str, object]] = []

    def producer(self, **settings: object) -> Producer:
        return Producer({"bootstrap.servers": self.address, "linger.ms": 200, "message.timeout.ms": 30_000, **settings})

    def configure(self, topic: str, name: str, value: str) -> None:
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        for future in self.admin.incremental_alter_configs([resource]).values():
            future.result()

    def checkpoint(self) -> dict[str, int]:
        try:
            lines = (self.data / CHECKPOINT).read_text().splitlines()[2:]
        except FileNotFoundError:
            return {}
        return {line.split()[0]: int(line.split()[2]) for line in lines}

    def keep(self, round_name: str, topic: str) -> None:
        directory = self.data / f"{topic}-0"
        for path in sorted(directory.iterdir()):
            if path.suffix in (".log", ".index", ".timeindex", ".txnindex") and not path.name.startswith("."):
                data = path.read_bytes()
                if path.suffix != ".log":
                    data = data.rstrip(b"\0")
                    data += b"\0" * (-len(data) % {".index": 8, ".timeindex": 12, ".txnindex": 34}[path.suffix])
                self.archive[f"{round_name}/{topic}-0/{path.name}"] = data

    def clean(self, topic: str, number: int) -> None:
        """Let the cleaner at it, and keep what was before and after."""
        first_dirty = self.checkpoint().get(topic, 0)
        active = max(int(path.name[:20]) for path in (self.data / f"{topic}-0").glob("*.log"))
        self.keep(f"{number}-before", topic)
        self.configure(topic, "min.cleanable.dirty.ratio", ALWAYS)
        wait(f"{topic} cleaned", lambda: self.checkpoint().get(topic, 0) >= active)
        self.configure(topic, "min.cleanable.dirty.ratio", NEVER)
        self.keep(f"{number}-after", topic)
        settings = COMMON | TOPICS[topic]
        self.rounds.append(
            {
                "topic": topic,
                "round": number,
                "first_dirty": first_dirty,
                "next_dirty": self.checkpoint()[topic],
                "settings": settings,
                "done_ms": time.time_ns() // 1_000_000,
            }
        )

    def write(self, topic: str, seed: int, count: int) -> None:
        if topic == "transactions":
            self.write_transactions(topic, seed, count)
            return
        producer = self.producer(**({"enable.idempotence": True} if topic == "idempotent" else {}))
        for records in batches_of(seed, count):
            for key, value, timestamp in records:
                producer.produce(topic, key=key, value=value, timestamp=timestamp, headers=[("h", b"x"), ("n", None)])
            assert producer.flush(30) == 0

    def write_transactions(self, topic: str, seed: int, count: int) -> None:
        producers = [self.producer(**{"transactional.id": f"tx-{seed}-{i}"}) for i in range(3)]
        for producer in producers:
            producer.init_transactions(30)
        for number, records in enumerate(batches_of(seed, count)):
            producer = producers[number % 3]
            producer.begin_transaction()
            for key, value, timestamp in records:
                producer.produce(topic, key=key, value=value, timestamp=timestamp)
            assert producer.flush(30) == 0
            if number % 4 == 1:
                producer.abort_transaction(30)
            else:
                producer.commit_transaction(30)
        plain = self.producer()
        for records in batches_of(seed + 99, 8):
            for key, value, timestamp in records:
                plain.produce(topic, key=key, value=value, timestamp=timestamp)
            assert plain.flush(30) == 0

    def run(self) -> None:
        new = [
            NewTopic(topic, 1, 1, config=COMMON | {"min.cleanable.dirty.ratio": NEVER} | settings)
            for topic, settings in TOPICS.items()
        ]
        for future in self.admin.create_topics(new).values():
            future.result()
        for number in (1, 2):
            for seed, topic in enumerate(TOPICS):
                self.write(topic, 100 * number + seed, 40 if number == 1 else 25)
                self.clean(topic, number)

    def save(self, out: Path) -> None:
        self.archive["rounds.json"] = json.dumps(self.rounds, indent=1).encode()
        with tarfile.open(out, "w:gz", format=tarfile.USTAR_FORMAT) as tar:
            for name, data in sorted(self.archive.items()):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def main() -> int:
    capture = Capture(sys.argv[1], Path(os.path.abspath(sys.argv[2])))
    capture.run()
    capture.save(Path(sys.argv[3]) if len(sys.argv) > 3 else OUT)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
