"""The rows of the comparison of clusters: three brokers, replication factor 3, both sides on a ZooKeeper of their own.

`target` is how many times better than Kafka we mean to be: Kafka's figure over ours.
"""

from typing import NamedTuple

from bench.macro.rows import MIB

BROKERS = 3
SESSION_MS = 6_000


class ReplicatedRow(NamedTuple):
    """One connection to the leader of one partition: bench/macro/load.c produces with 5 requests under way until
    `volume_bytes` are written; it is over when every follower has them. The figure is the CPU of all three brokers for
    a gigabyte of the producer's, which each of them writes."""

    name: str
    target: float
    acks: int
    record_bytes: int
    batch_bytes: int
    volume_bytes: int = 256 * MIB

    def arguments(self) -> list[str]:
        return [
            "--connections", "1", "--inflight", "5", "--acks", str(self.acks),
            "--record-bytes", str(self.record_bytes), "--batch-bytes", str(self.batch_bytes),
        ]  # fmt: skip


REPLICATED = (
    ReplicatedRow("replicated acks=1 100 B in batches of 16 KB", 4, 1, 100, 16_384),
    ReplicatedRow("replicated acks=all 100 B in batches of 16 KB", 4, -1, 100, 16_384),
    ReplicatedRow("replicated acks=1 1 KB in batches of 64 KB", 4, 1, 1024, 65_536),
    ReplicatedRow("replicated acks=all 1 KB in batches of 64 KB", 4, -1, 1024, 65_536),
)

START = "cluster start to Metadata with all three"
IDLE_MEMORY = "idle memory of three brokers"
IDLE_CPU = "idle CPU of three brokers"
LEADER = "kill -9 of a leader, session's end to first record"
CREATION = "creation of many partitions"
CONTROLLER = "kill -9 of the controller, session's end to leaders"
MANY_MEMORY = "idle memory of three brokers with many partitions"
MANY_CPU = "idle CPU of three brokers with many partitions"

#: Unit and target of the rows that are not loads. Never slower than Kafka: 1.
SINGLE = {
    START: ("ms", 1.0),
    IDLE_MEMORY: ("MB", 4.0),
    IDLE_CPU: ("%", 1.0),
    LEADER: ("ms", 1.0),
    CREATION: ("ms", 1.0),
    CONTROLLER: ("ms", 1.0),
    MANY_MEMORY: ("MB", 1.0),
    MANY_CPU: ("%", 1.0),
}
ALL = [*SINGLE, *(row.name for row in REPLICATED)]
